//! Gradual rollouts: a new version runs in shadow, or for some callers, until it is promoted or is worse.

use yardarm_testkit::guests;

use super::rollback::{guest, version};
use super::*;
use crate::{Impossible, OrderError, PluginAction, RollbackReason, RolloutMode, RolloutStatus};

const KEY: &str = "kv";

/// A binding file that rolls new versions out in this way.
fn binding(rollout: &str) -> Vec<u8> {
    format!("[plugin]\nrollout = {rollout}\ngrants = [\"{KEY}\"]\n[[bind]]\nhook = \"request-auth\"").into_bytes()
}

/// Opens a folder in which version 2.0.0 is being rolled out while version 1.0.0 runs.
async fn begun(rollout: &str, (old, new): (&str, &str), data: Option<&DataDir>) -> Fixture {
    let files: [(&str, &[u8]); 2] = [("gate.toml", &binding(rollout)), ("gate.wasm", &guest("1.0.0", old))];
    let fixture = Fixture::with_store(&files, data.map(|data| data.store.clone()), |settings| {
        settings.kept_dir = data.map(|data| data.dir.path().join("versions"));
    })
    .await;
    assert_eq!(fixture.plugin("gate").rollout.map(|it| it.version), None, "nothing ran before the first version");
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("2.0.0", new))).await;
    assert_eq!(version(&fixture), "1.0.0");
    assert_eq!(rollout_of(&fixture).version, "2.0.0");
    fixture
}

fn rollout_of(fixture: &Fixture) -> RolloutStatus {
    fixture.plugin("gate").rollout.expect("a rollout")
}

async fn order(fixture: &Fixture, action: PluginAction) -> String {
    fixture.folder.order("gate", action).await.unwrap().text
}

/// Returns whether each of a hundred callers is allowed.
async fn callers(fixture: &Fixture) -> Vec<bool> {
    let mut allowed = Vec::new();
    for number in 0..100 {
        let facts = RequestFacts { credential: Some(Secret::new(format!("key-{number}"))), ..request() };
        let admission = authenticate(&fixture.hooks_of("prod"), facts).await.unwrap();
        allowed.push(matches!(admission, Admission::Allowed { .. }));
    }
    allowed
}

#[tokio::test]
async fn a_canary_has_some_callers_who_stay_with_it_until_it_is_promoted() {
    let fixture = begun("{ percent = 30 }", (guests::ALLOW, guests::FORBID), None).await;
    let first = callers(&fixture).await;
    let count = first.iter().filter(|allowed| !**allowed).count();
    assert!((15..=45).contains(&count), "{count} of 100");
    assert_eq!(callers(&fixture).await, first, "callers stay where they are");
    let rollout = rollout_of(&fixture);
    assert_eq!(rollout.mode, RolloutMode::Canary { percent: 30 });
    let calls: u64 = rollout.calls[0].outcomes.iter().map(|(_, count)| count).sum();
    assert_eq!(calls, 2 * count as u64);
    let shares: Vec<_> = fixture.folder.status().order["request-auth"].iter().map(|it| it.percent).collect();
    assert_eq!(shares, [Some(70), Some(30)]);
    let text = order(&fixture, PluginAction::Promote).await;
    assert_eq!(text, "version `2.0.0` replaces `1.0.0`, with the usual probation");
    assert!(callers(&fixture).await.iter().all(|allowed| !allowed));
    let row = fixture.plugin("gate");
    assert!(row.rollout.is_none() && row.probation.is_some_and(|it| it.previous_version == "1.0.0"));
}

#[tokio::test]
async fn a_canary_that_fails_ends_and_is_not_loaded_again() {
    let fixture = begun("{ percent = 50 }", (guests::ALLOW, guests::TRAP), None).await;
    let mut failed = 0;
    for number in 0..2_000 {
        let facts = RequestFacts { credential: Some(Secret::new(format!("key-{number}"))), ..request() };
        failed += usize::from(authenticate(&fixture.hooks_of("prod"), facts).await.is_err());
        if fixture.plugin("gate").rollout.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((3..1_000).contains(&failed), "{failed} calls failed");
    fixture.shows("the old version alone", |status| status.order["request-auth"].len() == 1).await;
    assert!(callers(&fixture).await.iter().all(|allowed| *allowed));
    let (code, text) = fixture.refusal("gate");
    assert!(code == "S02" && text.starts_with("version `2.0.0` was rolled back to `1.0.0`"), "{code} {text}");
    assert_eq!(fixture.folder.metrics()[0].rollbacks, [(RollbackReason::Traps, 1)]);
    // Another binding file makes another version of it.
    fixture.put("gate.toml", &binding("{ percent = 60 }"));
    fixture.shows("the new binding file", |status| status.plugins[0].rollout.is_some()).await;
}

#[tokio::test]
async fn a_version_in_shadow_is_compared_and_has_no_effect() {
    let fixture = begun("\"shadow\"", (guests::COUNT_HITS, guests::COUNT_HITS), None).await;
    for expected in 1..=20 {
        let Admission::Denied(denial) = fixture.authenticate().await.unwrap() else { panic!("not denied") };
        assert_eq!(denial.retry_after, Some(expected), "the shadow counts for itself");
        fixture
            .shows("a comparison", |status| {
                let shadow = status.plugins[0].rollout.as_ref().and_then(|it| it.shadow.as_ref());
                shadow.is_some_and(|it| it.compared == u64::from(expected))
            })
            .await;
    }
    let shadow = rollout_of(&fixture).shadow.unwrap();
    assert_eq!((shadow.compared, shadow.different, shadow.skipped), (20, 0, 0));
    assert_eq!(fixture.calls("gate", "deny"), 20, "calls in shadow are not calls of the plugin");

    fixture.put("gate.wasm", &guest("3.0.0", guests::FORBID));
    fixture
        .shows("the next version", |status| status.plugins[0].rollout.as_ref().is_some_and(|it| it.version == "3.0.0"))
        .await;
    let admission = fixture.authenticate().await.unwrap();
    assert!(matches!(admission, Admission::Denied(denial) if denial.retry_after == Some(21)));
    fixture
        .shows("a difference", |status| {
            let shadow = status.plugins[0].rollout.as_ref().and_then(|it| it.shadow.as_ref());
            shadow.is_some_and(|it| it.different == 1)
        })
        .await;
    let shadow = rollout_of(&fixture).shadow.unwrap();
    assert_eq!(shadow.fields.into_iter().collect::<Vec<_>>(), [("class", 1), ("retry-after", 1)]);
    assert_eq!(shadow.samples[0].differences, ["class", "retry-after"]);
    assert_eq!(shadow.samples[0].environment, "vendor/prod");

    order(&fixture, PluginAction::Promote).await;
    fixture.shows("the promotion", |status| status.plugins[0].active.as_ref().unwrap().version == "3.0.0").await;
    assert!(fixture.plugin("gate").rollout.is_none() && fixture.plugin("gate").probation.is_some());
    assert_eq!(
        fixture.authenticate().await.unwrap(),
        Admission::Denied(Denial::new("gate".into(), DenialClass::Forbidden))
    );
}

#[tokio::test]
async fn failures_in_shadow_cost_callers_nothing() {
    let fixture = begun("\"shadow\"", (guests::ALLOW, guests::SPIN), None).await;
    for _ in 0..50 {
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.shows("the end of the rollout", |status| status.plugins[0].rollout.is_none()).await;
    assert_eq!(fixture.refusal("gate").0, "S02");
    assert_eq!(fixture.calls("gate", "deadline"), 0);
}

#[tokio::test]
async fn an_operator_ends_a_rollout_and_its_files_are_not_tried_again() {
    let fixture = begun("{ percent = 50 }", (guests::ALLOW, guests::FORBID), None).await;
    let text = order(&fixture, PluginAction::Rollback).await;
    assert!(text.starts_with("the rollout of version `2.0.0` is ended, `1.0.0` goes on; "), "{text}");
    assert!(callers(&fixture).await.iter().all(|allowed| *allowed));
    assert_eq!(fixture.refusal("gate").0, "S02");
    let refused = fixture.folder.order("gate", PluginAction::Promote).await.unwrap_err();
    assert_eq!(refused, OrderError::Impossible(Impossible::NotOnProbation));
    fixture.folder.order("gate", PluginAction::Clear).await.unwrap();
    fixture.shows("the same rollout", |status| status.plugins[0].rollout.is_some()).await;
    order(&fixture, PluginAction::Pin).await;
    assert!(fixture.plugin("gate").rollout.is_none(), "a pinned version stays alone");
}

#[tokio::test]
async fn the_files_of_before_end_a_rollout() {
    let fixture = begun("{ percent = 99 }", (guests::ALLOW, guests::FORBID), None).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("1.0.0", guests::ALLOW))).await;
    let row = fixture.plugin("gate");
    assert!(row.rollout.is_none() && row.refused.is_none() && version(&fixture) == "1.0.0");
    assert!(callers(&fixture).await.iter().all(|allowed| *allowed));
}

#[tokio::test]
async fn a_rollout_goes_on_after_a_restart() {
    let data = DataDir::open().await;
    let fixture = begun("{ percent = 50 }", (guests::ALLOW, guests::FORBID), Some(&data)).await;
    let before = callers(&fixture).await;
    let kept = Some(data.dir.path().join("versions"));
    let fixture = fixture.restart_keeping(Some(data.store.clone()), kept.clone()).await;
    fixture.shows("the rollout", |status| status.plugins[0].rollout.is_some()).await;
    assert_eq!((version(&fixture).as_str(), callers(&fixture).await), ("1.0.0", before));
    // Without the files of the version that ran before, the new one has nothing to run beside.
    let fixture = fixture.restart(Some(data.store.clone())).await;
    fixture
        .shows("the new version", |status| {
            status.plugins[0].active.as_ref().is_some_and(|active| active.version == "2.0.0")
        })
        .await;
    // Files that are damaged are like none.
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("3.0.0", guests::ALLOW))).await;
    assert_eq!(rollout_of(&fixture).version, "3.0.0");
    for entry in std::fs::read_dir(kept.as_ref().unwrap()).unwrap() {
        std::fs::write(entry.unwrap().path(), b"damaged").unwrap();
    }
    let fixture = fixture.restart_keeping(Some(data.store.clone()), kept).await;
    fixture
        .shows("the newest version", |status| {
            status.plugins[0].active.as_ref().is_some_and(|active| active.version == "3.0.0")
        })
        .await;
}

#[tokio::test]
async fn a_version_is_promoted_by_itself_if_it_is_not_worse() {
    let fixture = begun("{ percent = 50, promote_after_s = 1 }", (guests::ALLOW, guests::FORBID), None).await;
    assert!(rollout_of(&fixture).promotion_in_ms.is_some_and(|left| left <= 1_000));
    fixture.shows("the promotion", |status| status.plugins[0].active.as_ref().unwrap().version == "2.0.0").await;
    // A version in shadow with other replies waits for an operator.
    let files = binding("{ mode = \"shadow\", promote_after_s = 1 }");
    let fixture = Fixture::with(&[("gate.toml", &files), ("gate.wasm", &guest("1.0.0", guests::ALLOW))]).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("2.0.0", guests::FORBID))).await;
    fixture.authenticate().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(version(&fixture), "1.0.0");
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("3.0.0", guests::ALLOW))).await;
    fixture.authenticate().await.unwrap();
    fixture.shows("the promotion", |status| status.plugins[0].active.as_ref().unwrap().version == "3.0.0").await;
}

#[tokio::test]
async fn whole_environments_get_the_new_data() {
    let component = |version: &str, fragment| {
        Guest::new("gate").version(version).hook(GuestHook::PayloadTransform, fragment).component().unwrap()
    };
    let binding = b"[plugin]\nrollout = { percent = 50 }\n[[bind]]\nhook = \"payload-transform\"";
    let fixture =
        Fixture::with(&[("gate.toml", binding), ("gate.wasm", &component("1.0.0", guests::HIDE_FIRST))]).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &component("2.0.0", guests::ADD_FLAG))).await;
    let mut kinds = [0, 0];
    for environment in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let edits = payload(&fixture.hooks_of(environment)).await.unwrap();
        assert_eq!(edits.len(), 1, "one version and not both");
        kinds[usize::from(matches!(edits[0], PayloadEdit::Add { .. }))] += 1;
    }
    assert!(kinds[0] > 0 && kinds[1] > 0, "{kinds:?}");
}

#[tokio::test]
async fn the_plugins_of_a_set_are_not_rolled_out_gradually() {
    let set = |one: &[u8]| {
        use sha2::{Digest, Sha256};
        format!("[files]\n\"gate.wasm\" = \"{}\"\n", hex::encode(Sha256::digest(one))).into_bytes()
    };
    let (one, two) = (guest("1.0.0", guests::ALLOW), guest("2.0.0", guests::FORBID));
    let files: [(&str, &[u8]); 3] =
        [("gate.toml", &binding("\"shadow\"")), ("gate.wasm", &one), ("both.set", &set(&one))];
    let fixture = Fixture::with(&files).await;
    fixture.put("gate.wasm", &two);
    fixture.put("both.set", &set(&two));
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    let (code, text) = fixture.refusal("gate");
    assert!(code == "L07" && text.contains("the plugins of a set replace others together"), "{text}");
}
