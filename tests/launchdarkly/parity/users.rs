//! L118 to L121: users in the format from before contexts, property by property.

use serde_json::{Value, json};
use yardarm_testkit::Call;

use crate::expected::{message, some_json};
use crate::flags::{data, flag_with};
use crate::launchdarkly::context_segment as segment_of;
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

/// Every JSON type, with its name in error messages.
const TYPES: [(&str, &str); 6] =
    [("null", "null"), ("true", "boolean"), ("1.5", "number"), ("\"t\"", "string"), ("[]", "array"), ("{}", "object")];

fn reported(body: &str) -> Call {
    Call::report("/sdk/evalx/user", body).key(SDK_KEY)
}

async fn gateway() -> Running {
    // One flag per attribute, false where it is `t`.
    let attributes = ["name", "email", "firstName", "lastName", "country", "avatar", "ip", "custom-one", "kind", "key"];
    let flags = attributes.map(|name| {
        let clause = json!({"contextKind": "user", "attribute": name, "op": "in", "values": ["t"], "negate": false});
        flag_with(name, 1, json!({"rules": [{"id": "r", "variation": 1, "clauses": [clause]}]}))
    });
    Setup::with(data(flags, [])).start().await
}

/// Returns the flags that are false for this user.
async fn matched(gateway: &Running, user: &str) -> Vec<String> {
    let answer = gateway.answers(&reported(user)).await;
    assert_eq!(answer.status, 200, "{user}: {}", answer.text());
    let flags: Value = answer.json();
    let all = flags.as_object().expect("an object").iter();
    all.filter(|(_, result)| result["value"] == false).map(|(key, _)| key.clone()).collect()
}

#[tokio::test]
async fn each_property_with_each_type() {
    let gateway = gateway().await;
    for (property, expected, is_nullable) in [
        ("key", "string", false),
        ("name", "string", true),
        ("anonymous", "boolean", true),
        ("firstName", "string", true),
        ("lastName", "string", true),
        ("email", "string", true),
        ("country", "string", true),
        ("avatar", "string", true),
        ("ip", "string", true),
        ("secondary", "string", true),
        ("custom", "object", true),
        ("privateAttributeNames", "array", true),
        ("anything", "", true),
    ] {
        for (value, found) in TYPES {
            // The property comes first, so its position is that of the value.
            let user = if property == "key" {
                format!(r#"{{"key":{value}}}"#)
            } else {
                format!(r#"{{"{property}":{value},"key":"a"}}"#)
            };
            let is_fine = expected.is_empty() || found == expected || (is_nullable && found == "null");
            let position = property.len() + 4;
            let or_null = if is_nullable { " or null" } else { "" };
            let problem = format!("expected {expected}{or_null}, got {found} at position {position}");
            let answer = if is_fine { some_json(200) } else { message(400, &problem) };
            gateway.answers_as("L118 to L121", reported(&user), answer).await;
            let in_path = Call::get(format!("/msdk/evalx/users/{}", segment_of(&user))).key(MOBILE_KEY);
            let no_context = "context part of URL path did not decode to valid evaluation context as JSON";
            let answer = if is_fine { some_json(200) } else { message(400, no_context) };
            gateway.answers_as("L118 to L121", in_path, answer).await;
        }
    }
}

#[tokio::test]
async fn properties_become_attributes() {
    let gateway = gateway().await;
    for property in ["name", "email", "firstName", "lastName", "country", "avatar", "ip"] {
        assert_eq!(matched(&gateway, &format!(r#"{{"key":"a","{property}":"t"}}"#)).await, [property], "L119");
    }
    for (user, flags) in [
        (r#"{"key":"t"}"#, &["key"][..]),
        (r#"{"key":"a","custom":{"custom-one":"t"}}"#, &["custom-one"]),
        (r#"{"key":"a","custom":{"custom-one":["a","t"]}}"#, &["custom-one"]),
        (r#"{"key":"a","custom":{"email":"t"}}"#, &["email"]),
        (r#"{"custom":{"email":"t"},"key":"a","email":"other"}"#, &["email"]),
        // Ignored, because they are not custom attributes.
        (r#"{"key":"a","custom":{"name":"t","key":"t","kind":"t","anonymous":"t","_meta":"t"}}"#, &[]),
        (r#"{"key":"a","custom-one":"t"}"#, &[]),
        (r#"{"key":"a","custom":null}"#, &[]),
        (r#"{"key":"a","privateAttributeNames":["email"],"email":"t"}"#, &["email"]),
        // The last of two counts.
        (r#"{"key":"a","email":"t","email":"u"}"#, &[]),
        (r#"{"key":"t","key":"a"}"#, &[]),
        (r#"{"KEY":"b","key":"t"}"#, &["key"]),
    ] {
        assert_eq!(matched(&gateway, user).await, flags, "L118 to L121: {user}");
    }
}

#[tokio::test]
async fn an_empty_key_opens_streams_and_is_not_evaluated() {
    // L113: a user with an empty key.
    let gateway = gateway().await;
    let user = r#"{"key":""}"#;
    let segment = segment_of(user);
    let env = format!("/sdk/evalx/{ENV_ID}");
    let no_key = || message(400, "User must have a 'key' attribute");
    for (call, expected) in [
        (Call::get(format!("/sdk/evalx/users/{segment}")).key(SDK_KEY), no_key()),
        (reported(user), no_key()),
        (Call::get(format!("/msdk/evalx/contexts/{segment}")).key(MOBILE_KEY), no_key()),
        (Call::report("/msdk/evalx/user", user).key(MOBILE_KEY), no_key()),
        (Call::get(format!("{env}/users/{segment}")), no_key().cors("*", "GET,OPTIONS")),
        (Call::report(format!("{env}/user"), user), no_key().cors("*", "REPORT,OPTIONS")),
    ] {
        gateway.answers_as("L113", call, expected).await;
    }
    for call in [
        Call::get(format!("/meval/{segment}")).key(MOBILE_KEY),
        Call::report("/meval", user).key(MOBILE_KEY),
        Call::get(format!("/eval/{ENV_ID}/{segment}")),
        Call::report(format!("/eval/{ENV_ID}"), user),
    ] {
        gateway.opens_with(&call).await.receives_ping().await;
    }
}
