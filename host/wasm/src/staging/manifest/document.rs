//! The reference of binding files, generated from their schema and from the hooks' defaults.

use std::fmt::Write;

use serde_json::Value;

use super::binding_schema;
use crate::vocabulary::{Bind, GRANTS, Hook};

/// Returns the tables of keys, hooks and grants, in Markdown.
#[must_use]
pub fn bindings_document() -> String {
    let schema = binding_schema();
    let bind = &schema["properties"]["bind"]["items"];
    let mut text = "## Keys\n\n| Key | Values | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for (prefix, object) in [
        ("plugin", &schema["properties"]["plugin"]),
        ("bind[]", bind),
        ("bind[].limits", &bind["properties"]["limits"]),
    ] {
        for (key, value) in object["properties"].as_object().into_iter().flatten() {
            if value.get("properties").is_none() {
                let default = value.get("default").map_or_else(|| "none".to_owned(), |it| format!("`{it}`"));
                let about = value["description"].as_str().unwrap_or_default();
                let _ = writeln!(text, "| `{prefix}.{key}` | {} | {default} | {about} |", values(value));
            }
        }
    }
    text += "\n## Hooks\n\n| Hook | `on_failure` | `deadline_ms` | `memory_mb` |\n|---|---|---|---|\n";
    for hook in Hook::ALL {
        let default = Bind::automatic(hook);
        let policies: Vec<_> = hook.policies().iter().map(|it| format!("`{}`", it.name())).collect();
        let (deadline, memory) = (default.deadline.as_millis(), default.memory_mb);
        let _ = writeln!(text, "| `{hook}` | {} | {deadline} | {memory} |", policies.join(", "));
    }
    text += "\n## Grants\n\n| Grant | Gives |\n|---|---|\n";
    for (grant, about) in GRANTS {
        let _ = writeln!(text, "| `{grant}` | {about} |");
    }
    text
}

/// Returns what a value may be.
fn values(schema: &Value) -> String {
    let code = |value: &Value| format!("`{value}`");
    if let Some(known) = schema["enum"].as_array() {
        return known.iter().map(code).collect::<Vec<_>>().join(", ");
    }
    if let Some(forms) = schema["anyOf"].as_array().filter(|_| schema["type"].is_null()) {
        return forms.iter().map(values).collect::<Vec<_>>().join(", ");
    }
    match (schema["type"].as_str(), schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some("integer"), Some(least), Some(most)) => format!("{least} to {most}"),
        (Some("integer"), ..) => "number".to_owned(),
        (Some("array"), ..) => format!("list of {}", values(&schema["items"])),
        (Some("object"), ..) => "table".to_owned(),
        (Some("string"), ..) => "text".to_owned(),
        (Some(other), ..) => other.to_owned(),
        (None, ..) => String::new(),
    }
}
