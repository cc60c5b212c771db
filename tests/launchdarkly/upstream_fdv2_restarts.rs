//! The state of data received by FDv2 outlives the process, also a killed one: the next one requests changes only.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, until};

use super::upstream_fdv2::{POLL, STREAM, paths};
use crate::flags::{by_key, flag, some_data};
use crate::program::{Program, Signal};
use crate::running::{SDK_KEY, Setup, main_environment};

struct Place {
    cloud: FakeLaunchDarkly,
    dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { cloud: FakeLaunchDarkly::start().await, dir: TempDir::new().expect("a temporary folder") };
        place.cloud.puts(SDK_KEY, &some_data());
        place
    }

    fn setup(&self, protocol: &str) -> Setup {
        let data = self.dir.path().join("data");
        Setup::new()
            .set("log.format", "json")
            .set("data.dir", data.to_str().expect("a path in UTF-8"))
            .set("launchdarkly.upstream_protocol", protocol)
    }

    /// Starts the program, and waits until upstream is connected.
    async fn start(&self, setup: Setup) -> Program {
        setup.write(&self.cloud.url(), self.dir.path());
        let program = Program::start(self.dir.path()).await;
        until("an open stream", || {
            let keys = [SDK_KEY, OTHER_KEY];
            keys.iter().any(|it| self.cloud.open_transfer_streams(it) + self.cloud.open_streams(it) > 0)
        })
        .await;
        program
    }

    async fn kill(&self, program: Program) {
        program.signal(Signal::KILL);
        program.ends().await;
        let keys = [SDK_KEY, OTHER_KEY];
        let is_closed =
            || keys.iter().all(|it| self.cloud.open_transfer_streams(it) + self.cloud.open_streams(it) == 0);
        // The fake notices with the next bytes.
        until("the end of the stream", || {
            keys.iter().for_each(|it| {
                self.cloud.sends_bytes(it, ":\n");
                self.cloud.sends_transfer_bytes(it, ":\n");
            });
            is_closed()
        })
        .await;
    }

    /// Waits until a text is committed.
    async fn waits_for(&self, text: &str) {
        let file = self.dir.path().join("data/store.redb");
        until("the text on disk", || has_text(&file, text)).await;
        // The text is written a moment before the commit.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

const OTHER_KEY: &str = "sdk-00000000-1111-2222-3333-444444444499";

fn has_text(file: &Path, text: &str) -> bool {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}

async fn flags(program: &Program) -> Value {
    program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.json()
}

#[tokio::test]
async fn a_killed_gateway_continues_from_its_last_state() {
    // D14, U050
    let place = Place::new().await;
    let program = place.start(place.setup("fdv2")).await;
    place.cloud.patches(SDK_KEY, &flag("plain", 4));
    place.waits_for("(p:fake:2)").await;
    place.kill(program).await;
    let requests = paths(&place.cloud, POLL).len();

    // Nothing has changed: one poll, whose response is `none`, and the data is served.
    let program = place.start(place.setup("fdv2")).await;
    program.wait_until_ready().await;
    assert_eq!(paths(&place.cloud, POLL)[requests..], ["/sdk/poll?basis=%28p%3Afake%3A2%29"], "U050");
    assert_eq!(flags(&program).await, by_key([flag("plain", 4)]));
    let report = program.operator_gets("/api/environments").await.json();
    assert_eq!(report["environments"][0]["is_stale"], false, "confirmed");
    place.kill(program).await;

    // Changes meanwhile: only they are sent, and data and state are those of the same moment.
    place.cloud.patches(SDK_KEY, &flag("second", 1));
    let program = place.start(place.setup("fdv2")).await;
    program.wait_until_ready().await;
    assert_eq!(paths(&place.cloud, STREAM).last().map(String::as_str), Some("/sdk/stream?basis=%28p%3Afake%3A3%29"));
    assert_eq!(flags(&program).await, by_key([flag("plain", 4), flag("second", 1)]));
    place.kill(program).await;
}

#[tokio::test]
async fn a_state_of_other_data_is_not_used() {
    let place = Place::new().await;
    place.cloud.puts(OTHER_KEY, &some_data());
    let polls = || paths(&place.cloud, POLL);
    let program = place.start(place.setup("fdv2")).await;
    place.waits_for("(p:fake:1)").await;
    place.kill(program).await;
    assert_eq!(polls(), [POLL]);

    // FDv1 does not name its states.
    let program = place.start(place.setup("fdv1")).await;
    program.wait_until_ready().await;
    place.cloud.patches(SDK_KEY, &flag("unnamed", 4));
    place.waits_for("\"unnamed\"").await;
    place.kill(program).await;
    let program = place.start(place.setup("fdv2")).await;
    program.wait_until_ready().await;
    assert_eq!(polls(), [POLL, POLL]);
    place.kill(program).await;

    // Another key may be one of another environment.
    let mut environment = main_environment();
    environment["sdk_key"] = OTHER_KEY.into();
    let program = place.start(place.setup("fdv2").environments([environment])).await;
    program.wait_until_ready().await;
    assert_eq!(polls(), [POLL, POLL, POLL]);
    place.kill(program).await;
}
