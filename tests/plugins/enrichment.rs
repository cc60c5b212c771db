//! Attributes that plugins add to contexts decide flags, wherever the gateway evaluates.

use serde_json::{Value, json};
use yardarm_testkit::Call;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::Plugged;
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Setup};
use crate::sdks::{data, flag};

/// Returns a plugin that sets the attribute `plan` of a kind to `gold`.
pub(crate) fn gold(kind: &str) -> Vec<u8> {
    let named = guests::SET_PLAN.replace("\"user\"", &format!("\"{kind}\""));
    let length = format!("(i32.store (i32.const 4100) (i32.const {}))", kind.len());
    let fragment = named.replace("(i32.store (i32.const 4100) (i32.const 4))", &length);
    Guest::new("plans").hook(GuestHook::ContextEnrichment, &fragment).component().unwrap()
}

/// Returns a flag that is `gold` for users with that plan, and `plain` for others.
fn by_plan() -> Value {
    let mut flag = flag("plan", 1, &json!("plain"));
    flag["variations"] = json!(["gold", "plain"]);
    flag["rules"] = json!([{"id": "r", "variation": 0, "trackEvents": false, "clauses": [
        {"attribute": "plan", "contextKind": "user", "op": "in", "values": ["gold"], "negate": false}]}]);
    flag
}

#[tokio::test]
async fn evaluations_for_launchdarklys_sdks_see_added_attributes() {
    let mut all = data();
    all["flags"]["plan"] = by_plan();
    let setup = Setup::with(all).set("launchdarkly.client_streams", "evaluated");
    let plugged = Plugged::start(setup, |_| ()).await;
    let poll = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    let polled = async || plugged.gateway.answers(&poll).await.json()["plan"]["value"].clone();
    let stream = Call::get(format!("/eval/{ENV_ID}/{CTX}"));
    let mut sdk = plugged.gateway.opens_with(&stream).await;
    assert_eq!(sdk.receives_event("put").await["plan"]["value"], "plain");
    assert_eq!(polled().await, "plain");

    plugged.drops("plans.wasm", gold("user"));
    plugged.wait_until_active("plans").await;
    // The stream ends, since its context has changed; the SDK connects again.
    sdk.receives_end().await;
    let mut sdk = plugged.gateway.opens_with(&stream).await;
    assert_eq!(sdk.receives_event("put").await["plan"]["value"], "gold");
    assert_eq!(polled().await, "gold");

    plugged.removes("plans.wasm");
    sdk.receives_end().await;
    assert_eq!(polled().await, "plain");
}
