//! Admits callers that present a token.

use yardarm_plugin::{Decision, DenialClass, Plugin, Request, RequestAuth, Result};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    token: String,
}

struct Gate(Config);

impl Plugin for Gate {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl RequestAuth for Gate {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        Ok(match request.header("x-token") {
            Some(token) if token == self.0.token => Decision::allow("visitor"),
            _ => Decision::deny(DenialClass::Forbidden),
        })
    }
}

yardarm_plugin::export!(Gate: request_auth);
