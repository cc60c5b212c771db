//! Headers that plugins may set in outbound requests.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Maximum number of headers.
const MOST: usize = 64;
/// Headers that frame a message or belong to a connection.
const REFUSED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the headers of a request.
///
/// # Errors
/// Names the header that is not valid or not allowed.
pub(super) fn check(headers: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, String> {
    if headers.len() > MOST {
        return Err(format!("the request has more than {MOST} headers"));
    }
    let mut checked = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || format!("the header `{name}` is not valid");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        if REFUSED.contains(&key.as_str()) {
            return Err(format!("plugins may not set the header `{key}`"));
        }
        checked.append(key, HeaderValue::from_bytes(&value).map_err(|_| invalid())?);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_not_for_plugins() {
        let one = |name: &str, value: &str| check(vec![(name.to_owned(), value.as_bytes().to_vec())]);
        for name in ["Host", "content-length", "Transfer-Encoding", "connection", "te", "proxy-authorization"] {
            assert!(one(name, "x").unwrap_err().contains("may not set"), "{name}");
        }
        assert!(one("a b", "x").is_err() && one("a", "x\r\nb: c").is_err() && one("a", "\0").is_err());
        assert_eq!(one("Authorization", "Bearer x").unwrap()["authorization"], "Bearer x");
        let many = (0..=MOST).map(|n| (format!("a-{n}"), vec![])).collect();
        assert!(check(many).is_err());
    }
}
