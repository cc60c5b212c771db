//! Folders that other users can write to, that cannot be read, or that are removed and created: the gateway continues
//! and reports it.

use std::fs;

use yardarm_testkit::guests;

use super::*;
use crate::{RowState, Trust, check_folder};

const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"";

fn gate(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

fn filter() -> Vec<u8> {
    Guest::new("filter").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap()
}

fn fast(settings: &mut Settings) {
    settings.scan_interval = Duration::from_millis(50);
}

#[tokio::test]
async fn a_world_writable_folder_is_reported_and_loaded_once_corrected() {
    for bits in [0o777, 0o1777, 0o757] {
        let fixture = Fixture::set_up(&[("filter.wasm", &filter())], |settings| {
            fast(settings);
            mode(&settings.dir, bits);
        })
        .await;
        let status = fixture.folder.status();
        let trouble = status.trouble.unwrap();
        assert!(status.ready && trouble.code == "L12" && trouble.text.contains("plugins.trust"), "{}", trouble.text);
        let row = fixture.plugin("filter");
        assert_eq!((row.state, row.refused.unwrap().class), (RowState::Refused, "unsafe-folder"));
        assert!(!row.fails_closed && fixture.hooks_of("prod").event_filter.is_none());
        // The check without a gateway reports the same text.
        let settings = Settings { dir: fixture.dir.path().to_owned(), ..Settings::default() };
        let checked = check_folder(&settings).unwrap();
        assert_eq!(checked.trouble.unwrap().text, trouble.text);
        assert_eq!((checked.plugins.len(), checked.plugins[0].state), (1, RowState::Refused));

        fixture.swap(|fixture| mode(fixture.dir.path(), 0o755)).await;
        fixture.shows("no trouble", |status| status.trouble.is_none()).await;
        let row = fixture.plugin("filter");
        assert!(row.state == RowState::Active && row.refused.is_none());
        let checked = check_folder(&settings).unwrap();
        assert!(checked.trouble.is_none() && checked.plugins[0].state == RowState::Active);
    }
}

#[tokio::test]
async fn any_folder_is_accepted_with_trust_any() {
    let fixture = Fixture::set_up(&[("gate.wasm", &gate(guests::FORBID)), ("gate.toml", REQUIRED)], |settings| {
        settings.trust = Trust::Any;
        mode(&settings.dir, 0o1777);
        mode(&settings.dir.join("gate.wasm"), 0o666);
        mode(&settings.dir.join("gate.toml"), 0o666);
    })
    .await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert!(fixture.folder.status().trouble.is_none() && fixture.plugin("gate").refused.is_none());
}

#[tokio::test]
async fn required_plugins_in_an_untrusted_folder_or_file_fail_closed() {
    for (folder, wasm, toml) in [(0o777, 0o644, 0o644), (0o755, 0o666, 0o644), (0o755, 0o644, 0o666)] {
        let files: [(&str, &[u8]); 2] = [("gate.wasm", &gate(guests::ALLOW)), ("gate.toml", REQUIRED)];
        let fixture = Fixture::set_up(&files, |settings| {
            fast(settings);
            mode(&settings.dir.join("gate.wasm"), wasm);
            mode(&settings.dir.join("gate.toml"), toml);
            mode(&settings.dir, folder);
        })
        .await;
        assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required", "{folder:o} {wasm:o} {toml:o}");
        let row = fixture.plugin("gate");
        assert!(row.fails_closed && row.refused.unwrap().class == "unsafe-folder");
        fixture
            .swap(|fixture| {
                mode(fixture.dir.path(), 0o755);
                mode(&fixture.dir.path().join("gate.wasm"), 0o644);
                mode(&fixture.dir.path().join("gate.toml"), 0o644);
            })
            .await;
        fixture.shows("the gate", |status| status.plugins[0].active.is_some()).await;
        assert!(fixture.authenticate().await.is_ok());
    }
}

#[tokio::test]
async fn a_running_plugin_outlives_everything_that_happens_to_its_folder() {
    let files: [(&str, &[u8]); 2] = [("gate.wasm", &gate(guests::FORBID)), ("gate.toml", REQUIRED)];
    let fixture = Fixture::set_up(&files, fast).await;
    let is_closed = async || matches!(fixture.authenticate().await, Ok(Admission::Denied(_)));
    let (dir, away) = (fixture.dir.path().to_owned(), fixture.dir.path().with_extension("away"));
    let trouble = async |what: &str| fixture.shows(what, |status| status.trouble.is_some()).await;
    let calm = async |what: &str| fixture.shows(what, |status| status.trouble.is_none()).await;

    mode(&dir, 0o777);
    place(&dir, "more.wasm", &Guest::new("more").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap());
    trouble("a folder of all").await;
    fixture.shows("the new one refused", |status| status.plugins.len() == 2).await;
    assert_eq!(fixture.refusal("more").0, "L12");
    assert!(is_closed().await && fixture.plugin("gate").refused.is_none());
    mode(&dir, 0o755);
    calm("a folder of its owner").await;

    fs::rename(&dir, &away).unwrap();
    trouble("no folder").await;
    assert!(is_closed().await);
    fs::write(&dir, "a file").unwrap();
    fixture
        .shows("a file", |status| status.trouble.as_ref().is_some_and(|it| it.text.contains("is not a folder")))
        .await;
    assert!(is_closed().await);
    fs::remove_file(&dir).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &dir, rustix::fs::Mode::RUSR).unwrap();
    fixture.shows("a pipe", |status| status.trouble.is_some()).await;
    fs::remove_file(&dir).unwrap();
    std::os::unix::fs::symlink(&dir, &dir).unwrap();
    fixture
        .shows("a link to itself", |status| status.trouble.as_ref().is_some_and(|it| it.text.contains("link")))
        .await;
    assert!(is_closed().await);
    fs::remove_file(&dir).unwrap();

    // An empty folder in its place, such as the one beneath a mount: required plugins are missing and fail closed.
    fs::create_dir(&dir).unwrap();
    fixture.shows("a hole", |status| status.plugins.iter().any(|it| it.fails_closed)).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    // Events of the new folder arrive, although its inode number may be that of the old one.
    for (name, content) in files {
        fixture.put(name, content);
    }
    fixture.shows("the gate", |status| status.plugins.iter().any(|it| it.file == "gate" && it.active.is_some())).await;
    assert!(is_closed().await);
    fs::remove_dir_all(&away).unwrap();
}

#[tokio::test]
async fn a_path_that_is_not_a_folder_is_reported_and_not_fatal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugins.d");
    fs::write(&path, "a file").unwrap();
    let mut settings = Settings { dir: path.clone(), instances: 16, ..Settings::default() };
    fast(&mut settings);
    let checked = check_folder(&settings).unwrap();
    let (hooks, lifecycle) = (Hooks::none(), Lifecycle::new());
    let folder = open(settings, None, &hooks, &lifecycle).await;
    folder.loaded().await;
    let trouble = folder.status().trouble.unwrap();
    assert_eq!((trouble.class, &trouble.text), ("unusable-folder", &checked.trouble.unwrap().text));
    let mut changed = hooks.changed();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    place(&path, "gate.wasm", &gate(guests::FORBID));
    tokio::time::timeout(TEST_TIMEOUT, changed.changed()).await.unwrap().unwrap();
    assert!(hooks.of(&label("prod")).request_auth.is_some());
    lifecycle.token().cancel();
}
