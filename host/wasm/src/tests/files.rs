//! Unusual files in the folder: they do not prevent loading of others, cost little, and are shown with a reason.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use yardarm_testkit::guests;

use super::*;
use crate::{FolderStatus, RowState};

const REQUIRED: &[u8] = b"[[bind]]\nhook = \"request-auth\"";

fn gate(fragment: &str) -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

fn pipe(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

fn sparse(path: &Path) {
    File::create(path).unwrap().set_len(5_700_000_000).unwrap();
}

/// Opens a folder with the content that `fill` has created.
async fn found(fill: impl FnOnce(&Path)) -> Fixture {
    Fixture::set_up(&[], |settings| fill(&settings.dir)).await
}

fn refused(status: &FolderStatus, file: &str) -> bool {
    status.plugins.iter().any(|it| it.file == file && it.refused.is_some())
}

#[tokio::test]
async fn entries_that_are_not_files_do_not_delay_the_start_and_have_a_reason() {
    let fixture = found(|dir| {
        place(dir, "fine.wasm", &gate(guests::ALLOW));
        pipe(&dir.join("pipe.wasm"));
        fs::create_dir(dir.join("folder.wasm")).unwrap();
        symlink("/dev/zero", dir.join("device.wasm")).unwrap();
        symlink("nowhere", dir.join("broken.wasm")).unwrap();
        symlink("loop.wasm", dir.join("loop.wasm")).unwrap();
        symlink("/proc/self/mem", dir.join("memory.wasm")).unwrap();
        fs::write(dir.join(std::ffi::OsStr::from_bytes(b"na\xefve.wasm")), "x").unwrap();
    })
    .await;
    assert!(fixture.folder.is_ready());
    assert_eq!(fixture.plugin("fine").state, RowState::Active);
    for (file, class, text) in [
        ("pipe", "not-a-file", "is a named pipe"),
        ("folder", "not-a-file", "is a folder"),
        ("device", "not-a-file", "is a device"),
        ("broken", "not-a-component", "does not exist"),
        ("loop", "not-a-component", "symbolic link"),
        ("na\u{fffd}ve", "not-a-file", "not valid utf-8"),
    ] {
        let row = fixture.plugin(file);
        let refusal = row.refused.unwrap();
        assert_eq!((row.state, refusal.class), (RowState::Refused, class), "{file}");
        assert!(refusal.text.to_lowercase().contains(text), "{file}: {}", refusal.text);
    }
    assert!(fixture.plugin("memory").refused.is_some());
    // A plugin replaces a pipe.
    let filter = Guest::new("pipe").hook(GuestHook::EventFilter, guests::KEEP).component().unwrap();
    fixture.swap(|fixture| fixture.put("pipe.wasm", &filter)).await;
    assert_eq!(fixture.plugin("pipe").state, RowState::Active);
}

#[tokio::test]
async fn a_component_whose_binding_cannot_be_read_does_not_serve_without_it() {
    for (number, spoil) in [
        (|path: &Path| pipe(path)) as fn(&Path),
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("nowhere", path).unwrap(),
        |path| symlink("/proc/self/mem", path).unwrap(),
        |path| sparse(path),
        |path| fs::write(path, b"\xff").unwrap(),
    ]
    .into_iter()
    .enumerate()
    {
        let fixture = found(|dir| {
            place(dir, "gate.wasm", &gate(guests::FORBID));
            spoil(&dir.join("gate.toml"));
        })
        .await;
        assert!(fixture.hooks_of("prod").request_auth.is_none(), "{number}");
        assert_eq!(fixture.plugin("gate").state, RowState::Refused, "{number}");
    }
    // A running plugin keeps its bindings.
    let narrow = b"[[bind]]\nhook = \"request-auth\"\nenvironments = [\"test\"]";
    let fixture = Fixture::with(&[("gate.wasm", &gate(guests::FORBID)), ("gate.toml", narrow)]).await;
    fixture.remove("gate.toml");
    pipe(&fixture.dir.path().join("gate.toml"));
    fixture.shows("the pipe", |status| refused(status, "gate")).await;
    assert!(fixture.hooks_of("prod").request_auth.is_none() && fixture.hooks_of("test").request_auth.is_some());
    assert_eq!(fixture.plugin("gate").state, RowState::Active);
}

#[tokio::test]
async fn a_file_is_not_read_before_its_size_is_checked() {
    let began = tokio::time::Instant::now();
    let fixture = found(|dir| {
        sparse(&dir.join("huge.wasm"));
        place(dir, "gate.wasm", b"");
        sparse(&dir.join("gate.wasm"));
        place(dir, "gate.toml", REQUIRED);
        place(dir, "bound.wasm", &gate(guests::ALLOW));
        sparse(&dir.join("bound.toml"));
    })
    .await;
    let limit = (32_u64 << 20).to_string();
    for file in ["huge", "gate"] {
        let (code, text) = fixture.refusal(file);
        assert!(code == "L02" && text.contains("5700000000") && text.contains(&limit), "{code} {text}");
    }
    assert!(fixture.refusal("bound").1.contains("1048576"));
    // Required bindings fail closed, as always.
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "missing-required");
    // Reading one of the files would take this long.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    fixture.swap(|fixture| fixture.put("gate.wasm", &gate(guests::ALLOW))).await;
    assert!(fixture.authenticate().await.is_ok() && fixture.plugin("gate").refused.is_none());
}

#[tokio::test]
async fn an_unstable_file_does_not_delay_others() {
    let fixture = found(|dir| {
        place(dir, "fine.wasm", &gate(guests::ALLOW));
        // Reports a size of zero, and has different content each time.
        symlink("/proc/uptime", dir.join("restless.toml")).unwrap();
    })
    .await;
    assert!(fixture.folder.is_ready());
    assert_eq!(fixture.plugin("fine").state, RowState::Active);
    assert!(fixture.refusal("restless").1.contains("change all the time"));
}

#[tokio::test]
async fn thousands_of_files_are_bounded_and_displace_nothing() {
    let fixture = Fixture::with(&[("zz-gate.wasm", &gate(guests::FORBID))]).await;
    for number in 0..10_000 {
        fs::write(fixture.dir.path().join(format!("{number:05}.wasm")), "junk").unwrap();
    }
    fixture.shows("too many", |status| status.trouble.as_ref().is_some_and(|it| it.class == "too-many-plugins")).await;
    fixture.shows("the first of them", |status| status.plugins.len() == 1_000).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    for number in 0..10_000 {
        fs::remove_file(fixture.dir.path().join(format!("{number:05}.wasm"))).unwrap();
    }
    fixture.shows("one", |status| status.plugins.len() == 1 && status.trouble.is_none()).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
}

#[tokio::test]
async fn an_obstacle_may_disappear_without_a_change_of_the_files() {
    let fixture = Fixture::with(&[("gate.wasm", &gate(guests::ALLOW))]).await;
    let (path, away) = (fixture.dir.path().join("gate.wasm"), fixture.dir.path().join("gate.away"));
    fs::rename(&path, &away).unwrap();
    symlink("nowhere", &path).unwrap();
    fixture.shows("the broken link", |status| refused(status, "gate")).await;
    assert_eq!(fixture.plugin("gate").state, RowState::Active, "what ran goes on");
    fs::rename(&away, &path).unwrap();
    fixture.shows("nothing in the way", |status| !refused(status, "gate")).await;

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    fixture.shows("a file of all", |status| refused(status, "gate")).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fixture.shows("a file of its owner", |status| !refused(status, "gate")).await;
    assert_eq!(fixture.folder.status().generation, 1, "it is the same all the time");
}

#[tokio::test]
async fn a_row_is_removed_with_its_file() {
    let fixture = found(|dir| pipe(&dir.join("pipe.wasm"))).await;
    assert!(fixture.plugin("pipe").refused.is_some());
    fixture.remove("pipe.wasm");
    fixture.shows("no row", |status| status.plugins.is_empty()).await;
}

#[tokio::test]
async fn many_swaps_leave_a_small_cache_with_the_running_plugins() {
    let data = DataDir::open().await;
    let numbered = |number: u32| {
        let name = format!("gate-{number}");
        Guest::new(&name).hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
    };
    // The folder removes entries meanwhile, so one may be gone between its listing and the reading of its size.
    let size = || -> u64 {
        let entries = fs::read_dir(data.compiled()).unwrap();
        entries.filter_map(|entry| entry.unwrap().metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    let mut max_size = u64::MAX;
    let open = async |max_size, wasm: &[u8]| Fixture::cached(&[("gate.wasm", wasm)], &data, max_size).await;
    {
        let fixture = open(max_size, &numbered(0)).await;
        fixture.shows("the first", |status| status.plugins[0].active.is_some()).await;
        max_size = max_size.min(size() * 3);
    }
    {
        let fixture = open(max_size, &numbered(0)).await;
        for number in 1..=12 {
            fixture.swap(|fixture| fixture.put("gate.wasm", &numbered(number))).await;
        }
        let is_last = |status: &FolderStatus| status.plugins[0].name.as_deref() == Some("gate-12");
        fixture.shows("the last", is_last).await;
        fixture.shows("a small cache", |_| size() <= max_size).await;
    }
    let fixture = open(max_size, &numbered(12)).await;
    assert!(fixture.plugin("gate").active.unwrap().compiled_before);
}

#[tokio::test]
async fn a_required_plugin_among_thousands_is_loaded_from_the_start() {
    let fixture = found(|dir| {
        for number in 0..5_000 {
            fs::write(dir.join(format!("{number:05}.wasm")), "junk").unwrap();
            fs::write(dir.join(format!("{number:05}.toml")), "").unwrap();
        }
        place(dir, "zz-gate.wasm", &gate(guests::FORBID));
        place(dir, "zz-gate.toml", REQUIRED);
    })
    .await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
    assert_eq!(fixture.folder.status().trouble.unwrap().class, "too-many-plugins");
}
