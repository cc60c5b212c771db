//! What an operator grants to a plugin beyond the default.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use url::Url;

use super::{GrantPattern, HttpGrant, Pattern};

/// The grant for requests, with what an operator has to decide.
pub(crate) const HTTP_OUT: &str = "http-out:<origin and path prefix>";

/// Grants that an operator can write, and what each gives.
pub(crate) const GRANTS: &[(&str, &str)] = &[
    ("header:<name>", "The values of one request header."),
    ("path", "The path of the request, which may contain a credential or a context."),
    ("query", "The query of the request, which may contain a credential or a context."),
    ("client-address", "Addresses of the client, of the peer, and in `X-Forwarded-For`."),
    ("credential:raw", "The credential itself, in place of its fingerprint."),
    ("identity", "The identity that request plugins gave to the caller."),
    ("event-bodies", "The JSON text of events. Without it a filter sees their kinds and times."),
    ("flag-data", "The JSON text of flags, segments and results. Without it a plugin sees their names."),
    ("context-key", "Keys of contexts and targets, in place of their fingerprints."),
    ("context-attributes:<pattern>", "Attributes of contexts whose names match, with `*` and `?`."),
    (
        "clock",
        "Real time, except in hooks whose replies are repeated (`payload-transform`, `evaluation-transform`). Without it a clock stands still.",
    ),
    ("random", "Real randomness, except in the same hooks. Without it each instance gets the same numbers."),
    ("kv", "Stored values: 10,000 keys, 1 MiB. Not in `payload-transform` and `evaluation-transform`."),
    (HTTP_OUT, "Requests to these URLs, in `request-auth`, `background` and `change-listener`."),
    ("secret:<name>", "A secret that the configuration may refer to."),
    ("log", "Log lines. Always granted."),
    ("metrics", "Metrics of the plugin's own. Always granted."),
];

/// The grants of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Real time. Without it, WASI clocks show a fixed time.
    pub(crate) clock: bool,
    /// Real randomness. Without it, WASI returns the same numbers in each instance.
    pub(crate) random: bool,
    /// The credential itself instead of its fingerprint.
    pub(crate) raw_credential: bool,
    /// The addresses of client, peer and proxies.
    pub(crate) client_address: bool,
    /// The path of the request.
    pub(crate) path: bool,
    /// The query of the request.
    pub(crate) query: bool,
    /// The identity that request plugins gave to the caller.
    pub(crate) identity: bool,
    /// The key of the context or target instead of its fingerprint.
    pub(crate) context_key: bool,
    /// The JSON text of events.
    pub(crate) event_bodies: bool,
    /// The JSON text of flag data and of evaluated results.
    pub(crate) flag_data: bool,
    /// Values that outlive calls.
    pub(crate) kv: bool,
    /// Names of request headers, in lower case.
    headers: BTreeSet<Arc<str>>,
    /// Patterns for names of attributes of contexts.
    context_attributes: Vec<Pattern>,
    /// Destinations of outbound requests.
    http_out: Vec<HttpGrant>,
    /// Names of secrets that the configuration may refer to.
    secrets: BTreeSet<Arc<str>>,
    /// Patterns over grants, in cases only: an operator grants values.
    patterns: Vec<GrantPattern>,
}

impl Grants {
    /// Adds a grant as written in a binding file; returns whether it is known.
    pub(crate) fn add(&mut self, text: &str) -> bool {
        match text {
            "clock" => self.clock = true,
            "random" => self.random = true,
            "credential:raw" => self.raw_credential = true,
            "client-address" => self.client_address = true,
            "context-key" => self.context_key = true,
            "event-bodies" => self.event_bodies = true,
            "flag-data" => self.flag_data = true,
            "path" => self.path = true,
            "query" => self.query = true,
            "identity" => self.identity = true,
            "kv" => self.kv = true,
            "log" | "metrics" => (),
            _ => match text.split_once(':').filter(|(_, name)| !name.is_empty()) {
                Some(("header" | "secret", name)) if name.contains(['*', '?']) => return false,
                Some(("header", name)) => {
                    self.headers.insert(name.to_ascii_lowercase().into());
                }
                Some(("context-attributes", pattern)) => self.context_attributes.push(pattern.into()),
                Some(("http-out", prefix)) => match HttpGrant::parse(prefix) {
                    Some(grant) => self.http_out.push(grant),
                    None => return false,
                },
                Some(("secret", name)) => {
                    self.secrets.insert(name.into());
                }
                _ => return false,
            },
        }
        true
    }

    /// Adds a grant, or a pattern over grants, as written in a manifest or a case; returns whether it is known.
    pub(crate) fn add_wanted(&mut self, text: &str) -> bool {
        match GrantPattern::parse(text) {
            Some(pattern) if !self.patterns.contains(&pattern) => self.patterns.push(pattern),
            Some(_) => (),
            None => return self.add(text),
        }
        true
    }

    /// Adds the grant that an import needs, whatever its value.
    pub(crate) fn add_needed(&mut self, grant: &str) {
        self.add_wanted(if grant == HTTP_OUT { "http-out:*" } else { grant });
    }

    /// Returns whether these have the grant that an import needs.
    pub(crate) fn gives(&self, grant: &str) -> bool {
        if grant == HTTP_OUT { self.has_http() } else { self.names().iter().any(|name| name == grant) }
    }

    /// Returns the grants that `is_wanted` accepts.
    pub(crate) fn restricted_to(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut grants = Self::default();
        for grant in self.names().iter().filter(|grant| is_wanted(grant)) {
            grants.add(grant);
        }
        grants
    }

    /// Returns whether a request header, named in lower case, may be passed to the guest.
    pub(crate) fn header(&self, name: &str) -> bool {
        self.headers.contains(name) || self.has_pattern("header", name)
    }

    /// Returns whether an attribute of a context may be passed to the guest.
    pub(crate) fn context_attribute(&self, name: &str) -> bool {
        self.context_attributes.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns whether the guest may send a request to a URL.
    pub(crate) fn http_out(&self, url: &Url) -> bool {
        let is_in_pattern = || {
            let mut url = url.clone();
            url.set_query(None);
            url.set_fragment(None);
            self.has_pattern("http-out", url.as_str())
        };
        self.http_out.iter().any(|grant| grant.covers(url)) || (!self.patterns.is_empty() && is_in_pattern())
    }

    /// Returns whether the guest may send requests at all.
    pub(crate) fn has_http(&self) -> bool {
        !self.http_out.is_empty() || self.has_patterns_of("http-out")
    }

    /// Returns whether the configuration may refer to any secret.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty() || self.has_patterns_of("secret")
    }

    /// Returns whether the configuration may refer to a secret.
    pub(crate) fn secret(&self, name: &str) -> bool {
        self.secrets.contains(name) || self.has_pattern("secret", name)
    }

    fn has_pattern(&self, kind: &str, value: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(kind, value))
    }

    fn has_patterns_of(&self, kind: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_of(kind))
    }

    /// Returns whether the guest may read facts that differ between requests for the same results.
    pub(crate) fn reads_requests(&self) -> bool {
        let flags = [self.raw_credential, self.client_address, self.path, self.query, self.identity];
        flags.contains(&true) || !self.headers.is_empty() || self.has_patterns_of("header")
    }

    /// Returns the grants as an operator writes them, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let flags = [
            (self.clock, "clock"),
            (self.random, "random"),
            (self.raw_credential, "credential:raw"),
            (self.client_address, "client-address"),
            (self.context_key, "context-key"),
            (self.event_bodies, "event-bodies"),
            (self.flag_data, "flag-data"),
            (self.identity, "identity"),
            (self.kv, "kv"),
            (self.path, "path"),
            (self.query, "query"),
        ];
        let flags = flags.into_iter().filter(|(given, _)| *given).map(|(_, name)| name.to_owned());
        let headers = self.headers.iter().map(|name| format!("header:{name}"));
        let attributes = self.context_attributes.iter().map(|pattern| format!("context-attributes:{pattern}"));
        let destinations = self.http_out.iter().map(|grant| format!("http-out:{grant}"));
        let secrets = self.secrets.iter().map(|name| format!("secret:{name}"));
        let patterns = self.patterns.iter().map(ToString::to_string);
        flags.chain(headers).chain(attributes).chain(destinations).chain(secrets).chain(patterns).collect()
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.names().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_unless_written() {
        let mut grants = Grants::default();
        assert_eq!(grants.names(), Vec::<String>::new());
        assert!(grants.add("header:Authorization") && !grants.add("header:") && !grants.add("sockets"));
        assert!(grants.header("authorization") && !grants.header("cookie"));
        assert_eq!(grants.to_string(), "header:authorization");
        assert!(!grants.context_attribute("plan"));
        assert!(grants.add("context-attributes:pl*") && !grants.add("context-attributes:"));
        assert!(grants.context_attribute("plan") && !grants.context_attribute("email"));
        assert!(grants.reads_requests());
        assert_eq!(grants.names(), ["header:authorization", "context-attributes:pl*"]);
        assert!(
            grants.add("http-out:https://a.example/x") && !grants.add("http-out:a.example") && !grants.add("secret:")
        );
        assert!(!grants.secret("idp") && grants.add("secret:idp") && grants.secret("idp"));
        assert_eq!(grants.names()[2..], ["http-out:https://a.example/x", "secret:idp"]);
        for pattern in ["header:x-*", "secret:*", "http-out:*", "http-out:https://*.example/", "http-out:https://a/*"] {
            assert!(!grants.add(pattern), "{pattern}");
        }
    }

    #[test]
    fn patterns_give_what_they_match_in_cases() {
        let mut grants = Grants::default();
        for pattern in ["header:X-*", "secret:app-*", "http-out:https://*.example/keys*", "clock"] {
            assert!(grants.add_wanted(pattern), "{pattern}");
        }
        assert!(!grants.add_wanted("identity:*"));
        assert!(grants.header("x-tenant") && !grants.header("cookie"));
        assert!(grants.secret("app-key") && !grants.secret("idp"));
        assert!(grants.http_out(&"https://a.example/keys?x=1".parse().unwrap()));
        assert!(!grants.http_out(&"https://a.example/other".parse().unwrap()));
        assert!(grants.gives(HTTP_OUT) && grants.gives("clock") && !grants.gives("kv"));
        let names = ["clock", "header:x-*", "secret:app-*", "http-out:https://*.example/keys*"];
        assert_eq!(grants.names(), names);
    }
}
