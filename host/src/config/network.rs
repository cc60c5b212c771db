//! Settings about who may be on the other end of a connection.

use yardarm_core::settings::Reader;

/// Reads `admin.allowed_hosts`.
pub(super) fn admin_hosts(reader: &mut Reader<'_>) -> Vec<String> {
    let names = reader.list("admin.allowed_hosts");
    if let Some(name) = names.iter().find(|name| !is_host_name(name)) {
        reader.reject("admin.allowed_hosts", format!("must have host names without scheme and port, not `{name}`"));
    }
    names
}

/// Whether a text is a host name without scheme and port, perhaps after `*.`.
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
