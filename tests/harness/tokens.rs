//! Tokens across gateways and relays: of another instance, of an earlier version, of the vendor's relay.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, until, within};

use super::ff_proxy::online;
use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, started, token};
use crate::program::{Program, Signal};
use crate::running::Running;

fn flags(id: &str) -> String {
    format!("/client/env/{id}/feature-configs")
}

/// Returns a token signed with a secret.
fn signed(claims: &Value, secret: &str) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(text.as_bytes());
    format!("Bearer {text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Returns an old token in the format of version 1 of the vendor's relay.
fn version_1(id: &str, secret: &str) -> String {
    signed(&json!({"environment": id, "clusterIdentifier": "1", "iat": 1_700_000_000, "nbf": 1_700_000_000}), secret)
}

/// Returns a token in the format of version 2.
fn version_2(id: &str, key: &str, secret: &str) -> String {
    let claims = json!({
        "environment": id, "clusterIdentifier": "1", "iat": 1_700_000_000, "nbf": 1_700_000_000,
        "apiKey": format!("auth-key-{}", FakeHarness::hash(key)),
    });
    signed(&claims, secret)
}

#[tokio::test]
async fn gateways_with_the_same_keys_accept_each_others_tokens() {
    let cloud = cloud().await;
    let first = started(&cloud, "").await;
    let (mine, other) = (token(&first, KEY).await, token(&first, OTHER_KEY).await);
    for keys in [&[KEY, OTHER_KEY][..], &[OTHER_KEY, KEY], &[KEY]] {
        let twin = Running::before_harness(&cloud, keys, "").await;
        twin.wait_until_ready().await;
        assert_eq!(twin.answers(&Call::get(flags(ENV)).key(&mine)).await.status, 200, "{keys:?}");
        let expected = if keys.contains(&OTHER_KEY) { 200 } else { 401 };
        assert_eq!(twin.answers(&Call::get(flags(OTHER_ENV)).key(&other)).await.status, expected, "{keys:?}");
        // A token of one environment gives no access to another.
        assert_eq!(twin.answers(&Call::get(flags(OTHER_ENV)).key(&mine)).await.status, 401, "{keys:?}");
        assert!(!twin.folder().join("data/harness/token-secret").exists(), "nothing is made up");
    }
    // Only a holder of the configured key can sign tokens.
    for secret in ["", "secret", OTHER_KEY, &FakeHarness::hash(KEY)] {
        let forged = version_2(ENV, KEY, secret);
        assert_eq!(first.answers(&Call::get(flags(ENV)).key(&forged)).await.status, 401, "{secret}");
    }
}

#[tokio::test]
async fn gateways_with_the_same_proxy_key_accept_each_others_tokens() {
    const PROXY: &str = "proxy-key-0001";
    let cloud = cloud().await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    let first = Running::before_harness_proxy(&cloud, PROXY, "").await;
    first.wait_until_ready().await;
    let mine = token(&first, KEY).await;
    let twin = Running::before_harness_proxy(&cloud, PROXY, "").await;
    twin.wait_until_ready().await;
    assert_eq!(twin.answers(&Call::get(flags(ENV)).key(&mine)).await.status, 200);
}

#[tokio::test]
async fn a_token_is_not_refused_before_its_environment_is_known() {
    let cloud = cloud().await;
    let mine = token(&started(&cloud, "").await, KEY).await;
    cloud.goes_down();
    let gateway = Running::before_harness(&cloud, &[KEY], "").await;
    let call = Call::get(flags(ENV)).key(&mine);
    assert_eq!(gateway.answers(&call).await.status, 500, "it may be good");
    cloud.comes_back();
    eventually(&gateway, &call, "and is", |status, _| status == 200).await;
}

#[tokio::test]
async fn tokens_of_an_earlier_version_stay_valid() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let old = version_2(ENV, KEY, secret);
    let call = Call::get(flags(ENV)).key(&old);
    assert_eq!(gateway.answers(&call).await.status, 401);
    std::fs::write(gateway.folder().join("data/harness/token-secret"), secret).expect("a file");
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.answers(&call).await.status, 200);
    assert_eq!(gateway.answers(&Call::get(flags(ENV)).key(&version_1(ENV, secret))).await.status, 401);
}

#[tokio::test]
async fn sdks_of_ff_proxy_keep_working_after_a_migration() {
    let cloud = cloud().await;
    for secret in ["secret", "a secret of more than 32 bytes, as it should be"] {
        let dir = TempDir::new().unwrap();
        let mut command = online(&cloud, dir.path(), &format!("{KEY},{OTHER_KEY}"));
        command.env("AUTH_SECRET", secret);
        let program = Program::launch(command).await;
        within("`/ready`", program.wait_until_ready()).await;
        for (what, token, status) in [
            ("version 1", version_1(ENV, secret), 200),
            ("version 2", version_2(ENV, KEY, secret), 200),
            ("version 1 with another secret", version_1(ENV, "another secret"), 401),
            ("version 1 of another environment", version_1(OTHER_ENV, secret), 401),
            ("version 1 of no environment", version_1("nowhere", secret), 401),
            ("version 2 with a key that is gone", version_2(ENV, "gone", secret), 401),
            ("no claims", signed(&json!({}), secret), 401),
        ] {
            let answer = program.answers(&Call::get(flags(ENV)).key(&token)).await;
            assert_eq!(answer.status, status, "{secret}: {what}");
        }
        until("a stream", || cloud.open_streams(ENV) > 0).await;
        let call = Call::get("/stream").key(&version_1(ENV, secret)).header("API-Key", KEY);
        within("an open stream", async {
            while yardarm_testkit::SseClient::open(program.address, &call).await.head().status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        let is_warned = program.has_logged("THE DEFAULT OF FF-PROXY");
        assert_eq!(is_warned, secret == "secret", "{:#?}", program.log());
        program.signal(Signal::TERM);
        assert_eq!(program.ends().await.0.code(), Some(0));
    }
    // In other modes such tokens are rejected.
    let secret = "a secret of more than 32 bytes, as it should be";
    let gateway = started(&cloud, &format!("auth_secret = \"{secret}\"")).await;
    let call = Call::get(flags(ENV)).key(&version_1(ENV, secret));
    assert_eq!(gateway.answers(&call).await.status, 401);
    drop(listens(&gateway, KEY).await);
}

#[tokio::test]
async fn a_key_that_is_rejected_for_now_is_not_unknown() {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.puts(ENV, [flag("a", 1)], []);
    // One of two is rejected from the start.
    let gateway = Running::before_harness(&cloud, &[KEY, OTHER_KEY], "").await;
    gateway.wait_until_ready().await;
    let exchange = |key: &str| Call::post("/client/auth", json!({ "apiKey": key }).to_string());
    eventually(&gateway, &exchange(KEY), "the other", |status, _| status == 200).await;
    until("the rejection", || cloud.posts("/client/auth").iter().any(|it| it.json()["apiKey"] == OTHER_KEY)).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(gateway.answers(&exchange(OTHER_KEY)).await.status, 500, "it may be accepted again");
    assert_eq!(gateway.answers(&exchange("nobody")).await.status, 401);
    // It is accepted again soon.
    cloud.adds_environment(OTHER_ENV, "test", [OTHER_KEY]);
    cloud.puts(OTHER_ENV, [flag("other", 1)], []);
    eventually(&gateway, &exchange(OTHER_KEY), "accepted", |status, _| status == 200).await;
    // A key that was accepted before and is rejected now: last good data is served, and no refusal is final.
    let mine = token(&gateway, KEY).await;
    drop(listens(&gateway, KEY).await);
    cloud.answers_next("/client/auth", [401; 1000]);
    cloud.closes_streams(ENV);
    let before = cloud.posts("/client/auth").len();
    until("rejections", || cloud.posts("/client/auth").len() > before + 2).await;
    assert_eq!(gateway.answers(&Call::get(flags(ENV)).key(&mine)).await.status, 200);
    assert_eq!(gateway.answers(&exchange(KEY)).await.status, 200);
    let stream = Call::get("/stream").key(&mine).header("API-Key", KEY);
    assert_eq!(gateway.answers(&stream).await.status, 503);
}
