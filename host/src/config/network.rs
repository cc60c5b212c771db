//! Settings about the peers of connections: trusted proxies, and host names of the admin listener.

use std::net::IpAddr;

use ipnet::IpNet;
use yardarm_core::client_address::ProxyRules;
use yardarm_core::settings::{Kind, Reader, Setting};

/// Format of a list of host names, which are compared as texts.
pub(super) enum HostNames {}

/// Format of a list of addresses and networks.
pub(super) enum Networks {}

impl Setting<Vec<String>> for HostNames {
    const KIND: Kind = Kind::List;

    fn read(reader: &mut Reader<'_>, path: &str) -> Vec<String> {
        let names = reader.list(path);
        if let Some(name) = names.iter().find(|name| !is_host_name(name)) {
            reader.reject(path, format!("must contain host names without scheme and port, not `{name}`"));
        }
        names
    }
}

impl Setting<Vec<IpNet>> for Networks {
    const KIND: Kind = Kind::List;

    fn read(reader: &mut Reader<'_>, path: &str) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in reader.list(path) {
            match network(&text) {
                Some(network) => networks.push(network),
                None => {
                    let problem = format!("must contain addresses or networks such as `10.0.0.0/8`, not `{text}`");
                    reader.reject(path, problem);
                }
            }
        }
        networks
    }
}

/// Returns the rules of `server.trusted_proxies` and `server.proxy_protocol`.
pub(super) fn proxies(trusted: Vec<IpNet>, requires_header: bool, reader: &mut Reader<'_>) -> ProxyRules {
    if requires_header && trusted.is_empty() {
        reader.reject(
            "server.proxy_protocol",
            "requires `server.trusted_proxies`: headers from other addresses are not trusted",
        );
    }
    ProxyRules { trusted, requires_header }
}

fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    Some(network.trunc())
}

/// Returns whether a text is a host name without scheme and port, optionally after `*.`.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_neither_scheme_nor_port() {
        for (text, is_name) in [
            ("a.b", true),
            ("*.a", true),
            ("a:1", false),
            ("http://a", false),
            ("*", false),
            ("", false),
            ("*.", false),
        ] {
            assert_eq!(is_host_name(text), is_name, "{text:?}");
        }
    }
}
