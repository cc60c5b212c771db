//! Admits callers by the country and the tags of their network.
//!
//! A table gives networks a country and tags; of several networks that contain an address the smallest counts. The rules name
//! countries and tags. What the table knows of a caller becomes its identity, which later hooks can read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use yardarm_plugin::{Decision, Denial, DenialClass, Plugin, PluginError, Request, RequestAuth, Result, metrics};

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Countries and tags of which a caller needs one; empty if any caller is admitted that is not denied.
    #[serde(default)]
    allow: Vec<String>,
    /// Countries and tags whose callers are denied.
    #[serde(default)]
    deny: Vec<String>,
    /// What is known of networks.
    networks: BTreeMap<String, Labels>,
}

/// What is known of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Labels {
    country: Option<String>,
    tags: Vec<String>,
}

/// The plugin.
struct NetworkRules {
    allow: Vec<String>,
    deny: Vec<String>,
    /// The smallest networks first.
    networks: Vec<(IpNet, Labels)>,
}

impl Plugin for NetworkRules {
    type Config = Config;

    fn new(Config { allow, deny, networks }: Config) -> Result<Self> {
        let network = |(text, labels): (String, Labels)| match parse(&text) {
            Some(network) => Ok((network, labels)),
            None => Err(PluginError::invalid_input(format_args!("`networks`: `{text}` is not a network"))),
        };
        let mut networks: Vec<_> = networks.into_iter().map(network).collect::<Result<_>>()?;
        for (key, names) in [("allow", &allow), ("deny", &deny)] {
            let is_known = |name: &str| networks.iter().any(|(_, labels)| labels.has(name));
            if let Some(name) = names.iter().find(|name| !is_known(name)) {
                return Err(PluginError::invalid_input(format_args!("`{key}`: no network has `{name}`")));
            }
        }
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Ok(Self { allow, deny, networks })
    }
}

impl RequestAuth for NetworkRules {
    fn authenticate(&self, request: &dyn Request) -> Result<Decision> {
        // Neither a proxy that hides the client nor a missing grant is a fault of the caller.
        let unknown = || PluginError::invalid_input("the client's address is unknown or not granted");
        let address = request.client_ip().ok_or_else(unknown)?;
        let known = self.networks.iter().find(|(network, _)| network.contains(&address));
        let has_any = |names: &[String]| known.is_some_and(|(_, labels)| names.iter().any(|name| labels.has(name)));
        if has_any(&self.deny) || !(self.allow.is_empty() || has_any(&self.allow)) {
            metrics::count("refused_total", 1, &[]);
            return Ok(Decision::deny(Denial::from(DenialClass::Forbidden).because(reason(address, known))));
        }
        Ok(known.map_or_else(Decision::allow_unnamed, |(network, labels)| labels.identity(network)))
    }
}

impl Labels {
    fn has(&self, name: &str) -> bool {
        self.country.as_deref() == Some(name) || self.tags.iter().any(|tag| tag == name)
    }

    /// Admits a caller as its network, with country and tags.
    fn identity(&self, network: &IpNet) -> Decision {
        let admitted = Decision::allow(network.to_string());
        let admitted = self.country.iter().fold(admitted, |admitted, country| admitted.tag("country", country));
        self.tags.iter().fold(admitted, |admitted, tag| admitted.tag("network", tag))
    }
}

/// Returns a network, or that of a bare address; `None` if bits are set after its prefix.
fn parse(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    (network.trunc() == network).then_some(network)
}

fn reason(address: IpAddr, known: Option<&(IpNet, Labels)>) -> String {
    match known {
        Some((network, _)) => format!("{address} is in {network}"),
        None => format!("{address} is in no network of the table"),
    }
}

yardarm_plugin::export!(
    NetworkRules: request_auth;
    manifest = r#"{"grants": [
        {"grant": "client-address", "why": "to find the network"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::TestRequest;

    use super::*;

    const NETWORKS: &str = r#""networks": {
        "10.0.0.0/8": {"tags": ["office"]},
        "10.66.0.0/16": {"tags": ["guests"]},
        "192.0.2.0/24": {"country": "DE"},
        "2001:db8::/32": {"country": "FR", "tags": ["partner", "eu"]}
    }"#;

    fn decide(rules: &str, address: &str) -> Decision {
        let plugin: NetworkRules = from_config(&format!("{{{rules} {NETWORKS}}}")).unwrap();
        plugin.authenticate(&TestRequest::default().with_client(address)).unwrap()
    }

    #[test]
    fn the_smallest_network_counts() {
        for (rules, address, is_admitted) in [
            (r#""allow": ["office", "DE"],"#, "10.1.2.3", true),
            (r#""allow": ["office", "DE"],"#, "10.66.2.3", false),
            (r#""allow": ["office", "DE"],"#, "192.0.2.7", true),
            (r#""allow": ["office", "DE"],"#, "::ffff:192.0.2.7", true),
            (r#""allow": ["office", "DE"],"#, "203.0.113.1", false),
            (r#""deny": ["guests"],"#, "10.66.2.3", false),
            (r#""deny": ["guests"],"#, "203.0.113.1", true),
            (r#""allow": ["eu"], "deny": ["FR"],"#, "2001:db8::1", false),
            ("", "203.0.113.1", true),
        ] {
            assert_eq!(matches!(decide(rules, address), Decision::Allow(_)), is_admitted, "{rules} {address}");
        }
    }

    #[test]
    fn callers_are_named_by_their_network() {
        let expected =
            Decision::allow("2001:db8::/32").tag("country", "FR").tag("network", "partner").tag("network", "eu");
        assert_eq!(decide("", "2001:db8::1"), expected);
        assert_eq!(decide("", "203.0.113.1"), Decision::allow_unnamed());
    }

    #[test]
    fn an_unknown_address_is_a_failure() {
        let plugin: NetworkRules = from_config(r#"{"networks": {}}"#).unwrap();
        assert!(matches!(plugin.authenticate(&TestRequest::default()), Err(PluginError::InvalidInput(_))));
    }

    #[test]
    fn a_table_that_cannot_work_is_an_error() {
        for (config, expected) in [
            (r#"{"networks": {"10.0.0.1/8": {}}}"#, "`networks`: `10.0.0.1/8` is not a network"),
            (r#"{"networks": {"DE": {}}}"#, "`networks`: `DE` is not a network"),
            (r#"{"allow": ["DE"], "networks": {}}"#, "`allow`: no network has `DE`"),
            (r#"{"networks": {"::1": {"land": "DE"}}}"#, "unknown field `land`"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<NetworkRules>(config) else { panic!("{config}") };
            assert!(text.contains(expected), "{text}");
        }
    }
}
