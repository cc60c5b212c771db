//! Files are added, changed and removed while hooks are called.

use yardarm_core::hooks::Denial;
use yardarm_testkit::guests;

use super::*;
use crate::RowState;

const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"";

fn guest(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

#[tokio::test]
async fn a_new_file_is_loaded_and_a_removed_one_unloaded() {
    let fixture = Fixture::with(&[]).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::ALLOW))).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::FORBID))).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.hooks_of("prod").request_auth.is_none());
    assert!(fixture.folder.status().plugins.is_empty());
}

#[tokio::test]
async fn a_pinned_plan_does_not_change() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let pinned = fixture.hooks.pin();
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::FORBID))).await;
    let before = authenticate(&pinned.environment(&label("prod")), request()).await;
    assert!(matches!(before, Ok(Admission::Allowed { .. })));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert!(fixture.hooks.pin().generation() > pinned.generation());
}

#[tokio::test]
async fn an_old_generation_is_dropped_with_its_last_call_and_the_probation() {
    let wasm = guest(guests::ALLOW);
    let probation = Duration::from_millis(500);
    let fixture = Fixture::set_up(&[("gate.wasm", &wasm)], |settings| settings.probation = probation).await;
    let guest_of = |fixture: &Fixture| {
        let view = fixture.folder.view();
        let row = view.rows().first().and_then(|row| row.active.clone()).unwrap();
        Arc::downgrade(&row.guest)
    };
    let old = guest_of(&fixture);
    let pinned = fixture.hooks.pin();
    let chain = pinned.environment(&label("prod"));
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::FORBID))).await;
    fixture.shows("the new file", |status| status.generation == 2).await;
    assert!(old.upgrade().is_some(), "pinned");
    drop(pinned);
    assert!(authenticate(&chain, request()).await.is_ok());
    drop(chain);
    fixture.shows("the old one gone", |_| old.strong_count() == 0).await;
}

#[tokio::test]
async fn a_refused_file_leaves_the_old_one_running() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    fixture.put("gate.wasm", b"half a file");
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    let row = fixture.plugin("gate");
    assert_eq!((row.state, fixture.refusal("gate").0), (RowState::Active, "L01"));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    assert_eq!(fixture.hooks.pin().generation(), 1, "nothing else changes");
    // The same with an invalid binding file.
    fixture.put("gate.toml", b"[[bind]]\nhook = \"request-auth\"\nprioritty = 1");
    fixture.shows("the other refusal", |status| status.plugins[0].refused.as_ref().unwrap().code == "L07").await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    fixture.remove("gate.toml");
    fixture.put("gate.wasm", &guest(guests::FORBID));
    fixture.shows("the new one", |status| status.plugins[0].refused.is_none()).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
}

#[tokio::test]
async fn a_required_plugin_that_is_removed_fails_closed() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    assert!(fixture.authenticate().await.is_ok());
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    let failure = HookFailure { plugin: "gate".into(), class: "missing-required" };
    assert_eq!(fixture.authenticate().await, Err(failure.clone()));
    assert!(fixture.plugin("gate").fails_closed);
    // Removing the binding file as well does not make the plugin optional.
    fixture.remove("gate.toml");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.authenticate().await, Err(failure.clone()));
    // Nor is the component bound to everything without its binding file.
    fixture.put("gate.wasm", &guest(guests::ALLOW));
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    assert_eq!(fixture.authenticate().await, Err(failure));
    let expected = "`gate.toml` is missing, which made the plugin required; restore it, or retire the plugin with an empty \
                    file `gate.retired`";
    assert_eq!(fixture.refusal("gate"), ("L07", expected.to_owned()));
    fixture.swap(|fixture| fixture.put("gate.toml", REQUIRED)).await;
    assert!(fixture.authenticate().await.is_ok());
}

#[tokio::test]
async fn a_required_plugin_is_retired_by_its_binding_file() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.authenticate().await.is_err());
    fixture.swap(|fixture| fixture.put("gate.toml", b"[plugin]\nname = \"gate\"")).await;
    assert!(fixture.hooks_of("prod").request_auth.is_none());
}

#[tokio::test]
async fn removing_both_files_at_once_still_fails_closed() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    fixture
        .swap(|fixture| {
            fixture.remove("gate.toml");
            fixture.remove("gate.wasm");
        })
        .await;
    fixture.shows("the hole", |status| status.plugins.iter().any(|plugin| plugin.fails_closed)).await;
    assert!(fixture.authenticate().await.is_err());
}

#[tokio::test]
async fn a_required_plugin_that_never_loaded_fails_closed() {
    let fixture = Fixture::with(&[("gate.wasm", b"junk"), ("gate.toml", REQUIRED)]).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
}

#[tokio::test]
async fn a_changed_binding_file_is_a_new_generation_of_the_same_code() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::COUNT_HEADERS)), ("gate.toml", REQUIRED)]).await;
    let identity = |fixture: &Fixture| fixture.hooks_of("prod").request_auth.as_ref().unwrap().identity();
    let before = identity(&fixture);
    let limited = |seconds| {
        Ok(Admission::Denied(Denial {
            retry_after: (seconds > 0).then_some(seconds),
            ..Denial::new("gate".into(), DenialClass::RateLimited)
        }))
    };
    assert_eq!(fixture.authenticate().await, limited(0));
    fixture
        .swap(|fixture| {
            fixture.put("gate.toml", b"[plugin]\ngrants = [\"header:accept\"]\n[[bind]]\nhook = \"request-auth\"");
        })
        .await;
    assert_eq!(fixture.authenticate().await, limited(1));
    assert_ne!(identity(&fixture), before);
    let active = fixture.plugin("gate").active.unwrap();
    assert!(active.compiled_before && active.compile_ms < 5, "{active:?}");
}

#[tokio::test]
async fn identity_changes_with_its_own_chain_only() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let identity = |fixture: &Fixture| fixture.hooks_of("prod").request_auth.as_ref().unwrap().identity();
    let before = identity(&fixture);
    let other = Guest::new("other").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap();
    fixture.swap(|fixture| fixture.put("other.wasm", &other)).await;
    assert_eq!(identity(&fixture), before);
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::FORBID))).await;
    assert_ne!(identity(&fixture), before);
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest(guests::ALLOW))).await;
    assert_eq!(identity(&fixture), before, "the same plugin in the same place");
}

#[tokio::test]
async fn two_files_with_one_name_do_not_both_load() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    fixture.put("wall.wasm", &guest(guests::FORBID));
    fixture.shows("the refusal", |status| status.plugins.iter().any(|plugin| plugin.refused.is_some())).await;
    let (code, text) = fixture.refusal("wall");
    assert_eq!(code, "L07");
    assert_eq!(text, "`gate.wasm` has the name `gate` already and stays; remove one of the two files");
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    fixture.remove("gate.wasm");
    fixture.shows("the other one", |status| status.plugins.len() == 1 && status.plugins[0].active.is_some()).await;
    fixture.shows("its plan", |_| fixture.order("request-auth") == ["gate"]).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))), "the other one takes over");
}

#[tokio::test]
async fn touching_a_file_changes_nothing() {
    let wasm = guest(guests::ALLOW);
    let fixture = Fixture::with(&[("gate.wasm", &wasm)]).await;
    fixture.put("gate.wasm", &wasm);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.hooks.pin().generation(), 1);
}

#[tokio::test]
async fn a_slowly_written_file_is_loaded_when_complete() {
    use std::io::Write;
    let wasm = guest(guests::FORBID);
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let path = fixture.dir.path().join("gate.wasm");
    let mut file = std::fs::File::create(&path).unwrap();
    for part in wasm.chunks(wasm.len() / 8 + 1) {
        file.write_all(part).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    }
    fixture.swap(|_| drop(file)).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert_eq!(fixture.folder.status().refusals, 0, "no part was taken for the whole");
}

#[tokio::test]
async fn a_redirected_link_swaps_the_plugin() {
    let dir = tempfile::tempdir().unwrap();
    for (version, fragment) in [("v1", guests::ALLOW), ("v2", guests::FORBID)] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("gate.wasm"), guest(fragment)).unwrap();
    }
    let fixture = Fixture::set_up(&[], |settings| settings.scan_interval = Duration::from_millis(100)).await;
    let data = fixture.dir.path().join("..data");
    let link = |to: &str| {
        let new = fixture.dir.path().join("..new");
        std::os::unix::fs::symlink(dir.path().join(to), &new).unwrap();
        std::fs::rename(new, &data).unwrap();
    };
    fixture
        .swap(|fixture| {
            link("v1");
            std::os::unix::fs::symlink("..data/gate.wasm", fixture.dir.path().join("gate.wasm")).unwrap();
        })
        .await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    fixture.swap(|_| link("v2")).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
}

#[tokio::test]
async fn requests_during_swaps_all_succeed() {
    let fixture = Fixture::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let versions: Vec<Vec<u8>> = (0..2)
        .map(|n| {
            let guest = Guest::new("gate").version(&format!("2.0.{n}"));
            guest.hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
        })
        .collect();
    let mut changed = fixture.hooks.changed();
    for n in 0..10 {
        fixture.put("gate.wasm", &versions[n % 2]);
        while !changed.has_changed().unwrap() {
            let answer = fixture.authenticate().await;
            assert!(matches!(answer, Ok(Admission::Allowed { .. })), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        changed.mark_unchanged();
    }
    assert_eq!(fixture.calls("gate", "allow"), fixture.folder.metrics()[0].hooks[0].buckets.iter().sum::<u64>());
}
