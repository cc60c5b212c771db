//! Requires a token, an address or headers of callers before they receive flags.
//!
//! Client-side environment IDs are public: they are contained in web pages. This plugin admits only those callers that
//! also have an accepted address, or send what only the operator's own applications send. All configured rules must
//! hold; kinds of callers that are not in `sdks` are admitted, since the rules do not apply to them.

mod cidr;
mod rules;
mod tokens;

use yardarm_plugin::{Decision, Plugin, Request, RequestAuth, Result, metrics};

use crate::rules::{Config, Rules, Ruling};

/// The plugin.
struct RequestGate(Rules);

impl Plugin for RequestGate {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Rules::new(config).map(Self)
    }
}

impl RequestAuth for RequestGate {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        Ok(match self.0.judge(request)? {
            // With `abstain`, these callers would be denied if the plugin is alone in its chain.
            Ruling::NotConcerned => Decision::allow("anyone").tag("gate", "not-concerned"),
            Ruling::Passed { principal } => Decision::allow(principal).tag("gate", "passed"),
            Ruling::Refused { rule } => {
                metrics::count("refused_total", 1, &[("rule", rule)]);
                Decision::deny(self.0.denial(rule))
            }
        })
    }
}

yardarm_plugin::export!(RequestGate: request_auth);
