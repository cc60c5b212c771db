//! Chooses the environment of the tenant that a proxy names.

use yardarm_plugin::{Plugin, Request, Result, RouteResolver};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    prefix: String,
}

struct Tenants(Config);

impl Plugin for Tenants {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl RouteResolver for Tenants {
    fn resolve(&self, request: &dyn Request) -> Result<Option<String>> {
        Ok(request.header("x-tenant").map(|tenant| format!("{}{tenant}", self.0.prefix)))
    }
}

yardarm_plugin::export!(Tenants: route_resolver);
