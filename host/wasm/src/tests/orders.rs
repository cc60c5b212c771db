//! Orders of operators: what each changes, when it is answered, and what outlives the process.

use yardarm_testkit::guests;

use super::rollback::{REQUIRED, guest, replaced, version};
use super::*;
use crate::{Impossible, OrderError, OrderReport, PluginAction, RowState};

async fn order(fixture: &Fixture, action: PluginAction) -> Result<OrderReport, OrderError> {
    fixture.folder.order("gate", action).await
}

async fn refusal(fixture: &Fixture, action: PluginAction) -> Impossible {
    match order(fixture, action).await {
        Err(OrderError::Impossible(reason)) => reason,
        other => panic!("{action}: {other:?}"),
    }
}

/// A version whose start takes as long as it may, and fails then.
fn endless(version: &str) -> Vec<u8> {
    let guest = Guest::new("gate").version(version).init("(loop $x (br $x)) (i32.const 0)");
    guest.hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
}

#[tokio::test]
async fn an_order_is_answered_once_its_plan_is_in_place() {
    let fixture = replaced(&guest("2.0.0", guests::TRAP), None).await;
    let generation = fixture.hooks.pin().generation();
    let report = order(&fixture, PluginAction::Rollback).await.unwrap();
    assert_eq!((version(&fixture).as_str(), fixture.hooks.pin().generation()), ("1.0.0", generation + 1));
    assert!(fixture.authenticate().await.is_ok());
    let row = report.plugin.unwrap();
    assert_eq!((row.active.unwrap().version.as_str(), row.quarantined[0].version.as_str()), ("1.0.0", "2.0.0"));
    // Without a data folder.
    assert!(report.changed && !report.durable && report.text.contains("`data.dir`"), "{}", report.text);
    order(&fixture, PluginAction::Retire).await.unwrap();
    assert!(fixture.hooks_of("prod").request_auth.is_none(), "it is not called any more");
}

#[tokio::test]
async fn a_promoted_version_is_kept_whatever_it_does() {
    let data = DataDir::open().await;
    let fixture = replaced(&guest("2.0.0", guests::TRAP), Some(&data)).await;
    let report = order(&fixture, PluginAction::Promote).await.unwrap();
    assert!(report.changed && report.durable && report.text.contains("`1.0.0`"), "{}", report.text);
    for _ in 0..20 {
        assert!(fixture.authenticate().await.is_err());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let row = fixture.plugin("gate");
    assert!(version(&fixture) == "2.0.0" && row.probation.is_none() && row.quarantined.is_empty(), "{row:?}");
    assert_eq!(refusal(&fixture, PluginAction::Promote).await, Impossible::NotOnProbation);
    // Its predecessor is kept in the data folder.
    assert_eq!(row.previous_version.as_deref(), Some("1.0.0"));
    order(&fixture, PluginAction::Rollback).await.unwrap();
    fixture.shows("the old one", |_| version(&fixture) == "1.0.0").await;
}

#[tokio::test]
async fn the_plugins_of_a_set_are_promoted_together() {
    let other = |version: &str| {
        Guest::new("other").version(version).hook(GuestHook::EventFilter, guests::KEEP).component().unwrap()
    };
    let set = |files: &[(&str, &[u8])]| {
        let digest = |content: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content));
        let lines: String =
            files.iter().map(|(name, content)| format!("\"{name}\" = \"{}\"\n", digest(content))).collect();
        format!("[files]\n{lines}")
    };
    let one: [(&str, &[u8]); 2] = [("gate.wasm", &guest("1.0.0", guests::ALLOW)), ("other.wasm", &other("1.0.0"))];
    let fixture = Fixture::with(&[one[0], one[1], ("all.set", set(&one).as_bytes())]).await;
    let two: [(&str, &[u8]); 2] = [("gate.wasm", &guest("2.0.0", guests::ALLOW)), ("other.wasm", &other("2.0.0"))];
    fixture.put("all.set", set(&two).as_bytes());
    two.iter().for_each(|(name, content)| fixture.put(name, content));
    fixture.shows("the set", |status| status.plugins.iter().all(|row| row.probation.is_some())).await;
    let report = order(&fixture, PluginAction::Promote).await.unwrap();
    assert!(report.text.contains("`all.set`"), "{}", report.text);
    assert!(fixture.plugin("gate").probation.is_none() && fixture.plugin("other").probation.is_none());
}

#[tokio::test]
async fn what_is_not_possible_is_refused_with_advice() {
    let fixture = Fixture::with(&[("gate.wasm", &guest("1.0.0", guests::ALLOW)), ("gate.toml", REQUIRED)]).await;
    assert_eq!(refusal(&fixture, PluginAction::Rollback).await, Impossible::NothingToReturnTo);
    assert_eq!(refusal(&fixture, PluginAction::Promote).await, Impossible::NotOnProbation);
    for action in [PluginAction::Unpin, PluginAction::Reinstate, PluginAction::Clear] {
        assert!(!order(&fixture, action).await.unwrap().changed, "{action}");
    }
    for (action, changes) in [(PluginAction::Pin, true), (PluginAction::Pin, false)] {
        assert_eq!(order(&fixture, action).await.unwrap().changed, changes);
    }
    fixture.swap(|fixture| fixture.put("gate.retired", b"")).await;
    let tombstone = Impossible::Tombstone { stem: "gate".to_owned() };
    for action in [PluginAction::Pin, PluginAction::Rollback, PluginAction::Promote, PluginAction::Reinstate] {
        assert_eq!(refusal(&fixture, action).await, tombstone, "{action}");
    }
    assert!(order(&fixture, PluginAction::Retire).await.unwrap().changed, "also without the file");
    fixture.remove("gate.retired");
    fixture
        .shows("the advice", |status| {
            status.plugins[0].advice.as_deref().is_some_and(|advice| advice.contains("reinstated"))
        })
        .await;
    assert_eq!(refusal(&fixture, PluginAction::Pin).await, Impossible::Retired);
    fixture.remove("gate.wasm");
    order(&fixture, PluginAction::Reinstate).await.unwrap();
    fixture.shows("the binding file alone", |status| status.plugins[0].state == RowState::Missing).await;
    for action in [PluginAction::Pin, PluginAction::Rollback, PluginAction::Promote] {
        assert_eq!(refusal(&fixture, action).await, Impossible::NotRunning, "{action}");
    }
}

#[tokio::test]
async fn a_pin_is_not_overtaken_by_what_is_being_staged_and_outlives_the_process() {
    let data = DataDir::open().await;
    let fixture = replaced(&guest("2.0.0", guests::ALLOW), Some(&data)).await;
    fixture.put("gate.wasm", &endless("3.0.0"));
    fixture.shows("the staging", |status| status.plugins[0].staging_since_ms.is_some()).await;
    let report = order(&fixture, PluginAction::Pin).await.unwrap();
    assert_eq!(fixture.plugin("gate").staging_since_ms, None);
    assert!(report.durable && report.plugin.unwrap().pinned);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(version(&fixture), "2.0.0");
    let versions = Some(data.dir.path().join("versions"));
    let fixture = fixture.restart_keeping(Some(data.store.clone()), versions).await;
    fixture.shows("the pinned one", |status| status.plugins.first().is_some_and(|row| row.active.is_some())).await;
    assert!(version(&fixture) == "2.0.0" && fixture.plugin("gate").pinned);
    fixture.put("gate.wasm", &guest("4.0.0", guests::ALLOW));
    fixture.shows("the advice", |status| status.plugins[0].advice.is_some()).await;
    assert_eq!(version(&fixture), "2.0.0");
    order(&fixture, PluginAction::Unpin).await.unwrap();
    fixture.shows("the newer one", |_| version(&fixture) == "4.0.0").await;
}

#[tokio::test]
async fn a_rollback_waits_for_newer_files_and_returns_if_they_cannot_be_used() {
    let data = DataDir::open().await;
    let fixture = replaced(&guest("2.0.0", guests::ALLOW), Some(&data)).await;
    order(&fixture, PluginAction::Promote).await.unwrap();
    fixture.put("gate.wasm", &endless("3.0.0"));
    fixture.shows("the staging", |status| status.plugins[0].staging_since_ms.is_some()).await;
    let report = order(&fixture, PluginAction::Rollback).await.unwrap();
    assert!(report.text.contains("unless the newer files"), "{}", report.text);
    assert!(!order(&fixture, PluginAction::Rollback).await.unwrap().changed, "it is ordered already");
    fixture.shows("the old one", |_| version(&fixture) == "1.0.0").await;
    assert!(fixture.authenticate().await.is_ok());
    // Newer files that can be used come in place of it.
    fixture.put("gate.wasm", &guest("4.0.0", guests::ALLOW));
    fixture.shows("the fix", |_| version(&fixture) == "4.0.0").await;
}

#[tokio::test]
async fn a_rollback_that_was_ordered_before_a_crash_is_completed() {
    let data = DataDir::open().await;
    let versions = data.dir.path().join("versions");
    let fixture = replaced(&guest("2.0.0", guests::ALLOW), Some(&data)).await;
    order(&fixture, PluginAction::Promote).await.unwrap();
    // The process ends before the old version is loaded.
    assert!(order(&fixture, PluginAction::Rollback).await.unwrap().durable);
    let fixture = fixture.restart_keeping(Some(data.store.clone()), Some(versions)).await;
    fixture.shows("the old one", |_| fixture.has_version("1.0.0")).await;
    assert_eq!(fixture.refusal("gate").0, "S02");
}

impl Fixture {
    fn has_version(&self, version: &str) -> bool {
        let status = self.folder.status();
        status.plugins.iter().any(|row| row.active.as_ref().is_some_and(|active| active.version == version))
    }
}
