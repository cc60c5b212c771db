//! Opening a folder, the cache of compiled components, checking a file.

use std::os::unix::fs::PermissionsExt;

use yardarm_testkit::guests;

use super::*;
use crate::{Compiler, OperatorFiles, RowState, check_file};

fn allow() -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
}

#[tokio::test]
async fn without_auto_bind_a_dropped_file_does_nothing() {
    let fixture = Fixture::set_up(&[("gate.wasm", &allow())], |settings| settings.auto_bind = false).await;
    assert!(fixture.hooks_of("prod").request_auth.is_none());
    assert_eq!(fixture.plugin("gate").state, RowState::Unbound);
    fixture.swap(|fixture| fixture.put("gate.toml", b"[[bind]]\nhook = \"request-auth\"")).await;
    assert!(fixture.authenticate().await.is_ok());
}

#[tokio::test]
async fn a_folder_may_be_created_later() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || Settings { dir: dir.path().join("plugins.d"), instances: 16, ..Settings::default() };
    let (hooks, lifecycle) = (Hooks::none(), Lifecycle::new());
    let settings = Settings { scan_interval: Duration::from_millis(50), ..settings() };
    let folder = open(settings, None, &hooks, &lifecycle).await;
    folder.loaded().await;
    let mut changed = hooks.changed();
    std::fs::create_dir(dir.path().join("plugins.d")).unwrap();
    place(&dir.path().join("plugins.d"), "gate.wasm", &allow());
    tokio::time::timeout(TEST_TIMEOUT, changed.changed()).await.unwrap().unwrap();
    assert!(hooks.of(&label("prod")).request_auth.is_some());
    lifecycle.token().cancel();
}

#[tokio::test]
async fn a_folder_that_becomes_unsafe_changes_nothing() {
    let fast = |settings: &mut Settings| settings.scan_interval = Duration::from_millis(50);
    let fixture = Fixture::set_up(&[("gate.wasm", &allow())], fast).await;
    mode(fixture.dir.path(), 0o777);
    fixture.put("more.wasm", &Guest::new("more").hook(GuestHook::RequestAuth, guests::FORBID).component().unwrap());
    fixture.shows("the trouble", |status| status.trouble.is_some()).await;
    assert_eq!(fixture.folder.status().trouble.unwrap().code, "L12");
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    fixture.swap(|fixture| mode(fixture.dir.path(), 0o755)).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    fixture.shows("no trouble", |status| status.trouble.is_none()).await;

    let moved = fixture.dir.path().with_extension("moved");
    std::fs::rename(fixture.dir.path(), &moved).unwrap();
    fixture.shows("the folder gone", |status| status.trouble.is_some()).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    std::fs::rename(&moved, fixture.dir.path()).unwrap();
    fixture.shows("the folder back", |status| status.trouble.is_none()).await;

    fixture.put("open.wasm", &allow());
    mode(&fixture.dir.path().join("open.wasm"), 0o666);
    fixture.shows("the open file", |status| status.plugins.iter().any(|plugin| plugin.refused.is_some())).await;
    assert_eq!(fixture.refusal("open").0, "L12");
}

#[tokio::test]
async fn compiled_components_are_kept_and_damaged_ones_are_not_used() {
    let (data, wasm) = (DataDir::open().await, allow());
    let open = async || Fixture::cached(&[("gate.wasm", &wasm)], &data, u64::MAX).await;
    let entries =
        || -> Vec<_> { std::fs::read_dir(data.compiled()).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let before = async |fixture: Fixture| {
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
        fixture.plugin("gate").active.unwrap().compiled_before
    };
    assert!(!before(open().await).await);
    assert_eq!(entries().len(), 1);
    assert!(before(open().await).await);

    let entry = entries().remove(0);
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&entry, &bytes).unwrap();
    assert!(!before(open().await).await, "damaged");
    assert!(before(open().await).await, "made anew");

    let entry = entries().remove(0);
    std::fs::write(&entry, &std::fs::read(&entry).unwrap()[..1_000]).unwrap();
    assert!(!before(open().await).await, "truncated");
}

#[tokio::test]
async fn a_cache_that_others_can_write_to_is_closed_to_them() {
    let data = DataDir::open().await;
    std::fs::create_dir(data.compiled()).unwrap();
    mode(&data.compiled(), 0o777);
    let fixture = Fixture::cached(&[("gate.wasm", &allow())], &data, u64::MAX).await;
    assert!(fixture.authenticate().await.is_ok());
    assert_eq!(std::fs::metadata(data.compiled()).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn a_cache_in_place_of_which_is_a_link_is_not_used() {
    let (data, elsewhere) = (DataDir::open().await, tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(elsewhere.path(), data.compiled()).unwrap();
    let fixture = Fixture::cached(&[("gate.wasm", &allow())], &data, u64::MAX).await;
    assert!(fixture.authenticate().await.is_ok());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn code_from_a_data_folder_of_another_user_is_not_used() {
    let data = DataDir::open().await;
    // Only root may change the owner of a folder.
    if std::os::unix::fs::chown(data.dir.path(), Some(54_321), None).is_err() {
        return;
    }
    let open = async || Fixture::cached(&[("gate.wasm", &allow())], &data, u64::MAX).await;
    for fixture in [open().await, open().await] {
        assert!(fixture.authenticate().await.is_ok());
        assert!(!fixture.plugin("gate").active.unwrap().compiled_before);
    }
    assert!(!data.compiled().exists());
}

#[tokio::test]
async fn a_file_is_checked_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("gate.wasm"), allow()).unwrap();
    std::fs::write(path("gate.toml"), "[[bind]]\nhook = \"request-auth\"\npriority = 7").unwrap();
    std::fs::write(path("bad.toml"), "[[bind]]\nhook = \"request-auth\"\nprioriti = 7").unwrap();
    let bound = |name: &str| OperatorFiles { binding: Some(path(name)), secrets_dir: None };
    let report = check_file(&path("gate.wasm"), &bound("gate.toml"), Compiler::InProcess).unwrap();
    assert_eq!((&*report.name, report.binds[0].priority), ("gate", 7));
    assert_eq!(
        check_file(&path("gate.wasm"), &OperatorFiles::default(), Compiler::InProcess).unwrap().binds[0].priority,
        100
    );
    assert_eq!(check_file(&path("gate.wasm"), &bound("bad.toml"), Compiler::InProcess).unwrap_err().code(), "L07");
    assert_eq!(
        check_file(&path("gate.toml"), &OperatorFiles::default(), Compiler::InProcess).unwrap_err().code(),
        "L01"
    );
}

#[tokio::test]
async fn the_status_can_be_written_as_json_and_holds_no_secret() {
    let toml = b"[plugin]\ngrants = [\"header:authorization\"]\n[plugin.config]\nkey = \"config-canary\"\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("gate.wasm", &allow()), ("gate.toml", toml), ("bad.wasm", b"junk")]).await;
    fixture.authenticate().await.unwrap();
    let status = serde_json::to_value(fixture.folder.status()).unwrap();
    assert_eq!(status["plugins"][1]["active"]["grants"][0], "header:authorization");
    assert_eq!(status["plugins"][0]["refused"]["code"], "L01");
    assert_eq!(status["order"]["request-auth"][0]["name"], "gate");
    let text = status.to_string() + &serde_json::to_string(&fixture.folder.metrics()).unwrap();
    assert!(!text.contains("canary"), "{text}");
}
