//! Tells flags the country that a proxy has found.

use yardarm_plugin::{Attribute, Context, ContextEnrichment, Plugin, Request, Result};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    kind: String,
}

struct Country(Config);

impl Plugin for Country {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl ContextEnrichment for Country {
    fn enrich(&self, request: &dyn Request, context: &dyn Context) -> Result<Vec<Attribute>> {
        let kind = &self.0.kind;
        if !context.kinds().contains(kind) {
            return Ok(Vec::new());
        }
        let country = request.header("x-country");
        Ok(country.iter().map(|country| Attribute::text(kind, "country", country)).collect())
    }
}

yardarm_plugin::export!(Country: context_enrichment);
