//! L144 to L148, L170: browsers authenticate their context with a hash.

use yardarm_testkit::Call;

use super::evaluation::segment_of;
use crate::expected::{empty, message, some_json};
use crate::flags::some_data;
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, Setup};

/// The key and the two hashes of launchdarkly/sdk-test-harness (L147).
const KEY: &str = "sdk-01234567-89ab-cdef-0123-456789abcdef";
const USER: (&str, &str) =
    (r#"{"kind":"user","key":"user-key-123"}"#, "73df666a13f2c474e50aa34ca5a761e89abb737fb139ff65fdde7fa85c9dcacd");
const OTHER: (&str, &str) =
    (r#"{"kind":"other","key":"user-key-123"}"#, "98a933ca26d2951547fc021981ebcdeda95fbca2ac3f767ae67f7042d5458f72");
const REFUSAL: &str = "Environment is in secure mode, and context hash does not match.";

async fn gateway(secure_mode: bool) -> Running {
    let environment = serde_json::json!({"sdk_key": KEY, "secure_mode": secure_mode});
    Setup::new().environment(environment).data(KEY, some_data()).start().await
}

#[tokio::test]
async fn only_the_right_hash_is_accepted() {
    let gateway = gateway(true).await;
    let fine = |methods: &str| some_json(200).cors("*", methods);
    let refused = |methods: &str| message(400, REFUSAL).cors("*", methods);
    let no_context = |methods: &str| message(400, "unexpected end of JSON input").cors("*", methods);
    let get =
        |context: &str, query: &str| Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{}{query}", segment_of(context)));
    let report = |context: &str, query: &str| Call::report(format!("/sdk/evalx/{ENV_ID}/context{query}"), context);
    for (context, hash) in [USER, OTHER] {
        let right = format!("?h={hash}");
        gateway.answers_as("L144, L147", get(context, &right), fine("GET,OPTIONS")).await;
        gateway.answers_as("L144, L147", report(context, &right), fine("REPORT,OPTIONS")).await;
        let wrong = [
            String::new(),
            "?h=".to_owned(),
            format!("?h={}", hash.to_uppercase()),
            format!("?h={hash}0"),
            format!("?h=x&h={hash}"),
        ];
        for query in wrong {
            gateway.answers_as("L145", get(context, &query), refused("GET,OPTIONS")).await;
            gateway.answers_as("L145", report(context, &query), refused("REPORT,OPTIONS")).await;
        }
    }
    gateway.answers_as("L145", get(USER.0, &format!("?h={}", OTHER.1)), refused("GET,OPTIONS")).await;
    gateway.answers_as("L145: the context comes first", report("{", ""), no_context("REPORT,OPTIONS")).await;

    let stream = |query: &str| Call::get(format!("/eval/{ENV_ID}/{}{query}", segment_of(USER.0)));
    gateway.opens_with(&stream(&format!("?h={}", USER.1))).await.receives_ping().await; // L146
    let unbuffered = refused("GET,OPTIONS").with("x-accel-buffering: no");
    gateway.answers_as("L146", stream(""), unbuffered).await;

    let preflight = Call::options(format!("/eval/{ENV_ID}/garbage!"));
    gateway.answers_as("L170", preflight, empty(200).cors("*", "GET,OPTIONS")).await;
    gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await.receives_ping().await;
    let mobile = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    gateway.answers_as("L148: not for mobile", mobile, some_json(200)).await;
}

#[tokio::test]
async fn without_secure_mode_hashes_do_not_matter() {
    let gateway = gateway(false).await;
    let call = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}?h=wrong"));
    gateway.answers_as("L148", call, some_json(200).cors("*", "GET,OPTIONS")).await;
}
