//! Failed calls in the real program: kept for operators, fetched and repeated by the commands.

use yardarm_testkit::Call;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::folder::Prepared;
use super::manual::{TOKEN, with_token};
use super::put;
use crate::program;
use crate::running::SDK_KEY;

fn gate(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().expect("a component")
}

#[tokio::test]
async fn a_failure_is_fetched_and_repeated_on_another_machine() {
    let prepared = Prepared::new(with_token().set("plugins.capture", "true")).await;
    put(&prepared.plugins, "gate.wasm", gate(guests::TRAP));
    let program = prepared.start().await;
    let answer = program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(answer.status, 503);

    let path = "/api/plugins/gate/captures";
    assert_eq!(Call::get(path).to(program.admin).await.status, 401);
    let answer = Call::get(path).key(&format!("Bearer {TOKEN}")).to(program.admin).await;
    let capture = &answer.json()["captures"][0];
    assert_eq!(
        (&capture["class"], &capture["case"]["request"]["route"]),
        (&"trap".into(), &"server.poll.flags".into())
    );
    assert!(!answer.text().contains(SDK_KEY));

    let (admin, dir) = (program.admin.to_string(), prepared.dir.path());
    let fetched = program::run(dir, &["plugin", "captures", "gate", "--admin", &admin]);
    assert!(fetched.status.success(), "{fetched:?}");
    let (file, component) = (dir.join("failed.jsonl"), dir.join("new.wasm"));
    std::fs::write(&file, &fetched.stdout).expect("a file of captures");
    let [file, target] = [&file, &component].map(|it| it.display().to_string());
    for (fragment, options, code, line) in [
        (guests::TRAP, &[][..], 0, "1 of 1 calls fail in the same way"),
        (guests::ALLOW, &[], 1, "0 of 1 calls fail in the same way"),
        (guests::ALLOW, &["--fixed"], 0, "does not fail"),
    ] {
        std::fs::write(&component, gate(fragment)).expect("a component");
        let arguments = [&["plugin", "replay", &file, &target], options].concat();
        let replayed = program::run(dir, &arguments);
        let text = String::from_utf8_lossy(&replayed.stdout).into_owned();
        assert_eq!(replayed.status.code(), Some(code), "{options:?}: {text} {replayed:?}");
        assert!(text.contains(line), "{text}");
    }
    std::fs::write(&file, "{\"number\": 1}\n").expect("a file");
    let refused = program::run(dir, &["plugin", "replay", &file, &target]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && text.contains("line 1: missing field"), "{text}");
}
