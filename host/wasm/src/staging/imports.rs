//! Which imports of a component are offered, and which of them need a grant.

use super::inspection::Import;
use crate::runtime::capability::wasi::v0_3;
use crate::runtime::interface::v0_1;
use crate::vocabulary::{GrantPlace, Grants, HTTP_OUT, LoadError, NeededGrant, WantedGrant, require};

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

/// Returns the grants that the imports and the manifest of a component require, sorted.
///
/// # Errors
/// Names every import that is not available, or everything that is not granted together with the line to add to `file`.
pub(crate) fn check(
    imports: &[Import],
    wanted: &[WantedGrant],
    grants: &Grants,
    file: &str,
) -> Result<Vec<String>, LoadError> {
    check_offered(imports)?;
    require(&needed(imports), wanted, grants, GrantPlace::Binding(file))
}

/// Returns the imports that need a grant.
pub(crate) fn needed(imports: &[Import]) -> Vec<NeededGrant> {
    let of = |import: &Import| {
        let grant = grant_of(import).ok().flatten()?;
        Some(NeededGrant { import: import.name.clone(), grant })
    };
    imports.iter().filter_map(of).collect()
}

/// Requires that every import of a component is available, if it is granted.
///
/// # Errors
/// Names every import that is not.
pub(crate) fn check_offered(imports: &[Import]) -> Result<(), LoadError> {
    let mut unknown = Vec::new();
    for Import { name, .. } in imports.iter().filter(|import| !import.has_only_types) {
        match offer(name) {
            Offer::Always | Offer::Granted(_) => (),
            Offer::OtherVersion => {
                return Err(LoadError::UnsupportedInterface { built_for: name.to_owned() });
            }
            Offer::Never(reason) => unknown.push(format!("`{name}` ({reason})")),
            Offer::Unknown => unknown.push(format!("`{name}`")),
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(LoadError::UnknownImport { imports: unknown.join(", ") }) }
}

/// Returns the grant that an import needs.
///
/// # Errors
/// Why the import is not available at all.
pub(crate) fn grant_of(import: &Import) -> Result<Option<&'static str>, &'static str> {
    if import.has_only_types {
        return Ok(None);
    }
    match offer(&import.name) {
        Offer::Always => Ok(None),
        Offer::Granted(grant) => Ok(Some(grant)),
        Offer::OtherVersion => Err("another version of the interface"),
        Offer::Never(reason) => Err(reason),
        Offer::Unknown => Err("unknown"),
    }
}

fn offer(import: &str) -> Offer {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if let Some(own) = interface.strip_prefix("yardarm:plugin/") {
        if !v0_1::speaks(version) {
            return Offer::OtherVersion;
        }
        return match own {
            own if v0_1::ALWAYS_OFFERED.contains(&own) => Offer::Always,
            "clock" => Offer::Granted("clock"),
            "kv" => Offer::Granted("kv"),
            "http" => Offer::Granted(HTTP_OUT),
            _ => Offer::Unknown,
        };
    }
    let Some((package, name)) = interface.split_once('/') else { return Offer::Unknown };
    match (package, name) {
        ("wasi:cli" | "wasi:io" | "wasi:clocks" | "wasi:filesystem" | "wasi:random", _)
            if v0_3::is_version_of(import) =>
        {
            offer_v0_3(interface, version)
        }
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

/// Returns the offer of an interface of WASI 0.3 that is not about networks.
fn offer_v0_3(interface: &str, version: &str) -> Offer {
    if version.contains('-') {
        return Offer::Never("a draft of WASI 0.3; build for 0.3.0");
    }
    if v0_3::OFFERED.contains(&interface) { Offer::Always } else { Offer::Unknown }
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
            ("wasi:clocks/system-clock@0.3.0", Offer::Always),
            ("wasi:cli/stdout@0.3.1", Offer::Always),
            ("wasi:clocks/wall-clock@0.3.0", Offer::Unknown),
            ("wasi:io/streams@0.3.0", Offer::Unknown),
            ("wasi:cli/run@0.3.0", Offer::Unknown),
            ("acme:things/stuff@1.0.0", Offer::Unknown),
            ("stuff", Offer::Unknown),
        ] {
            assert_eq!(offer(import), expected, "{import}");
        }
        assert!(matches!(offer("wasi:sockets/tcp@0.2.6"), Offer::Never(_)));
        assert!(matches!(offer("wasi:http/types@0.2.6"), Offer::Never(_)));
        assert!(matches!(offer("wasi:sockets/types@0.3.0"), Offer::Never(_)));
        assert!(matches!(offer("wasi:http/client@0.3.0"), Offer::Never(_)));
        assert!(matches!(offer("wasi:cli/stdout@0.3.0-rc-2026-01-06"), Offer::Never(_)));
    }
}
