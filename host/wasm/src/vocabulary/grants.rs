//! What an operator grants to a plugin beyond the default.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Grants that an operator can write; `header:<name>` without its name.
pub(crate) const KNOWN_GRANTS: &[&str] = &[
    "clock",
    "random",
    "credential:raw",
    "client-address",
    "context-key",
    "event-bodies",
    "flag-data",
    "header:<name>",
    "log",
    "config",
    "metrics",
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
    /// The address of the peer.
    pub(crate) client_address: bool,
    /// The key of the context or target instead of its fingerprint.
    pub(crate) context_key: bool,
    /// The JSON text of events.
    pub(crate) event_bodies: bool,
    /// The JSON text of flag data and of evaluated results.
    pub(crate) flag_data: bool,
    /// Names of request headers, in lower case.
    headers: BTreeSet<Arc<str>>,
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
            "log" | "config" | "metrics" => (),
            _ => {
                let Some(name) = text.strip_prefix("header:").filter(|name| !name.is_empty()) else { return false };
                self.headers.insert(name.to_ascii_lowercase().into());
            }
        }
        true
    }

    /// Returns whether a request header, named in lower case, may be passed to the guest.
    pub(crate) fn header(&self, name: &str) -> bool {
        self.headers.contains(name)
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
        ];
        let flags = flags.into_iter().filter(|(given, _)| *given).map(|(_, name)| name.to_owned());
        flags.chain(self.headers.iter().map(|name| format!("header:{name}"))).collect()
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
    }
}
