//! L176 and L259 to L261: data is read from an archive on disk, and nothing is ever sent to LaunchDarkly.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, within};

use crate::expected::{TEXT_C, empty, json as json_answer, text};
use crate::flags::{by_key, data, flag, put};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

/// The content of an archive: environments with their data.
pub(super) struct Contents(Vec<(Value, Value)>);

/// A folder that contains an archive.
pub(super) struct Folder(TempDir);

/// Returns one environment with the usual credentials and some data.
fn environment(data_id: &str, version: i64, properties: Value) -> Value {
    let mut environment = json!({
        "envID": ENV_ID, "envKey": "production", "envName": "Production", "projKey": "p", "projName": "P",
        "sdkKey": {"value": SDK_KEY}, "mobKey": MOBILE_KEY, "version": version,
    });
    for (name, value) in properties.as_object().expect("an object") {
        environment[name] = value.clone();
    }
    json!({"env": environment, "dataId": data_id})
}

pub(super) fn contents(data_id: &str, version: i64, flag_version: i64) -> Contents {
    Contents(vec![(environment(data_id, version, json!({})), data([flag("plain", flag_version)], []))])
}

/// Returns a gateway that serves this data from a folder.
pub(super) fn archived(data: Value) -> (Folder, Setup) {
    let folder = Folder::with(&Contents(vec![(environment("d1", 1, json!({})), data)]));
    let setup = folder.setup();
    (folder, setup)
}

impl Contents {
    fn archive(&self) -> Vec<u8> {
        let mut files = BTreeMap::new();
        for (description, data) in &self.0 {
            let id = description["env"]["envID"].as_str().expect("an ID");
            files.insert(format!("{id}.json"), description.to_string().into_bytes());
            files.insert(format!("{id}-data.json"), data.to_string().into_bytes());
        }
        let mut hash = Md5::new();
        files.values().for_each(|content| hash.update(content));
        files.insert("checksum.md5".to_owned(), hash.finalize().to_vec());
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, &content[..]).expect("a buffer takes every write");
        }
        builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("a buffer takes every write")
    }
}

/// Writes an archive without environments.
pub(crate) fn write_empty_archive(file: &Path) {
    std::fs::write(file, Contents(Vec::new()).archive()).expect("a folder that can be written");
}

impl Folder {
    pub(super) fn with(contents: &Contents) -> Self {
        let folder = Self(TempDir::new().expect("a folder"));
        folder.replace(contents);
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("archive.tar.gz")
    }

    /// Replaces the archive by a rename, as recommended.
    pub(super) fn replace(&self, contents: &Contents) {
        let part = self.0.path().join("archive.part");
        std::fs::write(&part, contents.archive()).expect("a file");
        std::fs::rename(part, self.file()).expect("a file");
    }

    pub(super) fn setup(&self) -> Setup {
        Setup::new()
            .environments([])
            .set("launchdarkly.offline.file", path(&self.file()))
            .set("launchdarkly.offline.monitoring_interval", "100ms")
            .set("launchdarkly.expired_credential_cleanup_interval", "100ms")
    }
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path of text")
}

fn poll() -> Call {
    Call::get("/sdk/flags").key(SDK_KEY)
}

#[tokio::test]
async fn every_family_is_served_from_the_archive_and_nothing_is_sent() {
    let folder = Folder::with(&contents("d1", 1, 3));
    let gateway = folder.setup().events().start().await;
    let flags = by_key([flag("plain", 3)]);
    gateway.opens("/all", SDK_KEY).await.receives("put", put(data([flag("plain", 3)], []))).await; // L259
    gateway.opens("/mping", MOBILE_KEY).await.receives_ping().await;
    gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await.receives_ping().await;
    assert_eq!(gateway.answers(&poll()).await.json(), flags, "L259");
    let evaluated = json!({"plain": {"value": true, "variation": 0, "version": 3}});
    for call in [
        Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(SDK_KEY),
        Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")),
    ] {
        assert_eq!(gateway.answers(&call).await.json(), evaluated, "L259: {call}");
    }
    let status = gateway.status().await;
    assert_eq!(status["status"], "healthy", "L257, L259");
    assert_eq!(status["environments"][ENV_ID]["connectionStatus"]["state"], "VALID", "L257, L259");
    assert_eq!(status["environments"][ENV_ID]["projName"], "P", "L257, L259");

    for (row, call, expected) in [
        ("L260", Call::post("/bulk", r#"[{"kind":"x"}]"#).key(SDK_KEY), empty(202)),
        ("L260", Call::post("/bulk", "").key(SDK_KEY), empty(202)),
        ("L260", Call::post("/mobile", "[]").key(MOBILE_KEY), empty(202)),
        ("L260", Call::post("/diagnostic", "{}").key(SDK_KEY), empty(202)),
        ("L022", Call::post("/bulk", "[]").key("sdk-unknown"), text(401, TEXT_C)),
        (
            "L194, L260",
            Call::post("/bulk", "no gzip at all").key(SDK_KEY).header("Content-Encoding", "gzip"),
            text(400, "gzip: invalid header\n").with("x-content-type-options: nosniff"),
        ),
        (
            "L213",
            Call::get(format!("/a/{ENV_ID}.gif?d=W10%3D")),
            text(503, r#"{"message":"Event proxy is not enabled for this environment"}"#).cors("*", "GET,OPTIONS"),
        ),
        ("L176", Call::get(format!("/sdk/goals/{ENV_ID}")), json_answer(200, json!([])).cors("*", "GET,OPTIONS")),
    ] {
        gateway.answers_as(row, call, expected).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await; // which would flush queued events
    assert!(upstream.requests().is_empty(), "L176, L260, U085: {:?}", upstream.requests());
}

#[tokio::test]
async fn a_new_archive_is_served_to_open_streams() {
    let folder = Folder::with(&contents("d1", 1, 3));
    let gateway = folder.setup().start().await;
    let mut server = gateway.opens("/all", SDK_KEY).await;
    let mut phone = gateway.opens("/mping", MOBILE_KEY).await;
    server.receives_event("put").await;
    phone.receives_ping().await;
    folder.replace(&contents("d2", 2, 4));
    server.receives("put", put(data([flag("plain", 4)], []))).await; // L261, U086
    phone.receives_ping().await; // L261

    // U087: another version with the same data is not announced.
    let renamed = environment("d2", 3, json!({"envName": "Live"}));
    folder.replace(&Contents(vec![(renamed, data([flag("plain", 5)], []))]));
    gateway.status_where("the new name", |it| it["environments"][ENV_ID]["envName"] == "Live").await;
    assert_eq!(gateway.answers(&poll()).await.json(), by_key([flag("plain", 4)]), "U087");
    // An older archive is accepted too; the next event on the stream contains its data.
    folder.replace(&contents("d1", 1, 3));
    server.receives("put", put(data([flag("plain", 3)], []))).await;
}

#[tokio::test]
async fn a_broken_or_missing_archive_changes_nothing() {
    let folder = Folder::with(&contents("d1", 1, 3));
    let gateway = folder.setup().start().await;
    let mut server = gateway.opens("/all", SDK_KEY).await;
    server.receives_event("put").await;
    let next = contents("d2", 2, 4).archive();
    std::fs::write(folder.file(), &next[..next.len() / 2]).expect("a file");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.answers(&poll()).await.json(), by_key([flag("plain", 3)]), "U088");
    std::fs::write(folder.file(), &next).expect("a file");
    server.receives("put", put(data([flag("plain", 4)], []))).await; // U088: in place, too
    std::fs::remove_file(folder.file()).expect("a file");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(gateway.answers(&poll()).await.json(), by_key([flag("plain", 4)]), "U089");
    folder.replace(&contents("d3", 3, 5));
    server.receives("put", put(data([flag("plain", 5)], []))).await;
}

#[tokio::test]
async fn keys_rotate_and_environments_are_removed_with_the_archive() {
    let folder = Folder::with(&contents("d1", 1, 3));
    let gateway = folder.setup().start().await;
    let mut old = gateway.opens("/all", SDK_KEY).await;
    old.receives_event("put").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let at = u64::try_from(now).expect("a date") + 1_000;
    let key = json!({"sdkKey": {"value": "sdk-new", "expiring": {"value": SDK_KEY, "timestamp": at}}});
    folder.replace(&Contents(vec![(environment("d1", 2, key), data([flag("plain", 3)], []))]));
    let accepts = |key: &'static str, status: u16| {
        let gateway = &gateway;
        async move {
            let what = format!("{key} to be answered {status}");
            within(&what, async {
                while gateway.answers(&Call::get("/sdk/flags").key(key)).await.status != status {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    };
    accepts("sdk-new", 200).await; // U090
    accepts(SDK_KEY, 200).await; // U090
    old.receives_end().await; // U090
    accepts(SDK_KEY, 401).await;

    let mut new = gateway.opens("/all", "sdk-new").await;
    new.receives_event("put").await;
    folder.replace(&Contents(Vec::new()));
    new.receives_end().await; // U091
    accepts("sdk-new", 401).await; // U091, U084
    assert_eq!(gateway.status().await["environments"], json!({}), "U091");
}

#[tokio::test]
async fn without_a_valid_archive_the_start_fails() {
    // The error names the file and what is wrong with it.
    let folder = Folder(TempDir::new().expect("a folder"));
    let error = |folder: &Folder| {
        let dir = TempDir::new().expect("a folder");
        let file = folder.setup().write("http://127.0.0.1:9", dir.path());
        let config = yardarm::config::load(Some(&file), &yardarm::config::Overrides::default()).expect("valid").config;
        async move {
            match yardarm::Gateway::start(config).await {
                Ok(_) => String::new(),
                Err(error) => format!("{error:#}"),
            }
        }
    };
    let text = error(&folder).await;
    assert!(text.contains("archive.tar.gz") && text.contains("cannot be read"), "{text}");
    std::fs::File::create(folder.file()).expect("a file").write_all(b"no archive").expect("a file");
    assert!(error(&folder).await.contains("cannot be read"));
}
