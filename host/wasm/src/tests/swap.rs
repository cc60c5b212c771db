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
async fn a_dropped_file_acts_and_a_removed_one_does_not() {
    let house = House::with(&[]).await;
    house.swap(|house| house.put("gate.wasm", &guest(guests::ALLOW))).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    house.swap(|house| house.put("gate.wasm", &guest(guests::FORBID))).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })));
    house.swap(|house| house.remove("gate.wasm")).await;
    assert!(house.hooks_of("prod").request_auth.is_none());
    assert!(house.folder.status().plugins.is_empty());
}

#[tokio::test]
async fn a_pinned_plan_stays_what_it_was() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let pinned = house.hooks.pin();
    house.swap(|house| house.put("gate.wasm", &guest(guests::FORBID))).await;
    let before = authenticate(&pinned.environment(&label("prod")), &request()).await;
    assert!(matches!(before, Ok(Admission::Allowed(_))));
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })));
    assert!(house.hooks.pin().generation() > pinned.generation());
}

#[tokio::test]
async fn an_old_generation_goes_with_its_last_call() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let guest_of = |house: &House| {
        let view = house.folder.view();
        let row = view.rows().first().and_then(|row| row.active.clone()).unwrap();
        Arc::downgrade(&row.guest)
    };
    let old = guest_of(&house);
    let pinned = house.hooks.pin();
    let chain = pinned.environment(&label("prod"));
    house.swap(|house| house.put("gate.wasm", &guest(guests::FORBID))).await;
    house.shows("the new file", |status| status.generation == 2).await;
    assert!(old.upgrade().is_some(), "pinned");
    drop(pinned);
    assert!(authenticate(&chain, &request()).await.is_ok());
    drop(chain);
    house.shows("the old one gone", |_| old.strong_count() == 0).await;
}

#[tokio::test]
async fn a_refused_file_leaves_the_old_one_running() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    house.put("gate.wasm", b"half a file");
    house.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    let row = house.plugin("gate");
    assert_eq!((row.state, house.refusal("gate").0), (RowState::Active, "L01"));
    assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    assert_eq!(house.hooks.pin().generation(), 1, "nothing else changes");
    // The same with an invalid binding file.
    house.put("gate.toml", b"[[bind]]\nhook = \"request-auth\"\nprioritty = 1");
    house.shows("the other refusal", |status| status.plugins[0].refused.as_ref().unwrap().code == "L07").await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    house.remove("gate.toml");
    house.put("gate.wasm", &guest(guests::FORBID));
    house.shows("the new one", |status| status.plugins[0].refused.is_none()).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })));
}

#[tokio::test]
async fn a_required_plugin_that_disappears_closes_the_door() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    assert!(house.authenticate().await.is_ok());
    house.swap(|house| house.remove("gate.wasm")).await;
    let failure = HookFailure { plugin: "gate".into(), class: "missing-required" };
    assert_eq!(house.authenticate().await, Err(failure.clone()));
    assert!(house.plugin("gate").fails_closed);
    // Removing the binding file as well does not make the plugin optional.
    house.remove("gate.toml");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(house.authenticate().await, Err(failure));
    house.swap(|house| house.put("gate.wasm", &guest(guests::ALLOW))).await;
    assert!(house.authenticate().await.is_ok());
}

#[tokio::test]
async fn a_required_plugin_is_retired_by_its_binding_file() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    house.swap(|house| house.remove("gate.wasm")).await;
    assert!(house.authenticate().await.is_err());
    house.swap(|house| house.put("gate.toml", b"[plugin]\nname = \"gate\"")).await;
    assert!(house.hooks_of("prod").request_auth.is_none());
}

#[tokio::test]
async fn both_files_at_once_may_go_without_opening_the_door() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    house
        .swap(|house| {
            house.remove("gate.toml");
            house.remove("gate.wasm");
        })
        .await;
    house.shows("the hole", |status| status.plugins.iter().any(|plugin| plugin.fails_closed)).await;
    assert!(house.authenticate().await.is_err());
}

#[tokio::test]
async fn a_required_plugin_that_never_loaded_closes_the_door() {
    let house = House::with(&[("gate.wasm", b"junk"), ("gate.toml", REQUIRED)]).await;
    assert_eq!(house.authenticate().await.unwrap_err().class, "missing-required");
    let house =
        House::with(&[("gate.wasm", &guest(guests::ALLOW)), ("gate.toml", b"[[bind]]\nhok = \"request-auth\"")]).await;
    assert_eq!(house.authenticate().await.unwrap_err().class, "missing-required");
}

#[tokio::test]
async fn a_changed_binding_file_is_a_new_generation_of_the_same_code() {
    let house = House::with(&[("gate.wasm", &guest(guests::COUNT_HEADERS)), ("gate.toml", REQUIRED)]).await;
    let identity = |house: &House| house.hooks_of("prod").request_auth.as_ref().unwrap().identity();
    let before = identity(&house);
    let limited = |seconds| Ok(Admission::Denied { plugin: "gate".into(), denial: Denial::RateLimited(seconds) });
    assert_eq!(house.authenticate().await, limited(0));
    house
        .swap(|house| {
            house.put("gate.toml", b"[plugin]\ngrants = [\"header:accept\"]\n[[bind]]\nhook = \"request-auth\"");
        })
        .await;
    assert_eq!(house.authenticate().await, limited(1));
    assert_ne!(identity(&house), before);
    let active = house.plugin("gate").active.unwrap();
    assert!(active.compiled_before && active.compile_ms < 5, "{active:?}");
}

#[tokio::test]
async fn identity_changes_with_a_chain_and_not_with_its_neighbours() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let identity = |house: &House| house.hooks_of("prod").request_auth.as_ref().unwrap().identity();
    let before = identity(&house);
    let other = Guest::new("other").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap();
    house.swap(|house| house.put("other.wasm", &other)).await;
    assert_eq!(identity(&house), before);
    house.swap(|house| house.put("gate.wasm", &guest(guests::FORBID))).await;
    assert_ne!(identity(&house), before);
    house.swap(|house| house.put("gate.wasm", &guest(guests::ALLOW))).await;
    assert_eq!(identity(&house), before, "the same plugin in the same place");
}

#[tokio::test]
async fn two_files_with_one_name_do_not_both_load() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    house.put("wall.wasm", &guest(guests::FORBID));
    house.shows("the refusal", |status| status.plugins.iter().any(|plugin| plugin.refused.is_some())).await;
    let (code, text) = house.refusal("wall");
    assert_eq!(code, "L07");
    assert_eq!(text, "`gate.wasm` has the name `gate` already and stays; remove one of the two files");
    assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    house.swap(|house| house.remove("gate.wasm")).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })), "the other one takes over");
}

#[tokio::test]
async fn touching_a_file_changes_nothing() {
    let wasm = guest(guests::ALLOW);
    let house = House::with(&[("gate.wasm", &wasm)]).await;
    house.put("gate.wasm", &wasm);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(house.hooks.pin().generation(), 1);
}

#[tokio::test]
async fn a_file_written_slowly_is_taken_when_it_is_whole() {
    use std::io::Write;
    let wasm = guest(guests::FORBID);
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let path = house.dir.path().join("gate.wasm");
    let mut file = std::fs::File::create(&path).unwrap();
    for part in wasm.chunks(wasm.len() / 8 + 1) {
        file.write_all(part).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    }
    house.swap(|_| drop(file)).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })));
    assert_eq!(house.folder.status().refusals, 0, "no part was taken for the whole");
}

#[tokio::test]
async fn a_link_that_is_turned_round_swaps() {
    let dir = tempfile::tempdir().unwrap();
    for (version, fragment) in [("v1", guests::ALLOW), ("v2", guests::FORBID)] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("gate.wasm"), guest(fragment)).unwrap();
    }
    let house = House::set_up(&[], |settings| settings.scan_interval = Duration::from_millis(100)).await;
    let data = house.dir.path().join("..data");
    let link = |to: &str| {
        let new = house.dir.path().join("..new");
        std::os::unix::fs::symlink(dir.path().join(to), &new).unwrap();
        std::fs::rename(new, &data).unwrap();
    };
    house
        .swap(|house| {
            link("v1");
            std::os::unix::fs::symlink("..data/gate.wasm", house.dir.path().join("gate.wasm")).unwrap();
        })
        .await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Allowed(_))));
    house.swap(|_| link("v2")).await;
    assert!(matches!(house.authenticate().await, Ok(Admission::Denied { .. })));
}

#[tokio::test]
async fn requests_during_swaps_all_succeed() {
    let house = House::with(&[("gate.wasm", &guest(guests::ALLOW))]).await;
    let versions: Vec<Vec<u8>> = (0..2)
        .map(|n| {
            let guest = Guest::new("gate").version(&format!("2.0.{n}"));
            guest.hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
        })
        .collect();
    let mut changed = house.hooks.changed();
    for n in 0..10 {
        house.put("gate.wasm", &versions[n % 2]);
        while !changed.has_changed().unwrap() {
            let answer = house.authenticate().await;
            assert!(matches!(answer, Ok(Admission::Allowed(_))), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        changed.mark_unchanged();
    }
    assert_eq!(house.calls("gate", "ok"), house.folder.metrics()[0].hooks[0].buckets.iter().sum::<u64>());
}
