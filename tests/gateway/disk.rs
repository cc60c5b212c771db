//! Last good data: what a process had when it was killed is served by the next one, whatever upstream does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly};

use crate::expected::text;
use crate::flags::{data, flag, put, some_data};
use crate::program::{Program, Signal};
use crate::running::{SDK_KEY, Setup};

struct Place {
    cloud: FakeLaunchDarkly,
    dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { cloud: FakeLaunchDarkly::start().await, dir: TempDir::new().expect("a temporary folder") };
        let setup = Setup::new().set("log.format", "json").set("launchdarkly.init_timeout", "1h");
        setup
            .set("data.dir", place.data().to_str().expect("a path in UTF-8"))
            .write(&place.cloud.url(), place.dir.path());
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns the file of the store.
    fn store(&self) -> PathBuf {
        self.data().join("store.redb")
    }

    /// Whether a text is in the file of the store.
    fn is_on_disk(&self, text: &str) -> bool {
        let bytes = std::fs::read(self.store()).unwrap_or_default();
        position(&bytes, text).is_some()
    }

    /// Returns the damaged files that were set aside.
    fn set_aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data()).expect("a folder").map(|it| it.expect("an entry").path());
        entries.filter(|it| it.to_string_lossy().contains("store.redb.damaged-")).collect()
    }

    async fn program(&self) -> Program {
        Program::start(self.dir.path()).await
    }
}

fn position(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|it| it == text.as_bytes())
}

async fn polled(program: &Program) -> Value {
    let answer = program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn random_pause() -> Duration {
    Duration::from_millis(uuid::Uuid::new_v4().as_u64_pair().0 % 450)
}

/// Returns flags that always have the same version, except for one moment between two patches.
fn twins(version: i64) -> Value {
    let big = "b".repeat(20_000);
    let twin = |key: &str| crate::flags::flag_with(key, version, json!({"filler": big}));
    data([twin("left"), twin("right")], [])
}

#[tokio::test]
async fn a_killed_gateway_restarts_with_its_last_data() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &twins(1));
    let mut version = 1;
    let mut known = 0;
    for round in 0..4 {
        place.cloud.comes_back();
        let program = place.program().await;
        let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
        // Data from disk first, if there is any; then upstream's.
        while sdk.receives_event("put").await != put(twins(version)) {}
        if round == 0 {
            yardarm_testkit::until("the first data on disk", || place.is_on_disk("\"left\"")).await;
        }
        let killed_at = tokio::time::Instant::now() + random_pause();
        while tokio::time::Instant::now() < killed_at {
            version += 1;
            place.cloud.puts(SDK_KEY, &twins(version));
            sdk.receives_event("put").await;
        }
        program.signal(Signal::KILL);
        program.ends().await;

        place.cloud.goes_down();
        let program = place.program().await;
        // The first request after the start is served.
        let flags = polled(&program).await;
        let left = flags["left"]["version"].as_i64().expect("a version");
        assert_eq!(flags, twins(left)["flags"], "a whole data set, not a mixture");
        assert!((known..=version).contains(&left), "round {round}: {left} is between {known} and {version}");
        known = left;
        let mut sdk = program.opens("/all", SDK_KEY).await;
        sdk.receives("put", put(twins(left))).await;
        let report = program.operator_gets("/api/environments").await.json();
        assert_eq!(report["environments"][0]["is_stale"], true);
        program.signal(Signal::KILL);
        program.ends().await;
    }
}

/// Returns flags of a megabyte, so that writing them takes a while.
fn large(version: i64) -> Value {
    let filler = format!("{version:04}").repeat(1 << 18);
    data([crate::flags::flag_with("large", version, json!({"filler": filler})), flag("small", version)], [])
}

#[tokio::test]
async fn a_gateway_that_is_killed_during_a_write_loses_nothing() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &large(1));
    let mut version = 1;
    for round in 0..3 {
        place.cloud.comes_back();
        let program = place.program().await;
        let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
        while sdk.receives_event("put").await["data"]["flags"]["small"]["version"] != version {}
        let filler = format!("{version:04}").repeat(100);
        yardarm_testkit::until("this version on disk", || place.is_on_disk(&filler)).await;
        let file = place.store();
        let modified = |file: &Path| std::fs::metadata(file).and_then(|it| it.modified()).ok();
        // The bytes are in the file a moment before the commit that makes them count.
        let mut before = modified(&file);
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let newest = modified(&file);
            if newest == before {
                break;
            }
            before = newest;
        }
        let is_writing = move || modified(&file) != before;
        // Without a pause, because the moment is short, and on another thread than the fake.
        let watch = move || {
            let start = tokio::time::Instant::now();
            while !is_writing() {
                assert!(start.elapsed() < yardarm_testkit::WAIT_TIMEOUT, "nothing is written");
            }
        };
        let settled = version;
        let mut watch = tokio::task::spawn_blocking(watch);
        // On a busy machine, one write may be missed, but not all of them.
        loop {
            version += 1;
            place.cloud.puts(SDK_KEY, &large(version));
            tokio::select! {
                seen = &mut watch => break seen.expect("a write"),
                () = tokio::time::sleep(Duration::from_millis(500)) => (),
            }
        }
        program.signal(Signal::KILL);
        program.ends().await;

        place.cloud.goes_down();
        let program = place.program().await;
        let served = polled(&program).await["small"]["version"].as_i64().expect("a version");
        assert!((settled..=version).contains(&served), "round {round}: {served} is not older than {settled}");
        assert_eq!(polled(&program).await, large(served)["flags"], "round {round}: a whole data set");
        assert!(place.set_aside().is_empty(), "round {round}: what was half-written is no damage");
        program.signal(Signal::KILL);
        program.ends().await;
    }
}

#[tokio::test]
async fn unchanged_data_is_not_written() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    yardarm_testkit::until("data on disk", || place.is_on_disk("\"plain\"")).await;
    let modified = || std::fs::metadata(place.store()).and_then(|it| it.modified()).expect("a file");
    let first = modified();
    // The same data again, as after each reconnect.
    place.cloud.puts(SDK_KEY, &some_data());
    sdk.receives_event("put").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(modified(), first, "nothing new, nothing written");
    place.cloud.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    yardarm_testkit::until("the patch on disk", || modified() != first).await;
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn data_written_before_a_kill_is_not_lost() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    place.cloud.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    place.cloud.deletes(SDK_KEY, "/segments/crew", 9);
    sdk.receives_event("delete").await;
    // An orderly shutdown writes the last change without delay.
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
    for (path, expected) in [(place.store(), 0o600), (place.data(), 0o700)] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, expected, "{}", path.display());
    }

    place.cloud.goes_down();
    let program = place.program().await;
    assert_eq!(polled(&program).await, data([flag("plain", 4)], [])["flags"]);
    let crew = program.answers(&Call::get("/sdk/segments/crew").key(SDK_KEY)).await;
    assert_eq!(crew.status, 404, "deletions are kept too");
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_not_served() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    yardarm_testkit::until("data on disk", || place.is_on_disk("\"plain\"")).await;
    program.signal(Signal::TERM);
    program.ends().await;
    let file = place.store();
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[position(&good, "\"plain\"").expect("a flag")] ^= 1;
    for (number, (what, bytes)) in [
        ("one flipped bit", flipped),
        ("cut off", good[..good.len() / 2].to_vec()),
        ("something else", b"#!/bin/sh\necho hello\n".repeat(100)),
        ("empty", Vec::new()),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(&file, &bytes).unwrap();
        place.cloud.goes_down();
        let program = place.program().await;
        let answer = program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
        text(503, crate::expected::TEXT_E).compare(what, &answer);
        // An empty file is one that was created a moment before a crash.
        if !bytes.is_empty() {
            assert!(program.has_logged("kept data cannot be used"), "{what}: {:#?}", program.log());
            assert!(place.set_aside().iter().any(|it| std::fs::read(it).unwrap() == bytes), "{what} is set aside");
        }
        assert!(place.set_aside().len() <= number + 1, "{what}");
        place.cloud.comes_back();
        let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
        sdk.receives("put", put(some_data())).await;
        program.signal(Signal::TERM);
        assert_eq!(program.ends().await.0.code(), Some(0), "{what}");
        assert!(place.is_on_disk("\"plain\""), "{what}: written anew");
    }
}

#[tokio::test]
async fn data_of_another_key_is_not_served() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    yardarm_testkit::until("data on disk", || place.is_on_disk("\"plain\"")).await;
    program.signal(Signal::TERM);
    program.ends().await;
    place.cloud.goes_down();
    let environment = json!({"name": "main", "sdk_key": "sdk-other"});
    let setup =
        Setup::new().environments([environment]).set("log.format", "json").set("launchdarkly.init_timeout", "1h");
    setup.set("data.dir", place.data().to_str().unwrap()).write(&place.cloud.url(), place.dir.path());
    let program = place.program().await;
    let answer = program.answers(&Call::get("/sdk/flags").key("sdk-other")).await;
    text(503, crate::expected::TEXT_E).compare("another key", &answer);
}

#[tokio::test]
async fn a_full_disk_only_stops_writing() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &twins(1));
    // A limit on file sizes comes closest to a full disk.
    let program = Program::start_through(place.dir.path(), "trap '' XFSZ; ulimit -f 1; exec \"$0\" run").await;
    let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives("put", put(twins(1))).await;
    yardarm_testkit::until("the failure to be logged", || program.has_logged("data could not be kept on disk")).await;
    place.cloud.puts(SDK_KEY, &twins(2));
    sdk.receives("put", put(twins(2))).await;
    assert_eq!(polled(&program).await, twins(2)["flags"]);
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn a_folder_that_disappears_does_not_stop_the_gateway() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    let mut sdk = program.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    yardarm_testkit::until("data on disk", || place.is_on_disk("\"plain\"")).await;
    replace_by_file(&place.data());
    place.cloud.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    yardarm_testkit::until("the failure to be logged", || program.has_logged("data could not be kept on disk")).await;
    place.cloud.patches(SDK_KEY, &flag("plain", 5));
    sdk.receives_event("patch").await;

    // A failed write is repeated once it can succeed, at the latest at shutdown.
    std::fs::remove_file(place.data()).unwrap();
    std::fs::create_dir(place.data()).unwrap();
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
    place.cloud.goes_down();
    let program = place.program().await;
    assert_eq!(polled(&program).await["plain"], flag("plain", 5));
}

fn replace_by_file(dir: &Path) {
    std::fs::remove_dir_all(dir).expect("a folder");
    std::fs::write(dir, "in the way").expect("a folder that can be written");
}

#[tokio::test]
async fn a_folder_that_cannot_be_created_is_an_error_with_its_path() {
    let place = Place::new().await;
    std::fs::write(place.data(), "in the way").unwrap();
    let output = crate::program::run(place.dir.path(), &["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "EX_CANTCREAT: {error}");
    for part in ["`data.dir`", "cannot be used", "to an empty text to persist nothing"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn without_a_folder_a_gateway_serves_where_the_folder_is_not_required() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    std::fs::write(place.data(), "in the way").unwrap();
    let mut command = crate::program::command(place.dir.path());
    command.env("YARDARM_DATA_REQUIRED", "false");
    let program = Program::launch(command).await;
    program.wait_until_ready().await;
    assert!(program.has_logged("nothing is kept on disk, because `data.required` is off"), "{:#?}", program.log());
    polled(&program).await;
    assert_eq!(std::fs::read(place.data()).unwrap(), b"in the way");
}

#[tokio::test]
async fn two_processes_never_share_a_folder() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let first = place.program().await;
    first.wait_until_ready().await;
    let output = {
        let dir = place.dir.path().to_owned();
        tokio::task::spawn_blocking(move || crate::program::run(&dir, &["run"])).await.unwrap()
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "EX_TEMPFAIL: {error}");
    for part in [place.data().to_str().unwrap(), &format!("is in use by process {} on host", first.id()), "`data.dir`"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    // A killed process releases the folder.
    first.signal(Signal::KILL);
    first.ends().await;
    let second = place.program().await;
    second.wait_until_ready().await;
    second.signal(Signal::TERM);
    assert_eq!(second.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn files_of_other_users_neither_prevent_the_start_nor_are_served() {
    let place = Place::new().await;
    place.cloud.puts(SDK_KEY, &some_data());
    let program = place.program().await;
    program.wait_until_ready().await;
    yardarm_testkit::until("data on disk", || place.is_on_disk("\"plain\"")).await;
    program.signal(Signal::TERM);
    program.ends().await;
    let file = place.store();
    let kept = std::fs::read(&file).unwrap();
    let elsewhere = place.dir.path().join("elsewhere");
    std::fs::write(&elsewhere, &kept).unwrap();
    for hurdle in ["pipe", "link"] {
        std::fs::remove_file(&file).unwrap();
        if hurdle == "pipe" {
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        } else {
            std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        }
        std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let program = place.program().await;
        program.wait_until_ready().await;
        assert!(program.has_logged("is not a regular file"), "{hurdle}: {:#?}", program.log());
        yardarm_testkit::until("a file in its place", || file.symlink_metadata().is_ok_and(|it| it.is_file())).await;
        let mode = std::fs::metadata(place.data()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755, "others cannot write to the folder any more");
        program.signal(Signal::TERM);
        program.ends().await;
    }
    assert_eq!(std::fs::read(&elsewhere).unwrap(), kept, "links are not written through");
}
