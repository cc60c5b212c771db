//! Asks callers for a token, an address or headers before they get flags.
//!
//! Client-side environment IDs are public: whoever reads a web page has one. This plugin lets only those callers
//! proceed that also come from the right place, or carry what only the right applications carry. All rules that are
//! configured must hold; callers of other kinds than `sdks` pass, since nobody said anything about them.

mod cidr;
mod rules;
mod tokens;

use yardarm_plugin::{Decision, Plugin, RequestAuth, RequestFacts, Result, metrics};

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
    fn authenticate(&self, facts: &RequestFacts) -> Result<Decision> {
        Ok(match self.0.judge(facts)? {
            // An `abstain` would do if another plugin decided, but alone in its chain it would shut these callers out.
            Ruling::NotConcerned => Decision::allow("anyone").tag("gate", "not-concerned"),
            Ruling::Passed { principal } => Decision::allow(principal).tag("gate", "passed"),
            Ruling::Refused { rule } => {
                metrics::count("refused_total", 1, &[("rule", rule)]);
                Decision::deny(self.0.denial())
            }
        })
    }
}

yardarm_plugin::export!(RequestGate: request_auth);
