//! Sets: files that are applied together or not at all.

use sha2::{Digest, Sha256};
use yardarm_testkit::guests;

use super::*;
use crate::{RowState, SetRow, SetState};

const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"";
const FILTER: &[u8] = b"[[bind]]\nhook = \"event-filter\"";

fn gate(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

fn filter(version: &str) -> Vec<u8> {
    Guest::new("filter").version(version).hook(GuestHook::EventFilter, guests::KEEP).component().unwrap()
}

fn set(files: &[(&str, &[u8])]) -> Vec<u8> {
    let line = |(name, content): &(&str, &[u8])| format!("\"{name}\" = \"{}\"\n", hex::encode(Sha256::digest(content)));
    format!("[files]\n{}", files.iter().map(line).collect::<String>()).into_bytes()
}

impl Fixture {
    fn set(&self, file: &str) -> SetRow {
        self.folder.status().sets.into_iter().find(|it| it.file == file).expect("a row for the set")
    }

    async fn shows_set(&self, file: &str, state: SetState) -> SetRow {
        let is_shown = |status: &FolderStatus| status.sets.iter().any(|it| it.file == file && it.state == state);
        self.shows(&format!("{state:?}"), is_shown).await;
        self.set(file)
    }

    fn version(&self, file: &str) -> String {
        self.plugin(file).active.map(|it| it.version).unwrap_or_default()
    }
}

#[tokio::test]
async fn nothing_of_a_set_is_applied_before_all_of_it_is_there() {
    let (gate, filter) = (gate(guests::FORBID), filter("1.0.0"));
    let files: [(&str, &[u8]); 4] =
        [("gate.wasm", &gate), ("gate.toml", REQUIRED), ("filter.wasm", &filter), ("filter.toml", FILTER)];
    let fixture = Fixture::with(&[]).await;
    fixture.put("release.set", &set(&files));
    fixture.shows_set("release", SetState::Waiting).await;
    for (name, content) in &files[..3] {
        fixture.put(name, content);
    }
    let is_reduced = |status: &FolderStatus| {
        status.sets[0].advice.as_deref().is_some_and(|it| it.ends_with("with its SHA-256: `filter.toml`"))
    };
    fixture.shows("one missing file", is_reduced).await;
    assert_eq!((fixture.hooks.pin().generation(), fixture.plugin("gate").state), (0, RowState::Waiting));
    assert!(fixture.plugin("filter").advice.unwrap().contains("`release.set`"));
    fixture.swap(|fixture| fixture.put("filter.toml", FILTER)).await;
    let row = fixture.shows_set("release", SetState::Applied).await;
    assert_eq!((row.plugins, row.refused), (vec!["filter".to_owned(), "gate".to_owned()], None));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert!(fixture.hooks_of("prod").event_filter.is_some());
    assert_eq!(fixture.hooks.pin().generation(), 1, "one swap");
}

#[tokio::test]
async fn a_set_replaces_all_of_its_plugins_or_none() {
    let (gates, filters) = ([gate(guests::ALLOW), gate(guests::FORBID)], [filter("1.0.0"), filter("2.0.0")]);
    let files = |gate: usize, filter: &'static str| -> Vec<(&str, &[u8])> {
        let filter: &[u8] = match filter {
            "junk" => b"junk",
            "old" => &filters[0],
            _ => &filters[1],
        };
        vec![("gate.wasm", &gates[gate]), ("gate.toml", REQUIRED), ("filter.wasm", filter)]
    };
    let put = |fixture: &Fixture, files: &[(&str, &[u8])]| {
        for (name, content) in files {
            fixture.put(name, content);
        }
    };
    let first = files(0, "old");
    let fixture = Fixture::with(&[&first[..], &[("release.set", &set(&first))]].concat()).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    let generation = fixture.hooks.pin().generation();

    // One of two new files is unusable.
    let bad = files(1, "junk");
    put(&fixture, &bad);
    fixture.shows_set("release", SetState::Waiting).await;
    fixture.put("release.set", &set(&bad));
    let row = fixture.shows_set("release", SetState::Refused).await;
    let refusal = row.refused.unwrap();
    assert_eq!(refusal.code, "L01");
    assert!(refusal.text.starts_with("nothing of the set is applied, because of `filter`: "), "{}", refusal.text);
    assert_eq!((fixture.hooks.pin().generation(), fixture.version("filter")), (generation, "1.0.0".to_owned()));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    assert_eq!(fixture.refusal("filter").0, "L01");

    // Both are usable: one swap.
    let good = files(1, "new");
    put(&fixture, &good);
    fixture.swap(|fixture| fixture.put("release.set", &set(&good))).await;
    fixture.shows_set("release", SetState::Applied).await;
    assert_eq!((fixture.hooks.pin().generation(), fixture.version("filter")), (generation + 1, "2.0.0".to_owned()));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert!(fixture.plugin("filter").refused.is_none());

    // A file that differs from the set is not applied, until the set is gone.
    fixture.put("gate.wasm", &gates[0]);
    let row = fixture.shows_set("release", SetState::Waiting).await;
    assert!(row.advice.unwrap().ends_with("`gate.wasm`"));
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    fixture.swap(|fixture| fixture.remove("release.set")).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    assert!(fixture.folder.status().sets.is_empty());
}

#[tokio::test]
async fn a_set_that_cannot_be_read_keeps_the_last_good_one() {
    let gates = [gate(guests::ALLOW), gate(guests::FORBID)];
    let files: [(&str, &[u8]); 2] = [("gate.wasm", &gates[0]), ("gate.toml", REQUIRED)];
    let fixture = Fixture::with(&[&files[..], &[("release.set", &set(&files))]].concat()).await;
    fixture.put("release.set", b"[files");
    let row = fixture.shows_set("release", SetState::Refused).await;
    let refusal = row.refused.unwrap();
    assert!(refusal.code == "L07" && refusal.text.starts_with("`release.set` cannot be used: line 1"), "{refusal:?}");
    fixture.put("gate.wasm", &gates[1]);
    fixture.shows_set("release", SetState::Waiting).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
    // Another set cannot have the same plugin.
    fixture.put("second.set", &set(&[("gate.wasm", &gates[1])]));
    let row = fixture.shows_set("second", SetState::Refused).await;
    assert!(row.refused.unwrap().text.contains("`gate` is in `release.set` already"));
}

#[tokio::test]
async fn a_set_can_retire_and_unbind_its_plugins() {
    let gate = gate(guests::FORBID);
    let files: [(&str, &[u8]); 2] = [("gate.wasm", &gate), ("gate.toml", REQUIRED)];
    let fixture = Fixture::with(&[&files[..], &[("release.set", &set(&files))]].concat()).await;
    fixture.swap(|fixture| fixture.put("gate.retired", b"")).await;
    assert!(fixture.hooks_of("prod").request_auth.is_none());
    assert_eq!(fixture.plugin("gate").state, RowState::Retired);
    fixture.swap(|fixture| fixture.remove("gate.retired")).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
}
