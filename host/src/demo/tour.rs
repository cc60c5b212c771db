//! What the demo tells: first that it works, which it tries itself, then what to try.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use yardarm_testkit::FakeLaunchDarkly;

use super::plugins::{Found, GATE_TOKEN};
use super::{ENV_ID, MOBILE_KEY, SDK_KEY};
use crate::gateway::Gateway;

/// How long each step of the check may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// `{"kind":"user","key":"ada"}`
const CONTEXT: &str = "eyJraW5kIjoidXNlciIsImtleSI6ImFkYSJ9";

/// Says a line.
#[expect(clippy::print_stdout, reason = "the demo talks to a person")]
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// Does what an SDK would do, and stops at the first thing that does not work.
pub(super) async fn check(gateway: &Gateway, cloud: &FakeLaunchDarkly) -> anyhow::Result<()> {
    let mut stream = Sse::open(gateway, "/all", SDK_KEY).await?;
    stream.hears("event: put").await.context("a server-side SDK gets all flags")?;
    say("  ok  a server-side stream got all flags");
    cloud.patches(
        SDK_KEY,
        &serde_json::json!({
            "key": "demo-check", "version": 1, "on": false, "offVariation": 0, "variations": ["it works"], "salt": "",
        }),
    );
    stream.hears("demo-check").await.context("a change upstream reaches an open stream")?;
    say("  ok  a change upstream reached the open stream");
    let flags = evaluated(gateway).await.context("a mobile SDK gets evaluated flags")?;
    ensure!(flags["demo-check"]["value"] == "it works", "the change is not in the evaluated flags");
    say("  ok  a mobile SDK gets evaluated flags");
    Ok(())
}

/// What to try now.
pub(super) fn invite(gateway: &Gateway, folder: &Path, found: &Found) {
    let (sdks, admin, folder) = (gateway.address(), gateway.admin_address(), folder.display());
    let mut text = format!(
        "\ndemo: OK, running. Press Ctrl-C to end it.\n\n\
         look      http://{admin}/  shows environments, streams, plugins and changes as they happen\n\n\
         watch flags change, as a server-side SDK:\n  curl -N -H 'Authorization: {SDK_KEY}' http://{sdks}/all\n\n\
         evaluate flags for the user `ada`, as a mobile SDK:\n  curl -H 'Authorization: {MOBILE_KEY}' http://{sdks}/msdk/evalx/contexts/{CONTEXT}\n\n\
         send an event, and see in the next line that it arrived:\n  curl -i -X POST -H 'Authorization: {SDK_KEY}' -H 'Content-Type: application/json' -H 'X-LaunchDarkly-Event-Schema: 4' -d '[{{\"kind\":\"identify\",\"creationDate\":1,\"context\":{{\"kind\":\"user\",\"key\":\"ada\",\"email\":\"ada@example.com\"}}}}]' http://{sdks}/bulk\n  curl http://{admin}/api/environments\n"
    );
    if found.has("request-gate") {
        text.push_str(&format!(
            "\nthe plugin `request-gate` wants a token from browsers; without the header this is refused:\n  curl -i -H 'x-gate-token: {GATE_TOKEN}' http://{sdks}/sdk/evalx/{ENV_ID}/contexts/{CONTEXT}\n"
        ));
    }
    if found.has("flag-override") {
        text.push_str(&format!(
            "\nchange a plugin while it runs: edit the pinned text in {folder}/flag-override.toml, save, evaluate again.\n\
             Remove or replace a .wasm file in {folder}/ and look at the page.\n"
        ));
    }
    say(&text);
}

async fn evaluated(gateway: &Gateway) -> anyhow::Result<Value> {
    let path = format!("/msdk/evalx/contexts/{CONTEXT}");
    let request = format!("GET {path} HTTP/1.0\r\nHost: demo\r\nAuthorization: {MOBILE_KEY}\r\n\r\n");
    let mut stream = TcpStream::connect(gateway.address()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    ensure!(head.contains(" 200 "), "answered {}", head.lines().next().unwrap_or_default());
    Ok(serde_json::from_str(body)?)
}

/// An open stream, read as text.
struct Sse {
    stream: TcpStream,
    heard: String,
}

impl Sse {
    async fn open(gateway: &Gateway, path: &str, key: &str) -> anyhow::Result<Self> {
        // An environment without data answers 503 at first, and an SDK tries again.
        for _ in 0..50 {
            let mut stream = TcpStream::connect(gateway.address()).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: demo\r\nAuthorization: {key}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut sse = Self { stream, heard: String::new() };
            if sse.hears("HTTP/1.1 200").await.is_ok() {
                return Ok(sse);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{path} is not served")
    }

    async fn hears(&mut self, text: &str) -> anyhow::Result<()> {
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                if let Some(index) = self.heard.find(text) {
                    self.heard.drain(..index + text.len());
                    return Ok(());
                }
                ensure!(!self.heard.starts_with("HTTP/1.1 5"), "answered 5xx");
                let count = self.stream.read(&mut buffer).await?;
                ensure!(count > 0, "the stream has ended");
                self.heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        timeout(PATIENCE, read).await.context("nothing came in time")?
    }
}
