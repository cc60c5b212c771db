//! Probation: a version that is worse than the one before it is replaced by that one, and does not come back.
//!
//! Acceptance test 4 of the plugin system.

use yardarm_testkit::guests;

use super::*;
use crate::{Impossible, OrderError, PluginAction, RollbackReason, RowState};

pub(super) const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"\nisolation = \"pool\"";

pub(super) fn guest(version: &str, fragment: &str) -> Vec<u8> {
    Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

/// A guest of which every `n`th call of an instance fails, by a trap.
fn failing(version: &str, n: u32) -> Vec<u8> {
    guest(version, &guests::TRAP_SOMETIMES.replace("(i32.const 9999)", &format!("(i32.const {n})")))
}

pub(super) fn version(fixture: &Fixture) -> String {
    fixture.plugin("gate").active.map(|active| active.version).unwrap_or_default()
}

fn rollbacks(fixture: &Fixture) -> Vec<(RollbackReason, u64)> {
    fixture.folder.metrics()[0].rollbacks.clone()
}

/// Opens a folder in which version 2.0.0 has just replaced version 1.0.0.
pub(super) async fn replaced(bad: &[u8], data: Option<&DataDir>) -> Fixture {
    let files: [(&str, &[u8]); 2] = [("gate.toml", REQUIRED), ("gate.wasm", &guest("1.0.0", guests::ALLOW))];
    let fixture = Fixture::with_store(&files, data.map(|data| data.store.clone()), |settings| {
        settings.kept_dir = data.map(|data| data.dir.path().join("versions"));
    })
    .await;
    fixture.swap(|fixture| fixture.put("gate.wasm", bad)).await;
    assert_eq!(version(&fixture), "2.0.0");
    fixture
}

/// Calls until another version runs; returns the number of calls.
async fn calls_until_returned(fixture: &Fixture, most: u32) -> Option<u32> {
    for calls in 0..most {
        if version(fixture) == "1.0.0" {
            return Some(calls);
        }
        let _ = fixture.authenticate().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test]
async fn a_version_that_traps_returns_and_is_not_loaded_again() {
    let bad = guest("2.0.0", guests::TRAP);
    let fixture = replaced(&bad, None).await;
    let probation = fixture.plugin("gate").probation.expect("a probation");
    assert_eq!((&*probation.previous_version, probation.previous_generation), ("1.0.0", 1));
    assert!(probation.remaining_ms <= 60_000 && probation.remaining_calls <= 1_000);
    let pinned = fixture.hooks.pin();
    assert!(calls_until_returned(&fixture, 1_000).await.is_some());
    fixture.shows("the plan", |status| status.generation == 4).await;
    assert!(fixture.authenticate().await.is_ok());
    let in_progress = authenticate(&pinned.environment(&label("prod")), request()).await;
    assert!(in_progress.is_err(), "a request that has pinned the plan keeps it");
    let row = fixture.plugin("gate");
    assert_eq!((row.state, row.probation), (RowState::Active, None));
    let (code, text) = fixture.refusal("gate");
    assert_eq!(code, "S02");
    assert!(text.starts_with("version `2.0.0` was rolled back to `1.0.0`: ") && text.contains("trapped"), "{text}");
    assert_eq!(rollbacks(&fixture), [(RollbackReason::Traps, 1)]);
    // The same content is not tried again, until it is cleared.
    fixture.put("gate.wasm", &bad);
    fixture.put("gate.wasm", &guest("3.0.0", guests::FORBID));
    fixture.shows("the fix", |status| status.plugins[0].refused.is_none()).await;
    assert_eq!(version(&fixture), "3.0.0");
    fixture.put("gate.wasm", &bad);
    fixture.shows("the quarantine", |status| status.plugins[0].refused.is_some()).await;
    assert_eq!((version(&fixture).as_str(), fixture.refusal("gate").0), ("3.0.0", "S02"));
    fixture.folder.order("gate", PluginAction::Clear).await.unwrap();
    fixture.shows("the bad one", |status| status.plugins[0].active.as_ref().unwrap().version == "2.0.0").await;
}

#[tokio::test]
async fn half_a_percent_of_failures_is_kept_and_more_returns() {
    for (every, returns) in [(200, false), (50, true), (10, true)] {
        let fixture = replaced(&failing("2.0.0", every), None).await;
        let returned = calls_until_returned(&fixture, 1_000).await;
        assert_eq!(returned.is_some(), returns, "every {every}th call fails: {returned:?}");
    }
}

#[tokio::test]
async fn what_callers_provoke_is_not_held_against_a_version() {
    let fixture = replaced(&guest("2.0.0", guests::INVALID_INPUT), None).await;
    for _ in 0..50 {
        assert!(fixture.authenticate().await.is_err());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((version(&fixture).as_str(), rollbacks(&fixture)), ("2.0.0", vec![]));
}

#[tokio::test]
async fn a_version_that_has_passed_stays_and_an_operator_can_return() {
    let data = DataDir::open().await;
    let fixture = replaced(&guest("2.0.0", guests::ALLOW), Some(&data)).await;
    for _ in 0..1_000 {
        fixture.authenticate().await.unwrap();
    }
    fixture.shows("the end of the probation", |status| status.plugins[0].probation.is_none()).await;
    assert_eq!(fixture.plugin("gate").previous_version.as_deref(), Some("1.0.0"));
    fixture.folder.order("gate", PluginAction::Rollback).await.unwrap();
    fixture.shows("the old one", |status| status.plugins[0].active.as_ref().unwrap().version == "1.0.0").await;
    assert_eq!(fixture.refusal("gate").0, "S02");
    assert_eq!(rollbacks(&fixture), [(RollbackReason::Operator, 1)]);
    let refused = fixture.folder.order("gate", PluginAction::Rollback).await.unwrap_err();
    assert_eq!(refused, OrderError::Impossible(Impossible::NothingToReturnTo));
}

#[tokio::test]
async fn a_pinned_version_is_replaced_by_nothing() {
    let fixture = replaced(&guest("2.0.0", guests::TRAP), None).await;
    fixture.folder.order("gate", PluginAction::Pin).await.unwrap();
    for _ in 0..20 {
        assert!(fixture.authenticate().await.is_err());
    }
    fixture.put("gate.wasm", &guest("3.0.0", guests::ALLOW));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let row = fixture.plugin("gate");
    assert!(row.pinned && row.probation.is_none() && version(&fixture) == "2.0.0", "{row:?}");
    fixture.folder.order("gate", PluginAction::Unpin).await.unwrap();
    fixture.shows("the new one", |status| status.plugins[0].active.as_ref().unwrap().version == "3.0.0").await;
}

#[tokio::test]
async fn a_version_that_was_rolled_back_does_not_run_after_a_restart() {
    let data = DataDir::open().await;
    let fixture = replaced(&guest("2.0.0", guests::TRAP), Some(&data)).await;
    assert!(calls_until_returned(&fixture, 1_000).await.is_some());
    let fixture = fixture.restart_keeping(Some(data.store.clone()), Some(data.dir.path().join("versions"))).await;
    fixture
        .shows("the good version", |status| {
            status
                .plugins
                .first()
                .is_some_and(|row| row.active.as_ref().is_some_and(|active| active.version == "1.0.0"))
        })
        .await;
    assert!(fixture.authenticate().await.is_ok());
    assert_eq!(fixture.refusal("gate").0, "S02");
    // Without the files of the good version, the bad one does not run either.
    std::fs::remove_dir_all(data.dir.path().join("versions")).unwrap();
    let fixture = fixture.restart_keeping(Some(data.store.clone()), Some(data.dir.path().join("versions"))).await;
    fixture.shows("the quarantine", |status| status.plugins.first().is_some_and(|row| row.refused.is_some())).await;
    let row = fixture.plugin("gate");
    assert_eq!((row.state, row.fails_closed), (RowState::Refused, true));
}

#[tokio::test]
async fn plugins_of_a_set_return_together() {
    let other = |version: &str| {
        Guest::new("other").version(version).hook(GuestHook::EventFilter, guests::KEEP).component().unwrap()
    };
    let set = |files: [(&str, &[u8]); 2]| {
        let line = |(name, content): (&str, &[u8])| {
            format!("\"{name}\" = \"{}\"\n", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content)))
        };
        format!("[files]\n{}", files.map(line).concat())
    };
    let one: [(&str, &[u8]); 2] = [("gate.wasm", &guest("1.0.0", guests::ALLOW)), ("other.wasm", &other("1.0.0"))];
    let fixture = Fixture::with(&[one[0], one[1], ("all.set", set(one).as_bytes())]).await;
    let two: [(&str, &[u8]); 2] = [("gate.wasm", &guest("2.0.0", guests::TRAP)), ("other.wasm", &other("2.0.0"))];
    fixture.put("all.set", set(two).as_bytes());
    two.iter().for_each(|(name, content)| fixture.put(name, content));
    fixture
        .shows("the set", |status| {
            status.plugins.iter().all(|row| row.active.as_ref().is_some_and(|it| it.version == "2.0.0"))
        })
        .await;
    assert!(calls_until_returned(&fixture, 1_000).await.is_some());
    assert_eq!(fixture.plugin("other").active.unwrap().version, "1.0.0");
    assert!(fixture.refusal("other").1.contains("`gate` of the same set was rolled back"));
}
