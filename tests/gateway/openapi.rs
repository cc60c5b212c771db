//! The API description says what the admin listener responds with, down to the last property.

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use crate::flags::some_data;
use crate::plugins::{Plugged, gate, put, sample};
use crate::running::{Running, SDK_KEY, Setup};

const TOKEN: &str = "token-of-operators-0ca9a4e1";

#[tokio::test]
async fn responses_are_as_described() {
    let setup = Setup::with(some_data()).events().set("admin.token", TOKEN).set("plugins.capture", "true");
    let plugged = Plugged::start(setup, |folder| {
        put(folder, "request-gate.wasm", sample("request-gate"));
        put(folder, "request-gate.toml", gate(""));
        put(folder, "broken.wasm", "no component");
        let trapping = Guest::new("trapping").hook(GuestHook::EventFilter, guests::TRAP).component();
        put(folder, "trapping.wasm", trapping.expect("a component"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    plugged.wait_until_active("trapping").await;
    plugged.plugin_where("broken", "refused", |row| row["state"] == "refused").await;
    let gateway = &plugged.gateway;
    let call = Call::get("/all").key(SDK_KEY).header("x-gate-token", "open sesame");
    let _stream = gateway.opens_with(&call).await;
    let document = gateway.operator_gets("/api/openapi.json").await.json();
    let mut described = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let schema = &methods["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        described += 1;
        if path == "/api/explain/{ticket}" {
            compare(path, &explanation(gateway, &call).await, schema, &document);
            continue;
        }
        if path == "/api/plugins/{name}/captures" {
            compare(path, &captures(gateway).await, schema, &document);
            continue;
        }
        let response = gateway.operator_gets(path).await.json();
        compare(path, &response, schema, &document);
    }
    assert_eq!(described, 5, "status, environments, plugins, failed calls and explanations");
}

/// Returns the explanation of a request.
async fn explanation(gateway: &Running, call: &Call) -> Value {
    let bearer = format!("Bearer {TOKEN}");
    let operator = async |call: Call| call.key(&bearer).to(gateway.admin).await.json();
    let created = operator(Call::post("/api/explain", "")).await;
    let ticket = created["ticket"].as_str().expect("a ticket").to_owned();
    let _stream = gateway.opens_with(&call.clone().header("yardarm-explain", &ticket)).await;
    let explained = operator(Call::get(format!("/api/explain/{ticket}"))).await;
    assert_eq!(explained["calls"][0]["plugin"], "request-gate", "{explained}");
    explained
}

/// Returns the failed calls of a plugin, after one.
async fn captures(gateway: &Running) -> Value {
    let events = Call::post("/bulk", "[{\"kind\":\"custom\"}]").key(SDK_KEY).header("x-gate-token", "open sesame");
    assert_eq!(gateway.answers(&events).await.status, 202);
    let kept = Call::get("/api/plugins/trapping/captures").key(&format!("Bearer {TOKEN}"));
    within("a capture", async {
        loop {
            let captures = kept.to(gateway.admin).await.json();
            if captures["captures"][0].is_object() {
                return captures;
            }
        }
    })
    .await
}

/// Compares a value with its schema. Properties that are not described, and described ones that are required and missing,
/// fail.
#[track_caller]
fn compare(place: &str, value: &Value, schema: &Value, document: &Value) {
    let schema = resolved(schema, document);
    if schema.as_object().is_some_and(|it| it.keys().all(|key| key == "description")) {
        // Any value.
        return;
    }
    if let Some(choices) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        let of_kind = |it: &&Value| has_kind(value, resolved(it, document));
        let choice = choices.iter().find(of_kind).unwrap_or_else(|| panic!("{place}: {value} is none of {choices:?}"));
        return compare(place, value, choice, document);
    }
    assert!(has_kind(value, schema), "{place}: {value} is not {schema}");
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                let described = properties.and_then(|it| it.get(name)).or_else(|| schema.get("additionalProperties"));
                let described = described.unwrap_or_else(|| panic!("{place}: `{name}` is not described"));
                compare(&format!("{place}.{name}"), value, described, document);
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(fields.contains_key(name.as_str().unwrap()), "{place}: {name} is missing");
            }
        }
        Value::Array(items) => {
            let ordered = schema.get("prefixItems").and_then(Value::as_array);
            for (index, item) in items.iter().enumerate() {
                let described = ordered.and_then(|it| it.get(index)).or_else(|| schema.get("items"));
                let described = described.unwrap_or_else(|| panic!("{place}: items are not described"));
                compare(&format!("{place}[{index}]"), item, described, document);
            }
        }
        _ => (),
    }
}

fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("a schema"),
        None => schema,
    }
}

/// Whether a value has the type of a schema, and is one of its values if it lists some.
fn has_kind(value: &Value, schema: &Value) -> bool {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    let is_listed = schema.get("enum").and_then(Value::as_array).is_none_or(|it| it.contains(value));
    let has_type = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|it| is(it.as_str().unwrap())),
        _ => true,
    };
    is_listed && has_type
}
