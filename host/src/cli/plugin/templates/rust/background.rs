//! Admits callers that present a token of a list, which is downloaded now and then: one token per line.

use std::collections::BTreeSet;

use yardarm_plugin::http::{self, HttpRequest};
use yardarm_plugin::{
    Background, Decision, DenialClass, Plugin, PluginError, Published, Request, RequestAuth, Result, shared,
};

/// The configuration, as under `plugin.config` in the binding file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
}

struct Gate(Config);

impl Plugin for Gate {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Background for Gate {
    fn refresh(&self) -> Result<Option<Published>> {
        let response = http::send(&HttpRequest::get(&self.0.url))?;
        let list = response.text().filter(|_| response.status == 200);
        let list = list.ok_or_else(|| PluginError::temporary(format!("status {}", response.status)))?;
        let tokens: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty()).collect();
        Ok(Some(tokens.into_iter().map(|token| (token.to_owned(), Vec::new())).collect()))
    }
}

impl RequestAuth for Gate {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        if shared::version() == 0 {
            // There was no list yet. SDKs come back, which they would not do if they were denied as forbidden.
            return Ok(Decision::deny(DenialClass::Unavailable));
        }
        Ok(match request.header("x-token") {
            Some(token) if shared::get(&token).is_some() => Decision::allow("visitor"),
            _ => Decision::deny(DenialClass::Forbidden),
        })
    }
}

yardarm_plugin::export!(Gate: background, request_auth);
