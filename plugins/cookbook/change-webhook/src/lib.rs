//! Posts changes of flag data to a chat or a webhook.
//!
//! The body is `{"text": "…"}`, which Slack, Mattermost and others show as a message. With a key, the request is signed: the
//! header `x-yardarm-signature` is HMAC-SHA-256 of the time, a dot and the body, where `x-yardarm-timestamp` is the time.

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use yardarm_plugin::http::{self, HttpRequest};
use yardarm_plugin::{ChangeListener, Changes, ItemHead, Plugin, PluginError, Result};

/// Items that a message lists at most.
const MOST_LISTED: usize = 20;

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where messages are posted; a secret if its path is one.
    url: String,
    /// Key of the signatures; without one, requests are not signed.
    key: Option<String>,
}

/// The plugin.
struct ChangeWebhook {
    url: String,
    hmac: Option<Hmac<Sha256>>,
}

impl Plugin for ChangeWebhook {
    type Config = Config;

    fn new(Config { url, key }: Config) -> Result<Self> {
        let hmac = key.map(|key| Hmac::new_from_slice(key.as_bytes()).map_err(PluginError::internal)).transpose()?;
        Ok(Self { url, hmac })
    }
}

impl ChangeListener for ChangeWebhook {
    fn changed(&self, changes: &Changes) -> Result<()> {
        let body = serde_json::json!({"text": text(changes)}).to_string();
        let mut request = HttpRequest::post(&self.url, body.as_str()).with_header("content-type", "application/json");
        if let Some(hmac) = &self.hmac {
            let signature = hmac.clone().chain_update(format!("{}.{body}", changes.at_ms)).finalize().into_bytes();
            request = request
                .with_header("x-yardarm-timestamp", changes.at_ms.to_string())
                .with_header("x-yardarm-signature", format!("sha256={signature:x}"));
        }
        match http::send(&request)?.status {
            200..300 => Ok(()),
            status @ (408 | 429 | 500..) => Err(PluginError::temporary(format_args!("the webhook answered {status}"))),
            // A repetition would not be accepted either.
            status => Err(PluginError::invalid_input(format_args!("the webhook answered {status}"))),
        }
    }
}

/// Returns the message about changes.
fn text(changes: &Changes) -> String {
    let Changes { vendor, environment, items, left_out, .. } = changes;
    let listed: Vec<_> = items.iter().take(MOST_LISTED).map(describe).collect();
    let listed = if listed.is_empty() { "all flag data was read again".to_owned() } else { listed.join(", ") };
    match items.len().saturating_sub(MOST_LISTED) + *left_out as usize {
        0 => format!("{vendor}/{environment}: {listed}"),
        more => format!("{vendor}/{environment}: {listed} and {more} more"),
    }
}

fn describe(item: &ItemHead) -> String {
    let ItemHead { kind, key, version, is_deleted, .. } = item;
    if *is_deleted { format!("{kind} `{key}` was deleted") } else { format!("{kind} `{key}` is at version {version}") }
}

yardarm_plugin::export!(
    ChangeWebhook: change_listener;
    manifest = r#"{"grants": [
        {"grant": "http-out:*", "why": "to post to the webhook"},
        {"grant": "secret:*", "why": "the URL of the webhook, and the key of signatures"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::http::HttpResponse;
    use yardarm_plugin::testing::{respond, take_sent};

    use super::*;

    const URL: &str = "https://hooks.example.com/flags";

    fn plugin() -> ChangeWebhook {
        from_config(&format!(r#"{{"url": "{URL}", "key": "a shared secret"}}"#)).unwrap()
    }

    fn changes() -> Changes {
        let mut changes = Changes::new("launchdarkly", "production").with_changed("flag", "checkout", 8);
        changes.at_ms = 1_767_225_600_000;
        changes
    }

    #[test]
    fn a_message_is_signed() {
        respond(URL, HttpResponse::new(200, "ok"));
        plugin().changed(&changes()).unwrap();
        let sent = take_sent().remove(0);
        let body = r#"{"text":"launchdarkly/production: flag `checkout` is at version 8"}"#;
        assert_eq!((sent.method.as_str(), sent.body.as_deref()), ("POST", Some(body.as_bytes())));
        let header = |name: &str| {
            let value = sent.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            String::from_utf8(value.unwrap()).unwrap()
        };
        assert_eq!(header("x-yardarm-timestamp"), "1767225600000");
        // printf '%s' '1767225600000.{…}' | openssl dgst -sha256 -hmac 'a shared secret'
        assert_eq!(
            header("x-yardarm-signature"),
            "sha256=5b2e3fbd2c32b1f224db5c6176d4d426a027f92e8d3e822ed770c86ed41f5461"
        );
    }

    #[test]
    fn what_may_pass_is_repeated() {
        assert!(matches!(plugin().changed(&changes()), Err(PluginError::Temporary(_))), "no response");
        for (status, is_temporary) in [(500, true), (503, true), (429, true), (404, false), (302, false)] {
            respond(URL, HttpResponse::new(status, ""));
            let error = plugin().changed(&changes()).unwrap_err();
            assert_eq!(matches!(error, PluginError::Temporary(_)), is_temporary, "{error}");
        }
    }

    #[test]
    fn messages_name_what_changed() {
        assert_eq!(text(&Changes::new("harness", "eu")), "harness/eu: all flag data was read again");
        let mut many = (0..22).fold(Changes::new("harness", "eu"), |it, n| it.with_changed("flag", &n.to_string(), 1));
        many.left_out = 3;
        many.items[1].is_deleted = true;
        let text = text(&many);
        assert!(text.starts_with("harness/eu: flag `0` is at version 1, flag `1` was deleted, "), "{text}");
        assert!(text.ends_with("flag `19` is at version 1 and 5 more"), "{text}");
    }
}
