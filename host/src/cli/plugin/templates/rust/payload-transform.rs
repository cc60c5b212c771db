//! Hides flags whose keys begin with a prefix from all SDKs.

use yardarm_plugin::{Edit, Items, PayloadTransform, Plugin, Result};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    hide_prefix: String,
}

struct Hide(Config);

impl Plugin for Hide {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl PayloadTransform for Hide {
    fn transform_payload(&self, items: &dyn Items) -> Result<Vec<Edit>> {
        let changed = items.changed();
        let hidden = changed
            .iter()
            .zip(0..)
            .filter(|(item, _)| item.kind == "flag" && !item.is_deleted && item.key.starts_with(&self.0.hide_prefix));
        Ok(hidden.map(|(_, index)| Edit::Drop(index)).collect())
    }
}

yardarm_plugin::export!(Hide: payload_transform);
