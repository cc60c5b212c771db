//! The output of the demo: a check that it works, then commands to try.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use yardarm_core::time::unix_ms;

use super::clouds::Clouds;
use super::harness::{API_KEY, ENVIRONMENT};
use super::http::{self, Sse};
use super::launchdarkly::{ENV_ID, MOBILE_KEY, SDK_KEY};
use super::plugins::{Found, GATE_TOKEN};
use crate::gateway::Gateway;
use crate::logging;

/// `{"kind":"user","key":"ada"}`
const CONTEXT: &str = "eyJraW5kIjoidXNlciIsImtleSI6ImFkYSJ9";

/// Prints a line.
pub(super) fn print(line: &str) {
    logging::print(line);
}

/// Sends the requests of SDKs and returns the first error.
///
/// The data folder may have the flags of an earlier demo, so the flag that changes has a version of its own.
pub(super) async fn check(gateway: &Gateway, clouds: &Clouds) -> anyhow::Result<()> {
    let version = unix_ms() / 1_000;
    let changed = format!("\"version\":{version}");
    let mut stream = Sse::open(gateway, "/all", &[format!("Authorization: {SDK_KEY}")]).await?;
    stream.read_until("event: put").await.context("a server-side SDK gets all flags")?;
    print("  ok  LaunchDarkly: a server-side stream got all flags");
    clouds.launchdarkly.patches(
        SDK_KEY,
        &json!({
            "key": "demo-check", "version": version, "on": false, "offVariation": 0, "variations": ["it works"], "salt": "",
        }),
    );
    stream.read_until(&changed).await.context("a change upstream reaches an open stream")?;
    print("  ok  LaunchDarkly: a change upstream reached the open stream");
    let path = format!("GET /msdk/evalx/contexts/{CONTEXT}");
    let flags = http::json(gateway, &path, &[format!("Authorization: {MOBILE_KEY}")], "").await;
    let flags = flags.context("a mobile SDK gets evaluated flags")?;
    ensure!(flags["demo-check"]["value"] == "it works", "the change is not in the evaluated flags");
    print("  ok  LaunchDarkly: a mobile SDK gets evaluated flags");

    let token = exchanged(gateway).await.context("a Harness SDK gets a token for its key")?;
    let mut stream = Sse::open(gateway, "/stream", &[token.clone(), format!("API-Key: {API_KEY}")]).await?;
    clouds.harness.changes_flag(
        ENVIRONMENT,
        &json!({
            "project": "demo", "environment": "demo-harness", "feature": "demo-check", "state": "off",
            "kind": "boolean", "variations": [{"identifier": "no", "value": "false"}], "offVariation": "no",
            "defaultServe": {"variation": "no"}, "version": version,
        }),
    );
    stream.read_until(&changed).await.context("a change in Harness reaches an open stream")?;
    print("  ok  Harness: a change upstream reached the open stream");
    let path = format!("GET /client/env/{ENVIRONMENT}/target/ada/evaluations/demo-check");
    let result = http::json(gateway, &path, &[token], "").await.context("a Harness client gets results")?;
    ensure!(result["value"] == "false", "the change is not in the results");
    print("  ok  Harness: a client SDK gets evaluated flags");
    Ok(())
}

/// Exchanges the key for a token, and retries until the environment is known, as an SDK does.
async fn exchanged(gateway: &Gateway) -> anyhow::Result<String> {
    let body = json!({ "apiKey": API_KEY }).to_string();
    let mut attempts = 0;
    loop {
        let answer: anyhow::Result<Value> = http::json(gateway, "POST /client/auth", &[], &body).await;
        match answer {
            Ok(answer) => {
                let token = answer["authToken"].as_str().context("the answer has no token")?;
                return Ok(format!("Authorization: Bearer {token}"));
            }
            Err(error) if attempts >= 50 => return Err(error),
            Err(_) => attempts += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Prints commands to try.
pub(super) fn invite(gateway: &Gateway, folder: &Path, found: &Found) {
    let (sdks, admin, folder) = (gateway.address(), gateway.admin_address(), folder.display());
    let exchange = format!("curl -s -d '{{\"apiKey\":\"{API_KEY}\"}}' http://{sdks}/client/auth | cut -d '\"' -f 4");
    let bearer = format!("-H \"Authorization: Bearer $({exchange})\"");
    let mut text = format!(
        "\ndemo: OK, running. Press Ctrl-C to end it.\n\n\
         look      http://{admin}/  shows environments, streams, plugins and changes as they happen\n\n\
         watch flags change, as a server-side SDK:\n  curl -N -H 'Authorization: {SDK_KEY}' http://{sdks}/all\n\n\
         evaluate flags for the user `ada`, as a mobile SDK:\n  curl -H 'Authorization: {MOBILE_KEY}' http://{sdks}/msdk/evalx/contexts/{CONTEXT}\n\n\
         send an event, and see in the next line that it arrived:\n  curl -i -X POST -H 'Authorization: {SDK_KEY}' -H 'Content-Type: application/json' -H 'X-LaunchDarkly-Event-Schema: 4' -d '[{{\"kind\":\"identify\",\"creationDate\":1,\"context\":{{\"kind\":\"user\",\"key\":\"ada\",\"email\":\"ada@example.com\"}}}}]' http://{sdks}/bulk\n  curl http://{admin}/api/environments\n\n\
         the same gateway serves Harness: exchange a key for a token, evaluate flags for the target `ada`, watch changes:\n  curl {bearer} http://{sdks}/client/env/{ENVIRONMENT}/target/ada/evaluations\n  curl -N {bearer} -H 'API-Key: {API_KEY}' http://{sdks}/stream\n"
    );
    if found.has("request-gate") {
        text.push_str(&format!(
            "\nthe plugin `request-gate` requires a token from browsers; without the header this request is rejected:\n  curl -i -H 'x-gate-token: {GATE_TOKEN}' http://{sdks}/sdk/evalx/{ENV_ID}/contexts/{CONTEXT}\n"
        ));
    }
    if found.has("flag-override") {
        text.push_str(&format!(
            "\nchange a plugin while it runs: edit the pinned text in {folder}/flag-override.toml, save, evaluate again.\n\
             Remove or replace a .wasm file in {folder}/ and look at the page.\n"
        ));
    }
    print(&text);
}
