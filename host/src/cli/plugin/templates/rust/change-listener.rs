//! Posts which flags have changed: the environment and then one item per line.

use yardarm_plugin::http::{self, HttpRequest};
use yardarm_plugin::{ChangeListener, Changes, Plugin, PluginError, Result};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
}

struct Webhook(Config);

impl Plugin for Webhook {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl ChangeListener for Webhook {
    fn changed(&self, changes: &Changes) -> Result<()> {
        let mut text = format!("{}\n", changes.environment);
        for item in &changes.items {
            text += &format!("{} {}\n", item.kind, item.key);
        }
        let response = http::send(&HttpRequest::post(&self.0.url, text).with_header("content-type", "text/plain"))?;
        match response.status {
            200..300 => Ok(()),
            // The gateway calls again, with later changes, after a pause.
            status => Err(PluginError::temporary(format!("status {status}"))),
        }
    }
}

yardarm_plugin::export!(Webhook: change_listener);
