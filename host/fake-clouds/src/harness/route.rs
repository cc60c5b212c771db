//! The routes of the fake, whatever the prefix of the path.

use http::Method;
use percent_encoding::percent_decode_str;

/// A route that the fake knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Auth,
    ApiKeys,
    Targets,
    Flags {
        id: String,
        flag: Option<String>,
    },
    Segments {
        id: String,
        segment: Option<String>,
    },
    Evaluations {
        id: String,
        target: String,
        flag: Option<String>,
    },
    /// With an ID at the path listed in the vendor's documents.
    Stream {
        id: Option<String>,
    },
    Metrics {
        id: String,
    },
    ProxyAuth,
    ProxyConfig,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let parts: Vec<_> = path.split('/').map(decoded).collect();
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        // The longest candidate is tried first, so that identifiers are never mistaken for a service.
        (0..parts.len()).find_map(|start| Self::at(method, &parts[start..]))
    }

    fn at(method: &Method, parts: &[&str]) -> Option<Self> {
        let text = |text: &&str| (*text).to_owned();
        let route = match (method.as_str(), parts) {
            ("POST", ["client", "auth"]) => Self::Auth,
            ("GET", ["admin", "apikey"]) => Self::ApiKeys,
            ("GET", ["admin", "targets"]) => Self::Targets,
            ("GET", ["client", "env", id, "feature-configs", flag @ ..]) if flag.len() < 2 => {
                Self::Flags { id: text(id), flag: flag.first().map(text) }
            }
            ("GET", ["client", "env", id, "target-segments", segment @ ..]) if segment.len() < 2 => {
                Self::Segments { id: text(id), segment: segment.first().map(text) }
            }
            ("GET", ["client", "env", id, "target", target, "evaluations", flag @ ..]) if flag.len() < 2 => {
                Self::Evaluations { id: text(id), target: text(target), flag: flag.first().map(text) }
            }
            ("GET", ["client", "env", id, "stream"]) => Self::Stream { id: Some(text(id)) },
            ("GET", ["stream"]) => Self::Stream { id: None },
            ("POST", ["metrics", id]) => Self::Metrics { id: text(id) },
            ("POST", ["proxy", "auth"]) => Self::ProxyAuth,
            ("GET", ["proxy", "config"]) => Self::ProxyConfig,
            _ => return None,
        };
        Some(route)
    }
}

/// Decodes percent escapes; invalid escapes stay unchanged.
fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}
