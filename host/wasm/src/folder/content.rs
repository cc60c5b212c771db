//! The content of one plugin's files.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::files::{self, LARGEST_BINDING};
use super::listing::{Listed, Listing, Pair};
use super::trust::Trust;
use crate::staging::manifest::{BadManifest, Manifest};
use crate::vocabulary::{Bind, LARGEST_COMPONENT, LoadError, largest_file, only_required};

/// Digests of the files of one plugin; `None` for a file that is missing or was not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) wasm: Option<[u8; 32]>,
    pub(crate) toml: Option<[u8; 32]>,
}

/// The content of one plugin's files.
pub(crate) struct Content {
    pub(crate) binding: Option<Result<Manifest, BadManifest>>,
    pub(crate) component: ComponentFile,
    pub(crate) digests: Digests,
    /// Whether the files were unchanged while they were read.
    pub(crate) is_steady: bool,
}

/// The component file of a plugin.
pub(crate) enum ComponentFile {
    Absent,
    /// The binding file cannot be used, so the component is not needed.
    Unread,
    Read(Arc<[u8]>, [u8; 32]),
    Refused(LoadError),
}

/// What a parsed binding file says of a plugin that does not run.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) name: Option<Arc<str>>,
    pub(super) required_bindings: Vec<Bind>,
}

impl Parsed {
    pub(super) fn of(content: &Content) -> Option<Self> {
        let manifest = content.binding.as_ref()?.as_ref().ok()?;
        Some(Self { name: manifest.name.clone(), required_bindings: only_required(manifest.binds.clone()) })
    }
}

/// Reads the files of one plugin once, as far as they can be used.
///
/// # Errors
/// Why the binding file cannot be read. The plugin is not usable then: ignoring its binding file would bind it
/// everywhere.
pub(crate) fn read(dir: &Path, stem: &str, pair: &Pair, trust: Trust) -> Result<Content, LoadError> {
    let mut content =
        Content { binding: None, component: ComponentFile::Absent, digests: Digests::default(), is_steady: true };
    if let Some(listed) = &pair.toml {
        let (bytes, is_steady) = read_file(&dir.join(format!("{stem}.toml")), listed, LARGEST_BINDING, trust)?;
        content.digests.toml = Some(Sha256::digest(&bytes).into());
        content.is_steady = is_steady;
        content.binding = Some(Manifest::of_bytes(&bytes));
    }
    let limit = match &content.binding {
        Some(Err(_)) => {
            content.component = if pair.wasm.is_some() { ComponentFile::Unread } else { ComponentFile::Absent };
            return Ok(content);
        }
        Some(Ok(manifest)) => largest_file(manifest.large),
        None => largest_file(false),
    };
    let Some(listed) = &pair.wasm else { return Ok(content) };
    match read_file(&dir.join(format!("{stem}.wasm")), listed, limit, trust) {
        Ok((bytes, is_steady)) => {
            let sha256 = Sha256::digest(&bytes).into();
            content.digests.wasm = Some(sha256);
            content.is_steady &= is_steady;
            content.component = ComponentFile::Read(bytes.into(), sha256);
        }
        Err(error) => content.component = ComponentFile::Refused(error),
    }
    Ok(content)
}

/// Reads a file; returns whether it is still the listed one.
fn read_file(path: &Path, listed: &Listed, limit: u64, trust: Trust) -> Result<(Vec<u8>, bool), LoadError> {
    match listed {
        Listed::Unusable(error) => Err(error.clone()),
        Listed::File { stamp, .. } => {
            let (bytes, read) = files::read_with_stamps(path, limit, trust)?;
            Ok((bytes, read == Some(*stamp)))
        }
    }
}

/// Returns whether the files of a plugin still have the content that was read; a file that was not read counts as
/// unchanged.
pub(crate) fn has_content(dir: &Path, stem: &str, digests: &Digests) -> bool {
    let is_same = |extension: &str, expected: Option<[u8; 32]>, limit| match expected {
        None => true,
        Some(expected) => files::digest(&dir.join(format!("{stem}.{extension}")), limit) == Ok(Some(expected)),
    };
    is_same("toml", digests.toml, LARGEST_BINDING) && is_same("wasm", digests.wasm, LARGEST_COMPONENT)
}

/// Returns the parsed binding files of a folder. Untrusted files are read too, because bindings without a running plugin
/// can only deny.
pub(crate) fn binding_files(dir: &Path, listing: &Listing) -> Vec<(Arc<str>, Manifest)> {
    // In a folder that other users can write to, a tombstone opens nothing.
    let is_retired = |pair: &Pair| pair.is_retired && listing.distrust.is_none();
    let with_binding = listing.pairs.iter().filter(|(_, pair)| pair.toml.is_some() && !is_retired(pair));
    let parsed = with_binding.filter_map(|(stem, pair)| {
        let only = Pair { toml: pair.toml.clone(), ..Pair::default() };
        match read(dir, stem, &only, Trust::Any) {
            Ok(Content { binding: Some(Ok(manifest)), .. }) => Some((Arc::clone(stem), manifest)),
            _ => None,
        }
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::super::listing::list;
    use super::*;

    #[test]
    fn a_component_is_read_only_within_the_limit_of_its_binding() {
        let dir = tempfile::tempdir().unwrap();
        let wasm = dir.path().join("gate.wasm");
        File::create(&wasm).unwrap().set_len(largest_file(false) + 1).unwrap();
        let read = || {
            let pair = list(dir.path(), Trust::Owner).unwrap().unwrap().pairs["gate"].clone();
            read(dir.path(), "gate", &pair, Trust::Owner).unwrap()
        };
        assert!(matches!(read().component, ComponentFile::Refused(LoadError::TooLarge { .. })));
        fs::write(dir.path().join("gate.toml"), "[plugin]\nprofile = \"large\"").unwrap();
        assert!(matches!(read().component, ComponentFile::Read(..)));
        fs::write(dir.path().join("gate.toml"), b"name = \"\xff\"").unwrap();
        let content = read();
        assert!(matches!(content.component, ComponentFile::Unread));
        assert!(content.binding.unwrap().unwrap_err().faults[0].contains("UTF-8"));
    }
}
