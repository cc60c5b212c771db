//! Plugins are staged side by side: a slow one delays no other.

use yardarm_testkit::guests;

use super::*;
use crate::RowState;

fn gate(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

/// A plugin whose `init` takes longer than the tests.
fn slow(name: &str) -> Vec<u8> {
    let guest = Guest::new(name).init("(loop $forever (br $forever)) (unreachable)");
    guest.hook(GuestHook::EventFilter, guests::KEEP).component().unwrap()
}

#[tokio::test]
async fn a_plugin_overtakes_one_that_takes_long() {
    let fixture = Fixture::with(&[]).await;
    fixture.put("slow.wasm", &slow("slow"));
    let is_staging = |status: &FolderStatus| status.plugins.iter().any(|it| it.state == RowState::Staging);
    fixture.shows("the slow one", is_staging).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &gate(guests::ALLOW))).await;
    assert!(fixture.authenticate().await.is_ok());
    let since = fixture.plugin("gate").since_ms;
    fixture.shows("the end of the slow one", |status| status.plugins.iter().any(|it| it.refused.is_some())).await;
    let refused = fixture.plugin("slow").refused.unwrap();
    assert!(refused.class == "init-timeout" && since < refused.since_ms, "{since} {refused:?}");
}

#[tokio::test]
async fn newer_files_supersede_a_staging() {
    let fixture = Fixture::with(&[]).await;
    fixture.put("gate.wasm", &slow("gate"));
    fixture.shows("the slow one", |status| status.plugins.iter().any(|it| it.state == RowState::Staging)).await;
    fixture.swap(|fixture| fixture.put("gate.wasm", &gate(guests::ALLOW))).await;
    assert!(fixture.authenticate().await.is_ok());
    let row = fixture.plugin("gate");
    assert_eq!((row.state, row.staging_since_ms, row.refused), (RowState::Active, None, None));
    // The same if the files are removed meanwhile.
    fixture.put("other.wasm", &slow("other"));
    fixture.shows("the slow one", |status| status.plugins.iter().any(|it| it.file == "other")).await;
    fixture.shows("its staging", |status| status.plugins.iter().any(|it| it.state == RowState::Staging)).await;
    fixture.remove("other.wasm");
    fixture.shows("no row", |status| status.plugins.len() == 1).await;
}

#[tokio::test]
async fn more_plugins_than_places_are_all_loaded() {
    let named = |number: usize| {
        let guest = Guest::new(&format!("filter-{number}")).hook(GuestHook::EventFilter, guests::KEEP);
        (format!("filter-{number}.wasm"), guest.component().unwrap())
    };
    let files: Vec<(String, Vec<u8>)> = (0..20).map(named).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (&**name, &content[..])).collect();
    let fixture = Fixture::with(&files).await;
    let status = fixture.folder.status();
    assert_eq!(status.plugins.iter().filter(|it| it.state == RowState::Active).count(), 20);
    assert_eq!(status.order["event-filter"].len(), 20);
}

#[tokio::test]
async fn the_first_in_order_of_names_keeps_a_name_at_the_start() {
    for _ in 0..3 {
        let files: [(&str, &[u8]); 2] = [("a.wasm", &gate(guests::FORBID)), ("b.wasm", &gate(guests::ALLOW))];
        let data = DataDir::open().await;
        let fixture = Fixture::with_store(&files, Some(data.store.clone()), |_| ()).await;
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
        assert_eq!((fixture.plugin("a").state, fixture.refusal("b").0), (RowState::Active, "L07"));
        // Unless the other one had it before.
        fixture.remove("a.wasm");
        fixture.shows("the other one", |status| status.plugins.len() == 1 && status.plugins[0].active.is_some()).await;
        fixture.put("a.wasm", &gate(guests::FORBID));
        fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
        let fixture = fixture.restart(Some(data.store.clone())).await;
        fixture.shows("everything loaded", |status| status.ready).await;
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Allowed { .. })));
        assert_eq!((fixture.plugin("b").state, fixture.refusal("a").0), (RowState::Active, "L07"));
    }
}
