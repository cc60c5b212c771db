//! Settings about the peers of connections: trusted proxies, host names of the admin listener, and the send buffer.

use std::net::IpAddr;

use ipnet::IpNet;
use yardarm_core::client_address::ProxyRules;
use yardarm_core::settings::Reader;

/// Reads `admin.allowed_hosts`.
pub(super) fn admin_hosts(reader: &mut Reader<'_>) -> Vec<String> {
    let names = reader.list("admin.allowed_hosts");
    if let Some(name) = names.iter().find(|name| !is_host_name(name)) {
        reader.reject("admin.allowed_hosts", format!("must contain host names without scheme and port, not `{name}`"));
    }
    names
}

/// Reads `server.trusted_proxies` and `server.proxy_protocol`.
pub(super) fn proxies(reader: &mut Reader<'_>) -> ProxyRules {
    let mut trusted = Vec::new();
    for text in reader.list("server.trusted_proxies") {
        match network(&text) {
            Some(network) => trusted.push(network),
            None => {
                let problem = format!("must contain addresses or networks such as `10.0.0.0/8`, not `{text}`");
                reader.reject("server.trusted_proxies", problem);
            }
        }
    }
    let requires_header = reader.flag("server.proxy_protocol");
    if requires_header && trusted.is_empty() {
        reader.reject(
            "server.proxy_protocol",
            "requires `server.trusted_proxies`: headers from other addresses are not trusted",
        );
    }
    ProxyRules { trusted, requires_header }
}

/// Reads `server.send_buffer`, in bytes.
pub(super) fn send_buffer(reader: &mut Reader<'_>) -> u32 {
    let size = reader.size("server.send_buffer").unwrap_or(256 << 10);
    u32::try_from(size.clamp(16 << 10, 64 << 20)).unwrap_or(256 << 10)
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
