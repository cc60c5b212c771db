//! The header `Forwarded` (RFC 7239): `for=192.0.2.60;proto=http;by=203.0.113.43, for="[2001:db8:cafe::17]:4711"`.

use std::net::IpAddr;

use super::address;

/// Returns the `for` of each element of a header value, from left to right. An element without `for` counts as one node
/// without an address, and so does the rest of the value from the first syntax error on.
pub(super) fn nodes(value: &[u8]) -> Vec<Option<IpAddr>> {
    let mut rest = value;
    let mut nodes = Vec::new();
    loop {
        match element(rest) {
            // RFC 9110 5.6.1: empty elements of a list are ignored.
            Some((Element::Empty, behind)) => rest = behind,
            Some((Element::Node(node), behind)) => {
                nodes.push(node);
                rest = behind;
            }
            None => {
                nodes.push(None);
                return nodes;
            }
        }
        match rest.split_first() {
            Some((b',', behind)) => rest = behind,
            _ => return nodes,
        }
    }
}

enum Element {
    Empty,
    Node(Option<IpAddr>),
}

/// Parses one element up to the comma behind it; returns it with the rest of the value, or `None` when it is malformed.
fn element(value: &[u8]) -> Option<(Element, &[u8])> {
    let mut rest = value.trim_ascii_start();
    let mut node = None;
    let mut is_empty = true;
    loop {
        if !matches!(rest.first(), None | Some(b',' | b';')) {
            let end = rest.iter().position(|it| !is_token(*it)).filter(|end| *end > 0)?;
            let (name, behind) = rest.split_at(end);
            let (text, behind) = text(behind.strip_prefix(b"=")?)?;
            is_empty = false;
            if name.eq_ignore_ascii_case(b"for") {
                // Two `for` parameters contradict each other.
                if node.replace(address(&text)).is_some() {
                    return None;
                }
            }
            rest = behind.trim_ascii_start();
        }
        match rest.split_first() {
            Some((b';', behind)) => rest = behind.trim_ascii_start(),
            None | Some((b',', _)) if is_empty => return Some((Element::Empty, rest)),
            None | Some((b',', _)) => return Some((Element::Node(node.flatten()), rest)),
            Some(_) => return None,
        }
    }
}

/// Parses a token or a quoted string; returns it without quotes, with the rest of the value.
fn text(value: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        // Addresses with a port and IPv6 addresses must be quoted; not every proxy does so.
        let end = value.iter().position(|it| !is_token(*it) && !b":[]".contains(it)).unwrap_or(value.len());
        return (end > 0).then(|| (value[..end].to_vec(), &value[end..]));
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return Some((text, bytes.as_slice())),
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
