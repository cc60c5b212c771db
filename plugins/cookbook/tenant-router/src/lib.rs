//! Chooses the environment by the host name of the request.
//!
//! A host is either listed with its environment, or it is a name of one label below the domain of the tenants, and the label
//! is the name of the environment. For any other host the credential decides, as without the plugin.

use std::collections::BTreeMap;

use serde::Deserialize;
use yardarm_plugin::{Plugin, PluginError, Request, Result, RouteResolver};

/// The configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The domain below which each tenant has a host.
    domain: Option<String>,
    /// Environments by host name.
    hosts: BTreeMap<String, String>,
}

/// The plugin.
struct TenantRouter(Config);

impl Plugin for TenantRouter {
    type Config = Config;

    fn new(mut config: Config) -> Result<Self> {
        let domain = config.domain.as_deref().map(|domain| canonical(domain).ok_or_else(|| invalid("domain", domain)));
        config.domain = domain.transpose()?;
        let hosts = config.hosts.into_iter().map(|(host, environment)| match canonical(&host) {
            Some(host) => Ok((host, environment)),
            None => Err(invalid("hosts", &host)),
        });
        config.hosts = hosts.collect::<Result<_>>()?;
        Ok(Self(config))
    }
}

impl RouteResolver for TenantRouter {
    fn resolve(&self, request: &dyn Request) -> Result<Option<String>> {
        let Some(host) = request.header("host").and_then(|host| canonical(&host)) else { return Ok(None) };
        let listed = self.0.hosts.get(&host).map(String::as_str);
        Ok(listed.or_else(|| self.tenant(&host)).map(str::to_owned))
    }
}

impl TenantRouter {
    /// Returns the label of a host below the domain of the tenants.
    fn tenant<'a>(&self, host: &'a str) -> Option<&'a str> {
        let label = host.strip_suffix(self.0.domain.as_deref()?)?.strip_suffix('.')?;
        (!label.is_empty() && !label.contains('.')).then_some(label)
    }
}

/// Returns a host name in lower case, without port and final dot; `None` if it is not a name.
fn canonical(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!name.is_empty() && name.bytes().all(is_name)).then(|| name.to_ascii_lowercase())
}

fn invalid(key: &str, host: &str) -> PluginError {
    PluginError::invalid_input(format_args!("`{key}`: `{host}` is not a host name"))
}

yardarm_plugin::export!(
    TenantRouter: route_resolver;
    manifest = r#"{"grants": [
        {"grant": "header:host", "why": "to find the tenant"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::TestRequest;

    use super::*;

    #[test]
    fn hosts_have_environments() {
        let config = r#"{"domain": "Flags.example.com", "hosts": {"flags.acme.example": "acme-production"}}"#;
        let plugin: TenantRouter = from_config(config).unwrap();
        for (host, expected) in [
            ("flags.acme.example", Some("acme-production")),
            ("FLAGS.Acme.example.:8030", Some("acme-production")),
            ("umbrella.flags.example.com", Some("umbrella")),
            ("umbrella.flags.example.com:443", Some("umbrella")),
            ("a.b.flags.example.com", None),
            (".flags.example.com", None),
            ("flags.example.com", None),
            ("evilflags.example.com", None),
            ("umbrella.flags.example.com.evil.com", None),
            ("[::1]:8030", None),
            ("", None),
        ] {
            let request = TestRequest::default().with_header("host", host);
            assert_eq!(plugin.resolve(&request).unwrap().as_deref(), expected, "{host}");
        }
        assert_eq!(plugin.resolve(&TestRequest::default()), Ok(None), "no host");
        let plugin: TenantRouter = from_config("{}").unwrap();
        assert_eq!(plugin.resolve(&TestRequest::default().with_header("host", "a.b")), Ok(None));
    }

    #[test]
    fn what_is_not_a_host_name_is_an_error() {
        for (config, expected) in [
            (r#"{"domain": "*.example.com"}"#, "`domain`: `*.example.com` is not a host name"),
            (r#"{"hosts": {"https://a": "b"}}"#, "`hosts`: `https://a` is not a host name"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<TenantRouter>(config) else { panic!("{config}") };
            assert_eq!(text, expected);
        }
    }
}
