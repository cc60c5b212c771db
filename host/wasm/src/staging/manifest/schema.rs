//! JSON Schema of binding files, for editors and for checks before a deployment. Its descriptions are the reference of the
//! keys.

use serde_json::{Map, Value, json};

use super::LONGEST_INTERVAL_S;
use crate::vocabulary::{Bind, GRANTS, Hook, LARGEST_MEMORY_MB, LONGEST_DEADLINE_MS, LONGEST_PROMOTION_S};

/// Returns the schema, in draft 2020-12.
#[must_use]
pub fn binding_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Binding file of a plugin of Yardarm",
        "description": "`NAME.toml` belongs to the component `NAME.wasm`.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "plugin": object("What the plugin may do.", plugin()),
            "bind": {
                "type": "array",
                "description": "Where the plugin is called. A file without any retires the plugin.",
                "items": bind(),
            },
        },
    })
}

fn plugin() -> Value {
    let grants: Vec<Value> = GRANTS
        .iter()
        .map(|(grant, about)| {
            json!({
                "description": about,
                "pattern": grant_pattern(grant),
            })
        })
        .collect();
    json!({
        "name": {"type": "string", "description": "Name that the component must declare, as a check that the two files belong together."},
        "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$", "description": "SHA-256 of the component; another one is refused (`hash-mismatch`)."},
        "grants": {"type": "array", "items": {"type": "string", "anyOf": grants}, "default": [], "description": "What the plugin may read and use."},
        "profile": {"enum": ["standard", "large"], "default": "standard", "description": "`large`: the component may have 128 MiB in place of 32 MiB, and an instance 256 MiB of memory, as Python needs."},
        "kv": {"enum": ["memory", "disk", "redis"], "default": "memory", "description": "Where the values are that the plugin stores: in memory as long as a version of it is loaded; in `data.dir`, where they outlive the process; or in the database of `plugins.kv_redis`, which several gateways share."},
        "rollout": {
            "anyOf": [{"enum": ["full", "shadow"]}, object("A gradual rollout.", json!({
                "mode": {"enum": ["shadow"]},
                "percent": {"type": "integer", "minimum": 1, "maximum": 99},
                "promote_after_s": {"type": "integer", "minimum": 1, "maximum": LONGEST_PROMOTION_S},
            }))],
            "default": "full",
            "description": "How a new version replaces the running one: at once; not before it is promoted, while its replies to copies of calls are compared (`\"shadow\"`); or while it has some of the callers (`{ percent = 5 }`). With `promote_after_s`, it is promoted after that time if it is not worse: `{ mode = \"shadow\", promote_after_s = 3600 }`.",
        },
        "config": {"type": "object", "default": {}, "description": "Configuration, which the plugin defines and receives as JSON. `{ secret = \"NAME\" }` in place of a text is the content of a file in `plugins.secrets_dir`."},
    })
}

fn bind() -> Value {
    let patterns = |about: &str| json!({"type": "array", "items": {"type": "string"}, "description": about});
    let mut schema = object(
        "One hook.",
        json!({
            "hook": {"enum": Hook::ALL.map(Hook::name), "description": "What the plugin decides or changes. Required."},
            "environments": patterns("Patterns for names of environments, or for `vendor/name`, with `*` and `?`. All if absent. For `route-resolver`: those that it may choose."),
            "sdk": {"type": "array", "items": {"enum": ["server", "mobile", "client"]}, "description": "Kinds of callers. All if absent."},
            "routes": patterns("Patterns for IDs of routes, such as `server.*` (see docs/routes.md). All if absent."),
            "phase": {"enum": ["early", "normal", "late"], "default": "normal", "description": "Primary sort key of a chain."},
            "priority": {"type": "integer", "default": 100, "description": "Secondary sort key: lower values are called first, and equal ones by name."},
            "on_failure": {"type": "string", "description": "What happens if a call fails or there is no plugin that must be there: see the table of hooks."},
            "i_accept_unauthenticated": {"type": "boolean", "default": false, "description": "Must be `true` for `on_failure = \"open\"`, which admits every request while the plugin fails."},
            "required": {"enum": [true, false, "always"], "description": "Whether the hook fails while the plugin does not run: `true` from the start of the gateway and once it was active, `\"always\"` as soon as the file is there. `true` for `request-auth`, `event-filter` and `route-resolver` if absent."},
            "interval_s": {"type": "integer", "minimum": 1, "maximum": LONGEST_INTERVAL_S, "default": Bind::automatic(Hook::Background).interval.as_secs(), "description": "Seconds between two calls of `background`."},
            "isolation": {"enum": ["call", "pool"], "description": "`call`: each call has an instance of its own, which is created up to ten seconds before it; `pool`: instances are used again. Chosen by measurement if absent; what the manifest says about state is respected."},
            "limits": object("Limits of a call.", json!({
                "deadline_ms": {"type": "integer", "minimum": 1, "maximum": LONGEST_DEADLINE_MS, "description": "Milliseconds that a call may take: see the table of hooks."},
                "memory_mb": {"type": "integer", "minimum": 1, "maximum": LARGEST_MEMORY_MB, "description": "Mebibytes of memory of an instance: see the table of hooks."},
            })),
        }),
    );
    schema["required"] = json!(["hook"]);
    schema["allOf"] = Hook::ALL.map(of_hook).into();
    schema
}

/// Returns what applies to bindings of one hook only.
fn of_hook(hook: Hook) -> Value {
    let default = Bind::automatic(hook);
    let policies: Vec<_> = hook.policies().iter().map(|policy| policy.name()).collect();
    json!({
        "if": {"properties": {"hook": {"const": hook.name()}}},
        "then": {"properties": {
            "on_failure": {"enum": policies, "default": default.on_failure.name()},
            "limits": {"properties": {
                "deadline_ms": {"default": u64::try_from(default.deadline.as_millis()).unwrap_or(u64::MAX)},
                "memory_mb": {"default": default.memory_mb},
            }},
        }},
    })
}

fn object(about: &str, properties: Value) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("description".to_owned(), about.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    schema.insert("properties".to_owned(), properties);
    schema.into()
}

/// Returns a regular expression for what a grant looks like.
fn grant_pattern(grant: &str) -> String {
    match grant.split_once('<') {
        Some((prefix @ ("header:" | "http-out:" | "secret:"), _)) => format!("^{prefix}[^*?]+$"),
        Some((prefix, _)) => format!("^{prefix}.+$"),
        None => format!("^{grant}$"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staging::manifest::Manifest;

    /// Returns whether the schema accepts a file.
    fn is_accepted(text: &str) -> bool {
        let table: toml::Table = text.parse().unwrap();
        let value = serde_json::to_value(&table).unwrap();
        jsonschema::validator_for(&binding_schema()).unwrap().is_valid(&value)
    }

    #[test]
    fn schema_and_parser_know_the_same_keys() {
        let schema = binding_schema();
        let known = |path: &str| -> Vec<String> {
            schema.pointer(path).and_then(Value::as_object).unwrap().keys().cloned().collect()
        };
        let bind = "/properties/bind/items/properties";
        for (path, header) in [
            ("/properties/plugin/properties".to_owned(), "[plugin]\n"),
            (bind.to_owned(), "[[bind]]\n"),
            (format!("{bind}/limits/properties"), "[[bind]]\nhook = \"request-auth\"\n[bind.limits]\n"),
        ] {
            // A value of a wrong type is a fault of another kind than an unknown key.
            for key in known(&path) {
                let faults = Manifest::parse(&format!("{header}{key} = 1979-05-27")).unwrap_err().faults.join("\n");
                assert!(!faults.contains("unknown key"), "{key}: {faults}");
            }
            let faults = Manifest::parse(&format!("{header}other-key = 1")).unwrap_err().faults.join("\n");
            assert!(faults.contains("unknown key"), "{header}: {faults}");
        }
    }

    #[test]
    fn schema_and_parser_agree() {
        let bind = |keys: &str| format!("[[bind]]\nhook = \"request-auth\"\n{keys}");
        for (text, is_valid) in [
            ("", true),
            ("[plugin]\ngrants = [\"kv\", \"header:X-Tenant\", \"http-out:https://a.example/x\", \"secret:s\"]", true),
            ("[plugin]\ngrants = [\"everything\"]", false),
            ("[plugin]\ngrants = [\"secret:*\"]", false),
            ("[plugin]\ngrants = [\"context-attributes:*\"]", true),
            ("[plugin]\nkv = \"disk\"\nprofile = \"large\"\nconfig = { a = { secret = \"s\" } }", true),
            ("[plugin]\nkv = \"redis\"", true),
            ("[plugin]\nkv = \"etcd\"", false),
            ("[plugin]\nrollout = \"shadow\"", true),
            ("[plugin]\nrollout = { percent = 5, promote_after_s = 60 }", true),
            ("[plugin]\nrollout = { percent = 100 }", false),
            ("[plugin]\nrollout = \"canary\"", false),
            ("[plugin]\nsha256 = \"12\"", false),
            ("[other]", false),
            ("[[bind]]", false),
            ("[[bind]]\nhook = \"background\"\ninterval_s = 0", false),
            ("[[bind]]\nhook = \"background\"\ninterval_s = 5", true),
            ("[[bind]]\nhook = \"event-filter\"\non_failure = \"open\"", false),
            ("[[bind]]\nhook = \"event-filter\"\non_failure = \"hold\"", true),
            (&bind("on_failure = \"open\"\ni_accept_unauthenticated = true"), true),
            (&bind("required = \"always\"\npriority = -3\nphase = \"late\"\nisolation = \"pool\""), true),
            (&bind("required = \"never\""), false),
            (&bind("sdk = [\"server\"]\nroutes = [\"server.*\"]\nenvironments = [\"a\"]"), true),
            (&bind("sdk = [\"toaster\"]"), false),
            (&bind("limits = { deadline_ms = 60001 }"), false),
            (&bind("limits = { deadline_ms = 60000, memory_mb = 256 }"), true),
            (&bind("limits = { memory_mb = 257 }"), false),
            (&bind("limits = { threads = 2 }"), false),
        ] {
            assert_eq!(Manifest::parse(text).is_ok(), is_valid, "the parser: {text}");
            assert_eq!(is_accepted(text), is_valid, "the schema: {text}");
        }
    }
}
