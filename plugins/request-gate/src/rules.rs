//! The rules that an operator can configure for callers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use yardarm_plugin::{Denial, DenialClass, PluginError, Request, Result, matches};

use crate::cidr::Cidr;
use crate::tokens::Tokens;

/// The configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Kinds of callers that the rules apply to; empty means those of browsers, `client`.
    pub(crate) sdks: Vec<Sdk>,
    /// Header that contains the token; empty means `x-gate-token`.
    pub(crate) token_header: String,
    /// Tokens, one of which a caller must present: in plain text, or as `sha256:` and 64 hexadecimal digits.
    pub(crate) tokens: Vec<String>,
    /// Networks that callers must come from, if any are configured.
    pub(crate) allow_cidrs: Vec<Cidr>,
    /// Networks that no caller may come from.
    pub(crate) deny_cidrs: Vec<Cidr>,
    /// Headers that a caller must send, with their values; `*` and `?` match any text and any character.
    pub(crate) require_headers: BTreeMap<String, String>,
    /// Class of the denial for callers that break a rule.
    pub(crate) deny_as: DenyAs,
    /// Seconds after which a caller may retry, for `deny_as = "rate-limited"`.
    pub(crate) retry_after: Option<u32>,
}

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sdk {
    Server,
    Mobile,
    Client,
}

/// A class of denials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DenyAs {
    Unauthorized,
    #[default]
    Forbidden,
    RateLimited,
    Unavailable,
}

/// The validated configuration.
#[derive(Debug)]
pub(crate) struct Rules {
    sdks: Vec<Sdk>,
    token_header: String,
    tokens: Tokens,
    allow: Vec<Cidr>,
    deny: Vec<Cidr>,
    headers: BTreeMap<String, String>,
    denial: Denial,
}

/// The result of applying the rules to a caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// The rules do not apply to this kind of caller.
    NotConcerned,
    /// All rules hold.
    Passed {
        /// Name of the caller.
        principal: String,
    },
    /// A rule does not hold.
    Refused {
        /// The rule, as a label of a metric.
        rule: &'static str,
    },
}

impl Rules {
    /// Validates a configuration.
    pub(crate) fn new(config: Config) -> Result<Self> {
        let rules =
            [config.tokens.len(), config.allow_cidrs.len(), config.deny_cidrs.len(), config.require_headers.len()];
        if rules == [0; 4] {
            let text = "no rule; give `tokens`, `allow_cidrs`, `deny_cidrs` or `require_headers`";
            return Err(PluginError::invalid_input(text));
        }
        if config.retry_after.is_some() != (config.deny_as == DenyAs::RateLimited) {
            let text = "`retry_after` belongs to `deny_as = \"rate-limited\"`, each needs the other";
            return Err(PluginError::invalid_input(text));
        }
        let sdks = if config.sdks.is_empty() { vec![Sdk::Client] } else { config.sdks };
        let token_header = if config.token_header.is_empty() {
            "x-gate-token".to_owned()
        } else {
            config.token_header.to_ascii_lowercase()
        };
        Ok(Self {
            sdks,
            token_header,
            tokens: Tokens::new(&config.tokens)?,
            allow: config.allow_cidrs,
            deny: config.deny_cidrs,
            headers: config.require_headers,
            denial: match config.deny_as {
                DenyAs::Unauthorized => DenialClass::Unauthorized.into(),
                DenyAs::Forbidden => DenialClass::Forbidden.into(),
                DenyAs::RateLimited => {
                    Denial::from(DenialClass::RateLimited).retry_after(config.retry_after.unwrap_or(60))
                }
                DenyAs::Unavailable => DenialClass::Unavailable.into(),
            },
        })
    }

    /// Returns the denial for callers that break a rule.
    pub(crate) fn denial(&self, rule: &str) -> Denial {
        self.denial.clone().because(format!("rule `{rule}`"))
    }

    /// Applies the rules to a caller, the cheap ones first.
    ///
    /// # Errors
    ///
    /// There are rules about addresses and no address: the operator forgot the grant, which is not the caller's fault.
    pub(crate) fn judge(&self, request: &dyn Request) -> Result<Ruling> {
        let caller = request.sdk();
        if !self.sdks.iter().any(|sdk| sdk.name() == caller) {
            return Ok(Ruling::NotConcerned);
        }
        if !self.deny.is_empty() || !self.allow.is_empty() {
            let address = address(request)?;
            if self.deny.iter().any(|network| network.contains(address)) {
                return Ok(Ruling::Refused { rule: "deny_cidrs" });
            }
            if !self.allow.is_empty() && !self.allow.iter().any(|network| network.contains(address)) {
                return Ok(Ruling::Refused { rule: "allow_cidrs" });
            }
        }
        let sends =
            |(name, wanted): (&String, &String)| request.header(name).is_some_and(|sent| matches(wanted, &sent));
        if !self.headers.iter().all(sends) {
            return Ok(Ruling::Refused { rule: "require_headers" });
        }
        if self.tokens.is_empty() {
            return Ok(Ruling::Passed { principal: "known-place".to_owned() });
        }
        let presented = request.header_values(&self.token_header).into_iter().next();
        Ok(match presented.and_then(|token| self.tokens.find(&token)) {
            Some(mark) => Ruling::Passed { principal: format!("token:{mark}") },
            None => Ruling::Refused { rule: "tokens" },
        })
    }
}

impl Sdk {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Mobile => "mobile",
            Self::Client => "client",
        }
    }
}

fn address(request: &dyn Request) -> Result<IpAddr> {
    let missing = "no client address: rules about networks need the grant `client-address`";
    request.client_ip().ok_or_else(|| PluginError::invalid_input(missing))
}

#[cfg(test)]
mod tests {
    use yardarm_plugin::testing::TestRequest;
    use yardarm_plugin::{Decision, RequestAuth, from_config};

    use super::*;
    use crate::RequestGate;

    fn facts(sdk: &str, client: Option<&str>, headers: &[(&str, &str)]) -> TestRequest {
        let request = TestRequest::default().with_sdk(sdk);
        let request = client.into_iter().fold(request, TestRequest::with_client);
        headers.iter().fold(request, |request, (name, value)| request.with_header(name, *value))
    }

    fn judge(config: &str, facts: &TestRequest) -> Ruling {
        Rules::new(serde_json::from_str(config).unwrap()).unwrap().judge(facts).unwrap()
    }

    fn refused(rule: &'static str) -> Ruling {
        Ruling::Refused { rule }
    }

    #[test]
    fn a_token_is_accepted() {
        let config = r#"{"tokens": ["first", "other"]}"#;
        let token = |value| facts("client", None, &[("x-gate-token", value)]);
        assert!(matches!(judge(config, &token("first")), Ruling::Passed { .. }));
        for wrong in ["", "firs", "first ", "second", "sha256:9b87"] {
            assert_eq!(judge(config, &token(wrong)), refused("tokens"), "{wrong}");
        }
        assert_eq!(judge(config, &facts("client", None, &[])), refused("tokens"));
        let elsewhere = r#"{"tokens": ["first"], "token_header": "Authorization"}"#;
        assert!(matches!(
            judge(elsewhere, &facts("client", None, &[("authorization", "first")])),
            Ruling::Passed { .. }
        ));
        assert_eq!(judge(elsewhere, &token("first")), refused("tokens"));
    }

    #[test]
    fn networks_allow_and_deny() {
        let config = r#"{"allow_cidrs": ["10.0.0.0/8", "2001:db8::/32"], "deny_cidrs": ["10.9.0.0/16"]}"#;
        for (address, expected) in [
            ("10.1.2.3", None),
            ("::ffff:10.1.2.3", None),
            ("2001:db8:1::1", None),
            ("10.9.1.1", Some("deny_cidrs")),
            ("192.168.1.1", Some("allow_cidrs")),
            ("2001:db9::1", Some("allow_cidrs")),
        ] {
            let ruling = judge(config, &facts("client", Some(address), &[]));
            let rule = if let Ruling::Refused { rule } = ruling { Some(rule) } else { None };
            assert_eq!(rule, expected, "{address}");
        }
    }

    #[test]
    fn a_missing_grant_is_not_the_callers_fault() {
        let rules = Rules::new(serde_json::from_str(r#"{"allow_cidrs": ["10.0.0.0/8"]}"#).unwrap()).unwrap();
        let error = rules.judge(&facts("client", None, &[])).unwrap_err().to_string();
        assert!(error.contains("`client-address`"), "{error}");
    }

    #[test]
    fn headers_are_compared_with_patterns() {
        let config = r#"{"require_headers": {"User-Agent": "Acme/*", "x-team": "blue"}}"#;
        for (agent, team, passes) in [
            ("Acme/1.2", "blue", true),
            ("Acme/1.2", "blues", false),
            ("Other", "blue", false),
            ("Acme", "blue", false),
        ] {
            let ruling = judge(config, &facts("client", None, &[("user-agent", agent), ("x-team", team)]));
            assert_eq!(ruling != refused("require_headers"), passes, "{agent} {team}");
        }
        assert_eq!(judge(config, &facts("client", None, &[])), refused("require_headers"));
    }

    #[test]
    fn other_callers_pass() {
        let config = r#"{"tokens": ["a"]}"#;
        assert_eq!(judge(config, &facts("server", None, &[])), Ruling::NotConcerned);
        assert_eq!(judge(config, &facts("mobile", None, &[])), Ruling::NotConcerned);
        let config = r#"{"tokens": ["a"], "sdks": ["mobile", "server"]}"#;
        assert_eq!(judge(config, &facts("client", None, &[])), Ruling::NotConcerned);
        assert_eq!(judge(config, &facts("server", None, &[])), refused("tokens"));
    }

    #[test]
    fn all_rules_must_hold() {
        let config = r#"{"tokens": ["a"], "allow_cidrs": ["10.0.0.0/8"], "require_headers": {"x-team": "*"}}"#;
        let all = [("x-gate-token", "a"), ("x-team", "blue")];
        assert!(matches!(judge(config, &facts("client", Some("10.0.0.1"), &all)), Ruling::Passed { .. }));
        assert_eq!(judge(config, &facts("client", Some("11.0.0.1"), &all)), refused("allow_cidrs"));
        assert_eq!(judge(config, &facts("client", Some("10.0.0.1"), &all[..1])), refused("require_headers"));
        assert_eq!(judge(config, &facts("client", Some("10.0.0.1"), &all[1..])), refused("tokens"));
    }

    #[test]
    fn denials_have_the_configured_class() {
        for (class, expected) in [
            ("", DenialClass::Forbidden.into()),
            (r#", "deny_as": "unauthorized""#, DenialClass::Unauthorized.into()),
            (r#", "deny_as": "unavailable""#, DenialClass::Unavailable.into()),
            (
                r#", "deny_as": "rate-limited", "retry_after": 30"#,
                Denial::from(DenialClass::RateLimited).retry_after(30),
            ),
        ] {
            let plugin = from_config::<RequestGate>(&format!(r#"{{"tokens": ["a"]{class}}}"#)).unwrap();
            let decision = plugin.authenticate(&facts("client", None, &[])).unwrap();
            assert_eq!(decision, Decision::deny(expected.because("rule `tokens`")));
            assert!(matches!(plugin.authenticate(&facts("server", None, &[])), Ok(Decision::Allow(_))));
        }
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        for (config, expected) in [
            ("{}", "no rule"),
            (r#"{"token": ["a"]}"#, "`token`: unknown field"),
            (r#"{"tokens": [""]}"#, "`tokens[0]`"),
            (r#"{"tokens": ["sha256:12"]}"#, "`tokens[0]`"),
            (r#"{"allow_cidrs": ["10.0.0.0/8", "10.0.0.0/33"]}"#, "`allow_cidrs[1]`"),
            (r#"{"allow_cidrs": ["10.0.0.1/8"]}"#, "10.0.0.0/8"),
            (r#"{"tokens": ["a"], "sdks": ["browser"]}"#, "`sdks[0]`"),
            (r#"{"tokens": ["a"], "deny_as": "rate-limited"}"#, "`retry_after`"),
            (r#"{"tokens": ["a"], "retry_after": 3}"#, "`retry_after`"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<RequestGate>(config) else {
                panic!("accepted: {config}");
            };
            assert!(text.contains(expected), "{config}: {text}");
        }
    }

    #[test]
    fn the_binding_file_is_good() {
        let binding: toml::Table = include_str!("../request-gate.toml").parse().unwrap();
        let config = serde_json::to_string(&binding["plugin"]["config"]).unwrap();
        assert!(from_config::<RequestGate>(&config).is_ok());
    }
}
