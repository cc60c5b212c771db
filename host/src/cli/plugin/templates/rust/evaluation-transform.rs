//! Hides flags whose keys begin with a prefix from SDKs that do not evaluate themselves.

use yardarm_plugin::{Context, EvaluationTransform, Plugin, Request, Result, ResultEdit, Results};

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

impl EvaluationTransform for Hide {
    fn transform_evaluation(
        &self,
        _: &dyn Request,
        _: &dyn Context,
        evaluated: &dyn Results,
    ) -> Result<Vec<ResultEdit>> {
        let flags = evaluated.flags();
        let hidden = flags.iter().zip(0..).filter(|(flag, _)| flag.starts_with(&self.0.hide_prefix));
        Ok(hidden.map(|(_, index)| ResultEdit::Drop(index)).collect())
    }
}

yardarm_plugin::export!(Hide: evaluation_transform);
