//! The imports and facts that a guest has access to: bounded log lines, its own configuration and its own metrics, and
//! nothing else unless the operator grants more.
//!
//! Each grant is one interface (withheld when linking) or one field of a hook's input (withheld when calling).

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod fingerprint;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod wasi;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use wasmtime::component::{Component, HasSelf, Linker, types::ComponentItem};
use wasmtime_wasi::WasiView;

use crate::guest::GuestState;
use crate::interface::v0_1;
use crate::stage::LoadError;

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

/// The linkers of one engine, one per set of granted interfaces.
pub(crate) struct Linkers {
    plain: Linker<GuestState>,
    timed: Linker<GuestState>,
}

/// Whether an interface is available.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// Available to every plugin.
    Always,
    /// Available with this grant.
    Granted(&'static str),
    /// Available in another version only.
    OtherVersion,
    /// Never available, with the reason.
    Never(&'static str),
    /// An unknown interface.
    Unknown,
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

impl Linkers {
    /// Builds the linkers.
    pub(crate) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        add_default(&mut plain)?;
        wasi::add_to_linker(&mut plain)?;
        let mut timed = plain.clone();
        v0_1::host::clock::add_to_linker::<GuestState, HasSelf<GuestState>>(&mut timed, |state| state)?;
        Ok(Self { plain, timed })
    }

    /// Returns the linker for a set of grants.
    pub(crate) fn of(&self, grants: &Grants) -> &Linker<GuestState> {
        if grants.clock { &self.timed } else { &self.plain }
    }
}

fn add_default(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Own = HasSelf<GuestState>;
    v0_1::host::log::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::config::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::metrics::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::items::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::results::add_to_linker::<GuestState, Own>(linker, |state| state)
}

/// Returns the grants that the imports of a component require, sorted.
///
/// # Errors
/// Names every import that is not available, or that is not granted together with the line to add to `file`.
pub(crate) fn check_imports(component: &Component, grants: &Grants, file: &str) -> Result<Vec<String>, LoadError> {
    let engine = component.engine();
    let (mut unknown, mut denied, mut requested) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (name, item) in component.component_type().imports(engine) {
        if let ComponentItem::ComponentInstance(instance) = &item.ty
            && instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        {
            // An interface that contains only types needs no implementation.
            continue;
        }
        match offer(name) {
            Offer::Always => (),
            Offer::Granted(grant) if grants.names().iter().any(|given| given == grant) => {
                requested.insert(grant.to_owned());
            }
            Offer::Granted(grant) => denied.push((name.to_owned(), grant)),
            Offer::OtherVersion => {
                return Err(LoadError::UnsupportedInterface { built_for: name.to_owned() });
            }
            Offer::Never(reason) => unknown.push(format!("`{name}` ({reason})")),
            Offer::Unknown => unknown.push(format!("`{name}`")),
        }
    }
    if !unknown.is_empty() {
        return Err(LoadError::UnknownImport { imports: unknown.join(", ") });
    }
    if !denied.is_empty() {
        let mut lines = grants.names();
        lines.extend(denied.iter().map(|(_, grant)| (*grant).to_owned()));
        let line = lines.iter().map(|grant| format!("\"{grant}\"")).collect::<Vec<_>>().join(", ");
        let imports = denied.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(LoadError::CapabilityDenied { imports, line: format!("grants = [{line}]"), file: file.to_owned() });
    }
    Ok(requested.into_iter().collect())
}

fn offer(import: &str) -> Offer {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(own) = interface.strip_prefix("yardarm:plugin/") {
        if !v0_1::speaks(version) {
            return Offer::OtherVersion;
        }
        return match own {
            "log" | "config" | "metrics" | "items" | "results" | "types" => Offer::Always,
            "clock" => Offer::Granted("clock"),
            _ => Offer::Unknown,
        };
    }
    let Some((package, name)) = interface.split_once('/') else { return Offer::Unknown };
    match (package, name) {
        ("wasi:cli", "run" | "command") => Offer::Unknown,
        ("wasi:cli" | "wasi:io" | "wasi:clocks" | "wasi:filesystem" | "wasi:random", _) => Offer::Always,
        ("wasi:sockets", _) => {
            Offer::Never("sockets are never offered; build without networking, with componentize-py use `--stub-wasi`")
        }
        ("wasi:http", _) => {
            Offer::Never("outbound HTTP is not offered by this release; with componentize-js use `-d http fetch-event`")
        }
        _ => Offer::Unknown,
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi::powerless(&self.plugin));
        wasmtime_wasi::WasiCtxView { ctx, table: &mut self.table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_offered_by_name_and_version() {
        for (import, expected) in [
            ("yardarm:plugin/log@0.1.0", Offer::Always),
            ("yardarm:plugin/log@0.1.7", Offer::Always),
            ("yardarm:plugin/log@0.2.0", Offer::OtherVersion),
            ("yardarm:plugin/clock@0.1.0", Offer::Granted("clock")),
            ("yardarm:plugin/teleport@0.1.0", Offer::Unknown),
            ("wasi:io/streams@0.2.6", Offer::Always),
            ("acme:things/stuff@1.0.0", Offer::Unknown),
            ("stuff", Offer::Unknown),
        ] {
            assert_eq!(offer(import), expected, "{import}");
        }
        assert!(matches!(offer("wasi:sockets/tcp@0.2.6"), Offer::Never(_)));
        assert!(matches!(offer("wasi:http/types@0.2.6"), Offer::Never(_)));
    }

    #[test]
    fn nothing_is_granted_unless_written() {
        let mut grants = Grants::default();
        assert_eq!(grants.names(), Vec::<String>::new());
        assert!(grants.add("header:Authorization") && !grants.add("header:") && !grants.add("sockets"));
        assert!(grants.header("authorization") && !grants.header("cookie"));
        assert_eq!(grants.to_string(), "header:authorization");
    }
}
