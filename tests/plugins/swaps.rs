//! Plugins are replaced while requests and streams are served: no request fails, no stream is dropped, no generations
//! are mixed.
//!
//! Acceptance test 2 of the plugin system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use yardarm_testkit::{Call, within};

use super::{Plugged, put, sample};
use crate::running::{CTX, ENV_ID, SDK_KEY, Setup};
use crate::sdks::{data, flag};

const STREAMS: usize = 200;
/// The benchmark does a thousand; every test run does some.
const SWAPS: usize = 25;

fn gate(round: usize) -> String {
    format!(
        "[plugin]\nname = \"request-gate\"\ngrants = [\"header:x-gate-token\"]\n[plugin.config]\ntokens = [\"open\", \"round-{round}\"]\nsdks = [\"client\", \"server\"]\n[[bind]]\nhook = \"request-auth\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_fail_no_request_and_drop_no_stream() {
    let plugged = Plugged::start(Setup::with(data()), |folder| {
        put(folder, "request-gate.toml", gate(0));
        put(folder, "request-gate.wasm", sample("request-gate"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let call = Call::get("/all").key(SDK_KEY).header("x-gate-token", "open");
        let mut sdk = plugged.gateway.opens_with(&call).await;
        sdk.receives_event("put").await;
        streams.push(sdk);
    }

    let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let address = plugged.gateway.address;
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            #[expect(clippy::disallowed_methods, reason = "a caller of its own, awaited below")]
            tokio::spawn(async move {
                let call = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")).header("x-gate-token", "open");
                while !is_over.load(Ordering::Relaxed) {
                    let answer = call.to(address).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let generation = |row: &serde_json::Value| row["active"]["generation"].as_u64().unwrap_or(0);
    let mut last = generation(&plugged.plugin("request-gate").await);
    for round in 1..=SWAPS {
        plugged.drops("request-gate.toml", gate(round));
        let row = plugged.plugin_where("request-gate", "swapped", |row| generation(row) > last).await;
        last = generation(&row);
    }
    is_over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no request failed");
    }
    assert!(served.load(Ordering::Relaxed) > 50, "the load was no load");

    // All streams are still open and receive the next change.
    plugged.gateway.upstream.patches(SDK_KEY, &flag("greeting", 2, &json!("still here")));
    for sdk in &mut streams {
        within("every stream receives the change", sdk.receives_event("patch")).await;
    }
    let status = plugged.gateway.operator_gets("/api/status").await.json();
    let open: u64 = status["streams"].as_array().into_iter().flatten().filter_map(|it| it["open"].as_u64()).sum();
    assert_eq!(open, STREAMS as u64);
}
