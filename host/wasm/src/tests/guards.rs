//! Guards: what fails closed while a required plugin does not run, and how a plugin is retired.

use yardarm_testkit::guests;

use super::*;
use crate::{OrderError, PluginAction, RowState, UnknownPlugin};

const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"";
const ALWAYS: &[u8] = b"[[bind]]\nhook = \"request-auth\"\nrequired = \"always\"";
const BROKEN: &[u8] = b"# request-auth\n[[bind]\nhook = \"request-auth\"";

fn gate() -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
}

/// Writes a file that changes nothing, and waits until it has been seen.
async fn pass(fixture: &Fixture) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("pass-{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    fixture.put(&format!("{name}.toml"), b"");
    fixture.shows("a file of no consequence", |status| status.plugins.iter().any(|it| it.file == name)).await;
    fixture.remove(&format!("{name}.toml"));
    fixture.shows("its end", |status| status.plugins.iter().all(|it| it.file != name)).await;
}

impl Fixture {
    fn is_closed(&self) -> bool {
        self.plugin("gate").fails_closed
    }

    fn has_row(&self, file: &str) -> bool {
        self.folder.status().plugins.iter().any(|it| it.file == file)
    }

    fn is_free(&self) -> bool {
        self.hooks_of("prod").request_auth.is_none()
    }
}

#[tokio::test]
async fn a_binding_file_that_cannot_be_parsed_guards_nothing_and_leaves_no_trace() {
    for broken in [BROKEN, b"[[bind]]\nhook = \"request-auth\"\npriorty = 3", b"\xff request-auth"] {
        let fixture = Fixture::with(&[]).await;
        fixture.put("stray.toml", broken);
        fixture.shows("the refusal", |status| status.plugins.iter().any(|it| it.refused.is_some())).await;
        assert_eq!(fixture.refusal("stray").0, "L07");
        assert!(fixture.is_free() && !fixture.plugin("stray").fails_closed);
        fixture.remove("stray.toml");
        fixture.shows("no row", |status| status.plugins.is_empty()).await;
        assert!(fixture.is_free());
        // The same at the start.
        let fixture = Fixture::with(&[("stray.toml", broken), ("stray.wasm", &gate())]).await;
        assert!(fixture.is_free() && fixture.waits_for().is_empty());
    }
}

#[tokio::test]
async fn the_last_good_binding_file_stays_in_force() {
    let data = DataDir::open().await;
    let files: [(&str, &[u8]); 2] = [("gate.wasm", &gate()), ("gate.toml", REQUIRED)];
    let fixture = Fixture::with_store(&files, Some(data.store.clone()), |_| ()).await;
    fixture.put("gate.toml", BROKEN);
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    assert!(fixture.authenticate().await.is_ok(), "what ran goes on");
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    let fixture = fixture.restart(Some(data.store.clone())).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    assert_eq!(fixture.waits_for(), ["required plugin `gate`"]);
    // A corrected file that requires nothing ends it.
    fixture.swap(|fixture| fixture.put("gate.toml", b"[[bind]]\nhook = \"request-auth\"\nrequired = false")).await;
    assert!(fixture.is_free() && fixture.waits_for().is_empty());
}

#[tokio::test]
async fn a_new_required_plugin_changes_nothing_until_it_is_active() {
    let fixture = Fixture::with(&[]).await;
    fixture.put("gate.toml", REQUIRED);
    fixture.shows("the binding", |status| !status.plugins.is_empty()).await;
    let row = fixture.plugin("gate");
    assert_eq!((row.state, row.fails_closed, row.refused), (RowState::Missing, false, None));
    assert!(row.advice.unwrap().contains("`gate.wasm` is not there"));
    fixture.put("gate.wasm", b"junk");
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    assert!(fixture.is_free() && !fixture.is_closed());
    fixture.swap(|fixture| fixture.put("gate.wasm", &gate())).await;
    assert!(fixture.authenticate().await.is_ok());
    // From now on it is established.
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.is_closed() && fixture.authenticate().await.is_err());
    assert!(fixture.plugin("gate").advice.unwrap().contains("retire the plugin with an empty file `gate.retired`"));
}

#[tokio::test]
async fn a_plugin_that_is_always_required_fails_closed_from_its_binding_file_on() {
    let fixture = Fixture::with(&[]).await;
    fixture.swap(|fixture| fixture.put("gate.toml", ALWAYS)).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    fixture.put("gate.toml", BROKEN);
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    assert!(fixture.is_closed(), "the last good one stays in force");
    fixture.swap(|fixture| fixture.remove("gate.toml")).await;
    assert!(fixture.is_free() && !fixture.has_row("gate"), "it has never been active");
}

#[tokio::test]
async fn a_component_waits_for_its_binding_file() {
    let narrow = b"[[bind]]\nhook = \"request-auth\"\nenvironments = [\"test\"]";
    let patient = |settings: &mut Settings| settings.settle_time = Duration::from_secs(600);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings { dir: dir.path().to_owned(), instances: 64, ..Settings::default() };
    patient(&mut settings);
    let (hooks, lifecycle) = (Hooks::none(), Lifecycle::new());
    let folder = open(settings, None, &hooks, &lifecycle).await;
    let fixture = Fixture { dir, hooks, lifecycle, folder };
    fixture.put("gate.wasm", &gate());
    fixture.shows("it waits", |status| status.plugins.iter().any(|it| it.state == RowState::Waiting)).await;
    pass(&fixture).await;
    assert!(fixture.is_free());
    assert!(fixture.plugin("gate").advice.unwrap().contains("waits for `gate.toml`"));
    fixture.swap(|fixture| fixture.put("gate.toml", narrow)).await;
    assert!(fixture.is_free() && fixture.hooks_of("test").request_auth.is_some());
    assert_eq!(fixture.hooks.pin().generation(), 1, "one change");
}

#[tokio::test]
async fn a_binding_file_that_vanishes_does_not_widen_the_bindings() {
    let narrow = b"[[bind]]\nhook = \"request-auth\"\nenvironments = [\"test\"]";
    let fixture = Fixture::with(&[("gate.wasm", &gate()), ("gate.toml", narrow)]).await;
    fixture.remove("gate.toml");
    fixture.shows("the refusal", |status| status.plugins[0].refused.is_some()).await;
    assert_eq!((fixture.refusal("gate").0, fixture.plugin("gate").state), ("L07", RowState::Active));
    assert!(fixture.is_free() && fixture.hooks_of("test").request_auth.is_some());
    fixture.put("gate.toml", narrow);
    fixture.shows("no refusal", |status| status.plugins[0].refused.is_none()).await;
    assert_eq!(fixture.hooks.pin().generation(), 2, "nothing was replaced");
}

#[tokio::test]
async fn a_tombstone_retires_a_plugin_for_good() {
    let data = DataDir::open().await;
    let files: [(&str, &[u8]); 2] = [("gate.wasm", &gate()), ("gate.toml", REQUIRED)];
    let fixture = Fixture::with_store(&files, Some(data.store.clone()), |_| ()).await;
    fixture.remove("gate.toml");
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.authenticate().await.is_err());
    let fixture = fixture.restart(Some(data.store.clone())).await;
    assert!(fixture.authenticate().await.is_err(), "absence is not permission, after a restart too");
    fixture.swap(|fixture| fixture.put("gate.retired", b"")).await;
    assert!(fixture.is_free() && fixture.waits_for().is_empty());
    let row = fixture.plugin("gate");
    assert_eq!((row.state, row.fails_closed), (RowState::Retired, false));
    assert!(row.advice.unwrap().contains("retired by `gate.retired`"));
    let fixture = fixture.restart(Some(data.store.clone())).await;
    assert!(fixture.is_free());
    fixture.shows("the tombstone", |status| !status.plugins.is_empty()).await;
    fixture.remove("gate.retired");
    fixture.shows("no row", |status| status.plugins.is_empty()).await;
    let fixture = fixture.restart(Some(data.store.clone())).await;
    fixture.shows("everything loaded", |status| status.ready).await;
    assert!(fixture.is_free() && !fixture.has_row("gate"), "nothing is left of it");
}

#[tokio::test]
async fn a_tombstone_beside_its_plugin_keeps_it_from_running() {
    let fixture = Fixture::with(&[("gate.wasm", &gate()), ("gate.toml", REQUIRED), ("gate.retired", b"")]).await;
    assert!(fixture.is_free() && fixture.waits_for().is_empty());
    assert_eq!(fixture.plugin("gate").state, RowState::Retired);
    fixture.swap(|fixture| fixture.remove("gate.retired")).await;
    fixture.shows("the plugin", |status| status.plugins[0].state == RowState::Active).await;
    fixture.swap(|fixture| fixture.put("gate.retired", b"")).await;
    assert!(fixture.is_free() && fixture.plugin("gate").active.is_none());
}

#[tokio::test]
async fn an_operator_retires_and_reinstates_a_plugin() {
    let data = DataDir::open().await;
    let files: [(&str, &[u8]); 2] = [("front.wasm", &gate()), ("front.toml", REQUIRED)];
    let fixture = Fixture::with_store(&files, Some(data.store.clone()), |_| ()).await;
    let unknown = UnknownPlugin { name: "other".to_owned() };
    let refused = fixture.folder.order("other", PluginAction::Retire).await;
    assert_eq!(refused.unwrap_err(), OrderError::Unknown(unknown));
    // By the name of the plugin, or that of its file.
    fixture.folder.order("gate", PluginAction::Retire).await.unwrap();
    fixture.shows("the new plan", |_| fixture.is_free()).await;
    assert_eq!(fixture.plugin("front").state, RowState::Retired);
    let fixture = fixture.restart(Some(data.store.clone())).await;
    fixture.shows("everything loaded", |status| status.ready).await;
    assert!(fixture.is_free() && fixture.waits_for().is_empty());
    assert_eq!(fixture.plugin("front").state, RowState::Retired);
    // The files may come and go.
    fixture.remove("front.wasm");
    pass(&fixture).await;
    assert!(fixture.is_free());
    fixture.put("front.wasm", &gate());
    pass(&fixture).await;
    assert_eq!(fixture.plugin("front").state, RowState::Retired);
    fixture.folder.order("front", PluginAction::Reinstate).await.unwrap();
    fixture.shows("the plugin", |status| status.plugins[0].state == RowState::Active).await;
    assert!(fixture.authenticate().await.is_ok());
    let fixture = fixture.restart(Some(data.store.clone())).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required", "it is required again");
    fixture.shows("the plugin", |status| status.plugins[0].state == RowState::Active).await;
    assert!(fixture.waits_for().is_empty());
}

#[tokio::test]
async fn what_was_active_is_forgotten_without_a_store() {
    let fixture = Fixture::with(&[("gate.wasm", &gate()), ("gate.toml", REQUIRED)]).await;
    fixture.remove("gate.toml");
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.authenticate().await.is_err());
    let fixture = fixture.restart(None).await;
    fixture.shows("everything loaded", |status| status.ready).await;
    assert!(fixture.is_free());
}

#[tokio::test]
async fn readiness_waits_for_required_plugins_only() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), "gate.toml", REQUIRED);
    place(dir.path(), "gate.wasm", b"junk");
    let optional = Guest::new("optional").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap();
    place(dir.path(), "optional.wasm", &optional);
    let settings = Settings { dir: dir.path().to_owned(), instances: 64, ..Settings::default() };
    let fixture = Fixture::open(dir, settings, None).await;
    // Before anything is staged.
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    assert_eq!(fixture.waits_for(), ["required plugin `gate`"]);
    fixture.shows("everything loaded or rejected", |status| status.ready).await;
    assert_eq!(fixture.waits_for(), ["required plugin `gate`"], "it was rejected");
    fixture.swap(|fixture| fixture.put("gate.wasm", &gate())).await;
    assert!(fixture.authenticate().await.is_ok() && fixture.waits_for().is_empty());
    // Once ready, what becomes of its files makes the process unready no more.
    fixture.swap(|fixture| fixture.remove("gate.wasm")).await;
    assert!(fixture.authenticate().await.is_err() && fixture.waits_for().is_empty());
}
