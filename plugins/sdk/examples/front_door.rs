//! Admits callers that present a token.

use yardarm_plugin::{Decision, DenialClass, Plugin, Request, RequestAuth, Result};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    token: String,
}

struct FrontDoor(Config);

impl Plugin for FrontDoor {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl RequestAuth for FrontDoor {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        Ok(match request.header("x-token") {
            Some(token) if token == self.0.token => Decision::allow("visitor").tag("via", "token"),
            _ => Decision::deny(DenialClass::Forbidden),
        })
    }
}

yardarm_plugin::export!(FrontDoor: request_auth);
