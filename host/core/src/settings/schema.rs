//! The JSON Schema of a configuration file, for editors and other tools.

use serde_json::{Map, Value, json};

use super::{Bounds, Key, Kind};

/// Units of durations.
const TIME_UNITS: &str = "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y";

/// Returns a JSON Schema (draft 2020-12) of files with these keys. No key is required, because environment variables may
/// set it. The schema is stricter than the reader where values count as not set (empty texts), and where texts stand for
/// numbers and `true` or `false`.
#[must_use]
pub fn schema(keys: &[Key]) -> Value {
    let mut root = table();
    for key in keys {
        insert(&mut root, key.path, value_of(key));
    }
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root
}

/// Returns the schema of a table without keys.
fn table() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

/// Inserts the schema of a value below a table; creates the tables and lists in between.
fn insert(parent: &mut Value, path: &str, schema: Value) {
    let properties = &mut parent["properties"];
    match path.split_once('.') {
        None => properties[path] = schema,
        Some((name, rest)) => match name.strip_suffix("[]") {
            None => insert(or_insert(&mut properties[name], table), rest, schema),
            Some(name) => {
                let list = or_insert(&mut properties[name], || json!({"type": "array", "items": table()}));
                insert(&mut list["items"], rest, schema);
            }
        },
    }
}

fn or_insert(place: &mut Value, new: impl FnOnce() -> Value) -> &mut Value {
    if place.is_null() {
        *place = new();
    }
    place
}

fn value_of(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text | Kind::Path | Kind::OptionalPath => json!({"type": "string"}),
        Kind::Choice(texts) => json!({"enum": texts}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Count => json!({"type": "integer", "minimum": 0}),
        Kind::Duration => json!({
            "type": "string",
            "pattern": format!(r"^(0|([0-9]+(\.[0-9]+)? *({TIME_UNITS}) *)+)$"),
        }),
        Kind::Size => json!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": "^0*[1-9][0-9]* *([bB]|[kKmMgG]([iI]?[bB])?)?$",
        }),
        Kind::Address => json!({
            "type": "string",
            "pattern": r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+(%[0-9]+)?\]):[0-9]{1,5}$",
        }),
        Kind::Url => json!({
            "type": "string",
            "format": "uri",
            "pattern": r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        }),
        Kind::List => json!({"type": ["array", "string"], "items": {"type": "string"}}),
        Kind::Secret => json!({"oneOf": [{"type": "string"}, reference("env"), reference("file")]}),
    };
    let mut about = key.about.to_owned();
    match key.bounds {
        Some(Bounds::Count(least, greatest)) => {
            schema["minimum"] = least.into();
            schema["maximum"] = greatest.into();
        }
        Some(Bounds::Duration(shortest, longest)) => {
            let show = |it| humantime::format_duration(it).to_string();
            about.push_str(&format!(" From {} to {}.", show(shortest), show(longest)));
        }
        None => (),
    }
    schema["description"] = about.into();
    if let Some(default) = default_of(key) {
        schema["default"] = default;
    }
    schema
}

/// Returns the schema of a reference to a secret: `{ env = "NAME" }` or `{ file = "path" }`.
fn reference(kind: &str) -> Value {
    let properties = Map::from_iter([(kind.to_owned(), json!({"type": "string"}))]);
    json!({"type": "object", "additionalProperties": false, "properties": properties, "required": [kind]})
}

fn default_of(key: &Key) -> Option<Value> {
    let text = Some(key.default).filter(|it| !it.is_empty())?;
    Some(match key.kind {
        Kind::Bool => (text == "true").into(),
        Kind::Count => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Kind::List => text.split(',').map(str::trim).collect(),
        _ => text.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
        Key { path, kind, default, about: "Text.", bounds: None }
    }

    #[test]
    fn tables_and_lists_are_nested_by_path() {
        let schema = schema(&[
            key("a.b.on", Kind::Bool, "true"),
            key("a.list[].text", Kind::Text, ""),
            key("a.list[].secret", Kind::Secret, ""),
        ]);
        let table =
            |properties: Value| json!({"type": "object", "additionalProperties": false, "properties": properties});
        let reference = |kind: &str| {
            json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {kind: {"type": "string"}},
                "required": [kind],
            })
        };
        let secret =
            json!({"description": "Text.", "oneOf": [{"type": "string"}, reference("env"), reference("file")]});
        let entry = table(json!({"text": {"type": "string", "description": "Text."}, "secret": secret}));
        let inner = table(json!({"on": {"type": "boolean", "default": true, "description": "Text."}}));
        let mut expected = table(json!({"a": table(json!({"b": inner, "list": {"type": "array", "items": entry}}))}));
        expected["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
        assert_eq!(schema, expected);
    }

    #[test]
    fn bounds_choices_and_defaults_have_the_form_of_the_file() {
        let day = Duration::from_secs(24 * 3600);
        let schema = schema(&[
            Key { bounds: Some(Bounds::Count(1, 5)), ..key("count", Kind::Count, "3") },
            Key { bounds: Some(Bounds::Duration(Duration::ZERO, day)), ..key("time", Kind::Duration, "1h") },
            key("color", Kind::Choice(&["red", "blue"]), "blue"),
            key("list", Kind::List, "a, b"),
        ]);
        let at = |name: &str, field: &str| schema["properties"][name][field].clone();
        assert_eq!([at("count", "minimum"), at("count", "maximum"), at("count", "default")], [1, 5, 3]);
        assert_eq!([at("time", "description"), at("time", "default")], ["Text. From 0s to 1day.", "1h"]);
        assert_eq!((at("color", "enum"), at("color", "default")), (json!(["red", "blue"]), json!("blue")));
        assert_eq!(at("list", "default"), json!(["a", "b"]));
    }
}
