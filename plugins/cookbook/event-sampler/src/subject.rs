//! Finds the context of an event, in the forms that SDKs of several generations send.

use yardarm_plugin::Result;
use yardarm_plugin::json::Object;

/// Returns the key of the context of a kind; `None` if the event has none.
pub(crate) fn key(event: &str, kind: &str) -> Result<Option<String>> {
    let event = Object::parse(event)?;
    if let Some(keys) = event.get("contextKeys") {
        return Ok(Object::parse(keys)?.text(kind).map(String::from));
    }
    if let Some(context) = event.get("context") {
        let context = Object::parse(context)?;
        return match context.text("kind").as_deref().unwrap_or("user") {
            "multi" => context.get(kind).map_or(Ok(None), of),
            only => Ok(context.text("key").filter(|_| only == kind).map(String::from)),
        };
    }
    // Before contexts there were users.
    match event.get("user") {
        _ if kind != "user" => Ok(None),
        Some(user) => of(user),
        None => Ok(event.text("userKey").map(String::from)),
    }
}

fn of(context: &str) -> Result<Option<String>> {
    Ok(Object::parse(context)?.text("key").map(String::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_several_forms() {
        for (event, expected) in [
            (r#"{"contextKeys":{"user":"ada","org":"a"}}"#, Some("ada")),
            (r#"{"contextKeys":{"org":"a"}}"#, None),
            (r#"{"context":{"kind":"user","key":"ada"}}"#, Some("ada")),
            (r#"{"context":{"key":"ada"}}"#, Some("ada")),
            (r#"{"context":{"kind":"org","key":"a"}}"#, None),
            (r#"{"context":{"kind":"multi","org":{"key":"a"},"user":{"key":"ada"}}}"#, Some("ada")),
            (r#"{"context":{"kind":"multi","org":{"key":"a"}}}"#, None),
            (r#"{"user":{"key":"ada"}}"#, Some("ada")),
            (r#"{"userKey":"ada"}"#, Some("ada")),
            ("{}", None),
        ] {
            assert_eq!(key(event, "user").unwrap().as_deref(), expected, "{event}");
        }
        assert_eq!(key(r#"{"userKey":"ada"}"#, "org"), Ok(None));
        assert!(key("[]", "user").is_err());
    }
}
