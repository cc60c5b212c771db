//! Locates contexts and their keys in an event.

use yardarm_plugin::Result;
use yardarm_plugin::json::{self, Object};

use crate::config::{Action, Rules};
use crate::context;

/// Applies the rules to an event of a kind; returns `None` if nothing changes.
pub(crate) fn redact(rules: &Rules, kind: &str, body: &str) -> Result<Option<String>> {
    let mut event = Object::parse(body)?;
    // In events of older SDKs the meaning of `key` and `previousKey` depends on the kind of event; in `alias` events
    // two other members contain the kinds of their contexts.
    let kinds = if kind == "alias" { key_kinds(&event) } else { Default::default() };
    let mut changed = false;
    for member in event.iter_mut() {
        let new = match member.name() {
            "context" => context::redact(rules, member.value())?,
            "user" => context::redact_user(rules, member.value())?,
            "contextKeys" => context_keys(rules, member.value())?,
            "userKey" => key(rules, "user", member.value()),
            "key" if kind == "identify" => key(rules, "user", member.value()),
            "key" if kind == "alias" => key(rules, &kinds.0, member.value()),
            "previousKey" if kind == "alias" => key(rules, &kinds.1, member.value()),
            _ => None,
        };
        if let Some(new) = new {
            member.set_value(new);
            changed = true;
        }
    }
    Ok(changed.then(|| event.to_json()))
}

/// Returns the kinds of the two contexts of an `alias` event.
fn key_kinds(event: &Object<'_>) -> (String, String) {
    let kind = |name| match event.text(name) {
        // An anonymous user is a user; both must have the same hash.
        None => "user".to_owned(),
        Some(kind) if kind == "anonymousUser" => "user".to_owned(),
        Some(kind) => kind.into_owned(),
    };
    (kind("contextKind"), kind("previousContextKind"))
}

/// Redacts the keys of an event that contains only the keys of its contexts.
fn context_keys(rules: &Rules, value: &str) -> Result<Option<String>> {
    if !value.starts_with('{') {
        return Ok(None);
    }
    let mut keys = Object::parse(value)?;
    let mut changed = false;
    for member in keys.iter_mut() {
        if let Some(new) = key(rules, member.name(), member.value()) {
            member.set_value(new);
            changed = true;
        }
    }
    Ok(changed.then(|| keys.to_json()))
}

/// Redacts a key of a context of a kind, in any position.
fn key(rules: &Rules, kind: &str, value: &str) -> Option<String> {
    (rules.action(kind, &[], "key") == Action::Hash && json::text(value).is_some()).then(|| rules.hash(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use yardarm_plugin::testing::TestRequest;
    use yardarm_plugin::{Event, EventFilter, Plugin, PluginError, Verdict};

    use crate::EventRedactor;

    fn plugin(config: &str) -> EventRedactor {
        EventRedactor::new(serde_json::from_str(config).unwrap()).unwrap()
    }

    /// Filters an event; returns the resulting text, or `None` if it is dropped.
    fn filter(config: &str, kind: &str, body: &str) -> Option<String> {
        match plugin(config).filter(&TestRequest::default(), &Event::new(kind, body)).unwrap() {
            Verdict::Keep => Some(body.to_owned()),
            Verdict::Drop => None,
            Verdict::Replace(mut bodies) => Some(String::from_utf8(bodies.remove(0)).unwrap()),
        }
    }

    const HASHING: &str = r#"{"hash": ["key", "org.name"], "salt": "0123456789abcdef"}"#;

    #[test]
    fn attributes_are_dropped_from_all_shapes_of_contexts() {
        let config = r#"{"drop": ["email", "org.name", "*.address.street"]}"#;
        for (before, after) in [
            // One context.
            (
                r#"{"kind":"index","creationDate":1.0e3,"context":{"kind":"user","key":"k","email":"e","name":"n"}}"#,
                r#"{"kind":"index","creationDate":1.0e3,"context":{"kind":"user","key":"k","name":"n","_meta":{"redactedAttributes":["email"]}}}"#,
            ),
            // Several contexts.
            (
                r#"{"context":{"kind":"multi","user":{"key":"k","name":"n"},"org":{"key":"o","name":"n"}}}"#,
                r#"{"context":{"kind":"multi","user":{"key":"k","name":"n"},"org":{"key":"o","_meta":{"redactedAttributes":["name"]}}}}"#,
            ),
            // Inside an attribute; attributes that were redacted before stay listed.
            (
                r#"{"context":{"kind":"x","key":"k","address":{"street":"s","no":1.50},"_meta":{"redactedAttributes":["a"]}}}"#,
                r#"{"context":{"kind":"x","key":"k","address":{"no":1.50},"_meta":{"redactedAttributes":["a","/address/street"]}}}"#,
            ),
            // A user of older SDKs.
            (
                r#"{"user":{"key":"k","email":"e","custom":{"email":"f","n":0.10}}}"#,
                r#"{"user":{"key":"k","custom":{"n":0.10},"privateAttrs":["email"]}}"#,
            ),
            // The same after a relay renamed it.
            (
                r#"{"context":{"key":"k","custom":{"email":"f"},"privateAttrs":["name"]}}"#,
                r#"{"context":{"key":"k","custom":{},"privateAttrs":["name","email"]}}"#,
            ),
            // Escaped names and duplicate names.
            (
                r#"{"context":{"kind":"user","key":"k","em\u0061il":"e","email":"f"}}"#,
                r#"{"context":{"kind":"user","key":"k","_meta":{"redactedAttributes":["email"]}}}"#,
            ),
        ] {
            assert_eq!(filter(config, "index", before).as_deref(), Some(after), "{before}");
        }
    }

    #[test]
    fn untouched_parts_are_kept_unchanged() {
        let config = r#"{"drop": ["email", "org.name", "*.address.street"]}"#;
        for body in [
            r#"{ "kind": "custom", "data": {"email": "not a context"}, "metricValue": 1.50 }"#,
            r#"{"context":{"kind":"user","key":"k","name":"n"}}"#,
            r#"{"context":{"kind":"user","key":"k","address":"a text"}}"#,
            r#"{"context":null,"user":"odd","contextKeys":[]}"#,
            "{}",
        ] {
            let verdict = plugin(config).filter(&TestRequest::default(), &Event::new("custom", body));
            assert_eq!(verdict, Ok(Verdict::Keep), "{body}");
        }
    }

    #[test]
    fn keys_have_the_same_hash_in_every_position() {
        let hash = |text: &str| plugin(HASHING).0.hash(text);
        let (k, o) = (hash("\"k\""), hash("\"o\""));
        for (kind, before, after) in [
            (
                "index",
                r#"{"context":{"kind":"user","key":"k"}}"#,
                format!(r#"{{"context":{{"kind":"user","key":{k}}}}}"#),
            ),
            (
                "custom",
                r#"{"contextKeys":{"user":"k","org":"o"},"key":"event"}"#,
                format!(r#"{{"contextKeys":{{"user":{k},"org":{o}}},"key":"event"}}"#),
            ),
            ("feature", r#"{"userKey":"k","key":"flag"}"#, format!(r#"{{"userKey":{k},"key":"flag"}}"#)),
            ("identify", r#"{"key":"k","user":{"key":"k"}}"#, format!(r#"{{"key":{k},"user":{{"key":{k}}}}}"#)),
            (
                "alias",
                r#"{"key":"k","contextKind":"user","previousKey":"o","previousContextKind":"anonymousUser"}"#,
                format!(
                    r#"{{"key":{k},"contextKind":"user","previousKey":{o},"previousContextKind":"anonymousUser"}}"#
                ),
            ),
            (
                "index",
                r#"{"context":{"kind":"multi","org":{"key":"o","name":"k"},"user":{"key":"k","name":"k"}}}"#,
                format!(
                    r#"{{"context":{{"kind":"multi","org":{{"key":{o},"name":{k}}},"user":{{"key":{k},"name":"k"}}}}}}"#
                ),
            ),
        ] {
            assert_eq!(filter(HASHING, kind, before), Some(after), "{before}");
        }
    }

    #[test]
    fn attributes_declared_private_are_removed() {
        let before = r#"{"context":{"kind":"user","key":"k","a":1,"b":{"c/d":2,"e":3},"_meta":{"privateAttributes":["a","/b/c~1d","z"]}}}"#;
        let after = r#"{"context":{"kind":"user","key":"k","b":{"e":3},"_meta":{"privateAttributes":["a","/b/c~1d","z"],"redactedAttributes":["a","/b/c~1d"]}}}"#;
        assert_eq!(filter("{}", "index", before).as_deref(), Some(after));
        assert_eq!(filter(r#"{"keep_declared_private": true}"#, "index", before).as_deref(), Some(before));
        let before =
            r#"{"user":{"key":"k","email":"e","custom":{"/a":1,"b":2},"privateAttributeNames":["email","/a"]}}"#;
        let after = r#"{"user":{"key":"k","custom":{"b":2},"privateAttributeNames":["email","/a"],"privateAttrs":["/a","email"]}}"#;
        assert_eq!(filter("{}", "index", before).as_deref(), Some(after));
    }

    #[test]
    fn kinds_are_dropped_entirely_without_parsing() {
        let config = r#"{"drop_kinds": ["click", "page*"], "keep_declared_private": true}"#;
        for (kind, expected) in
            [("click", Verdict::Drop), ("pageview", Verdict::Drop), ("custom", Verdict::Keep), ("", Verdict::Keep)]
        {
            let mut event = Event::default();
            event.kind = Some(kind.to_owned());
            assert_eq!(plugin(config).filter(&TestRequest::default(), &event), Ok(expected), "{kind}");
        }
    }

    #[test]
    fn unreadable_events_do_not_pass() {
        let plugin = plugin(r#"{"drop": ["email"]}"#);
        for event in [Event::default(), Event::new("index", "[]"), Event::new("index", "{")] {
            let answer = plugin.filter(&TestRequest::default(), &event);
            assert!(matches!(answer, Err(PluginError::InvalidInput(_))), "{event:?}");
        }
        let request = TestRequest::default().with_vendor("harness");
        assert!(plugin.filter(&request, &Event::new("", "{}")).is_err());
    }

    proptest! {
        #[test]
        fn no_dropped_attribute_survives(
            name in "[a-z]{1,3}", depth in 0..4_usize, legacy in any::<bool>(), value in "[a-zA-Z0-9]{6}",
        ) {
            let secret = format!("SECRET{value}");
            let mut context = format!(r#"{{"key":"k","{name}":"n","email":"{secret}","custom":{{"email":"{secret}"}}}}"#);
            if !legacy {
                context = format!(r#"{{"kind":"user","key":"k","{name}":"n","email":"{secret}"}}"#);
            }
            if depth > 1 && !legacy {
                context = format!(r#"{{"kind":"multi","user":{context},"org":{context}}}"#);
            }
            let place = if legacy { "user" } else { "context" };
            let body = format!(r#"{{"kind":"index","{place}":{context},"x":[1.0,"{name}"]}}"#);
            let after = filter(r#"{"drop": ["email"]}"#, "index", &body).unwrap();
            prop_assert!(!after.contains(&secret), "{}", after);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&after).is_ok());
        }

        #[test]
        fn no_body_causes_a_panic(body in "[\\{\\}\\[\\]\":,a\\\\0-9. ]{0,40}", place in "context|user|contextKeys") {
            let body = format!(r#"{{"{place}":{body}}}"#);
            let _ = plugin(HASHING).filter(&TestRequest::default(), &Event::new("alias", body));
        }
    }
}
