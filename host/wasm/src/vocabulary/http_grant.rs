//! A grant `http-out:<origin and path prefix>`: where a plugin may send requests.

use std::fmt;

use url::Url;

/// Destinations that a plugin may send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpGrant {
    /// Scheme, host, port and path prefix.
    prefix: Url,
}

impl HttpGrant {
    /// Parses what follows `http-out:` in a binding file; `None` unless it is a URL of HTTP with neither credentials nor
    /// query nor fragment.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let prefix = Url::parse(text).ok()?;
        let is_plain = prefix.query().is_none() && prefix.fragment().is_none() && !has_credentials(&prefix);
        // A pattern is for manifests; operators grant one origin.
        (is_http(&prefix) && is_plain && is_unambiguous(&prefix) && !text.contains('*')).then_some(Self { prefix })
    }

    /// Returns whether the grant covers a URL. The path must be the granted one or be below it.
    pub(crate) fn covers(&self, url: &Url) -> bool {
        let is_same_origin = self.prefix.scheme() == url.scheme()
            && self.prefix.host() == url.host()
            && self.prefix.port_or_known_default() == url.port_or_known_default();
        let is_below = || {
            let granted = self.prefix.path().trim_end_matches('/');
            let rest = url.path().strip_prefix(granted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_same_origin && is_http(url) && !has_credentials(url) && is_unambiguous(url) && is_below()
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Returns whether no server can read another path than this one: some decode escaped separators and dots before they
/// resolve `..`.
fn is_unambiguous(url: &Url) -> bool {
    let path = url.path().to_ascii_lowercase();
    !["%2f", "%5c", "%2e", "\\", ";"].iter().any(|separator| path.contains(separator))
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_covered(grant: &str, url: &str) -> bool {
        HttpGrant::parse(grant).unwrap().covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_grant_covers_its_path_and_what_is_below() {
        let grant = "https://idp.example.com/keys";
        for covered in ["/keys", "/keys/1", "/keys/", "/keys?x=1", ":443/keys"] {
            assert!(is_covered(grant, &format!("https://idp.example.com{covered}")), "{covered}");
        }
        for other in
            ["/", "/keysmith", "/keys/../admin", "/keys/%2e%2e/admin", "/keys/..%2fadmin", "/keys;/x", ":8443/keys"]
        {
            assert!(!is_covered(grant, &format!("https://idp.example.com{other}")), "{other}");
        }
        for other in [
            "http://idp.example.com/keys",
            "https://idp.example.com.evil.com/keys",
            "https://evil.com/keys",
            "https://idp.example.com@evil.com/keys",
            "https://user:word@idp.example.com/keys",
            "ftp://idp.example.com/keys",
        ] {
            assert!(!is_covered(grant, other), "{other}");
        }
        assert!(is_covered("https://IDP.example.com", "https://idp.example.com/any/path"));
        assert!(is_covered("http://127.0.0.1:8080/", "http://127.1:8080/x"));
    }

    #[test]
    fn other_texts_are_no_grants() {
        for text in [
            "",
            "idp.example.com",
            "ftp://a/",
            "https://",
            "https://u:p@a/",
            "https://a/?q",
            "https://a/#f",
            "https://a/%2e%2e%2f",
        ] {
            assert_eq!(HttpGrant::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_covered_has_the_granted_origin_and_prefix(path in "[a-z/.%25;\\\\]{0,20}") {
            let grant = HttpGrant::parse("https://a.example/p").unwrap();
            if let Ok(url) = Url::parse(&format!("https://a.example/p{path}")) && grant.covers(&url) {
                prop_assert!(url.path() == "/p" || url.path().starts_with("/p/"), "{url}");
            }
        }
    }
}
