//! A file `NAME.set`: components and binding files with their digests, which are applied together or not at all.
//!
//! ```toml
//! [files]
//! "gate.wasm" = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! "gate.toml" = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use yardarm_core::time::unix_ms;

use super::content::{Digests, Parsed};
use super::listing::{self, FileKind, Listed, Pair};
use crate::staging::manifest::syntax_fault;
use crate::status::{Refusal, SetRow, SetState};

/// Maximum number of files in a set.
const MOST_FILES: usize = 64;
/// Maximum size of a file `NAME.set` in bytes.
pub(super) const LARGEST_SET: u64 = 64 << 10;

/// A parsed set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PluginSet {
    /// The files of each plugin, by file stem.
    pub(super) members: BTreeMap<Arc<str>, Digests>,
    /// Digest of the file's text.
    pub(super) digest: [u8; 32],
}

/// The state of one set in the loader.
#[derive(Default)]
pub(super) struct SetEntry {
    /// The file as it was read last.
    pub(super) seen: Option<Listed>,
    /// The set that was parsed last; it stays in force while a newer file cannot be used.
    pub(super) set: Option<PluginSet>,
    pub(super) state: SetState,
    /// Why the set or its file is not used.
    pub(super) refusal: Option<Refusal>,
    /// Files that are missing, or have other content.
    pub(super) missing: Vec<String>,
    /// Files of the members when they were compared last.
    pub(super) examined: Option<BTreeMap<Arc<str>, Pair>>,
    /// The binding files that take effect with the set.
    pub(super) parsed: BTreeMap<Arc<str>, Option<Parsed>>,
    pub(super) since_ms: u64,
}

impl PluginSet {
    /// Parses the bytes of a set.
    ///
    /// # Errors
    /// Each fault, with its key.
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self, Vec<String>> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| vec![format!("byte {} is not valid UTF-8", error.valid_up_to())])?;
        let table: toml::Table = text.parse().map_err(|error| vec![syntax_fault(text, &error)])?;
        let mut faults = Vec::new();
        for key in table.keys().filter(|key| *key != "files") {
            faults.push(format!("`{key}`: unknown key, expected `files`"));
        }
        let mut members: BTreeMap<Arc<str>, Digests> = BTreeMap::new();
        let files = table.get("files").and_then(toml::Value::as_table);
        for (name, digest) in files.into_iter().flatten() {
            let mut sha256 = [0; 32];
            let is_digest = digest.as_str().is_some_and(|text| hex::decode_to_slice(text, &mut sha256).is_ok());
            match file_of(name) {
                None => faults.push(format!("`files.{name}`: must be the name of a component or a binding file")),
                Some(_) if !is_digest => {
                    faults.push(format!("`files.{name}`: must be 64 hexadecimal digits, as `sha256sum` prints them"));
                }
                Some((stem, kind)) => {
                    let digests = members.entry(stem.into()).or_default();
                    *(if kind == FileKind::Component { &mut digests.wasm } else { &mut digests.toml }) = Some(sha256);
                }
            }
        }
        match files.map_or(0, toml::Table::len) {
            0 => faults.push("`files`: must be a table of file names and their SHA-256".to_owned()),
            count if count > MOST_FILES => faults.push(format!("`files`: {count} files, {MOST_FILES} are allowed")),
            _ => (),
        }
        if faults.is_empty() { Ok(Self { members, digest: Sha256::digest(bytes).into() }) } else { Err(faults) }
    }

    /// Returns the listed files of a plugin whose content is another one.
    pub(super) fn missing_files(&self, stem: &str, actual: &Digests) -> Vec<String> {
        let expected = self.members.get(stem).copied().unwrap_or_default();
        let files = [("wasm", expected.wasm, actual.wasm), ("toml", expected.toml, actual.toml)];
        let is_missing = |(_, expected, actual): &(_, Option<[u8; 32]>, _)| expected.is_some() && expected != actual;
        files.into_iter().filter(is_missing).map(|(extension, ..)| format!("{stem}.{extension}")).collect()
    }
}

impl SetEntry {
    pub(super) fn members(&self) -> BTreeSet<Arc<str>> {
        self.set.iter().flat_map(|set| set.members.keys().cloned()).collect()
    }

    pub(super) fn contains(&self, stem: &str) -> bool {
        self.set.as_ref().is_some_and(|set| set.members.contains_key(stem))
    }

    /// Changes the state; the time of the change is kept if it is the same.
    pub(super) fn become_state(&mut self, state: SetState) {
        if self.state != state {
            self.since_ms = unix_ms();
        }
        self.state = state;
    }

    pub(super) fn row(&self, stem: &Arc<str>) -> SetRow {
        let missing = self.missing.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        SetRow {
            file: stem.to_string(),
            state: self.state,
            since_ms: self.since_ms,
            plugins: self.members().iter().map(ToString::to_string).collect(),
            refused: self.refusal.clone(),
            advice: (self.state == SetState::Waiting).then(|| {
                format!("nothing of the set is applied until these files are there with its SHA-256: {missing}")
            }),
        }
    }
}

/// Returns the stem and the kind of a component or binding file in the folder itself.
fn file_of(name: &str) -> Option<(&str, FileKind)> {
    let (stem, kind) = listing::name(Path::new(name))?;
    let is_plain = !name.contains('/') && matches!(kind, FileKind::Component | FileKind::Binding);
    Some((stem.to_str()?, kind)).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_files_with_their_digests() {
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let text = format!("[files]\n\"a.wasm\" = \"{one}\"\n\"a.toml\" = \"{two}\"\n\"b.wasm\" = \"{two}\"");
        let set = PluginSet::of_bytes(text.as_bytes()).unwrap();
        assert_eq!(set.members["a"], Digests { wasm: Some([1; 32]), toml: Some([2; 32]) });
        assert_eq!(set.members["b"], Digests { wasm: Some([2; 32]), toml: None });
        assert!(set.missing_files("b", &Digests { wasm: Some([2; 32]), toml: Some([9; 32]) }).is_empty());
        assert_eq!(set.missing_files("a", &Digests { wasm: Some([9; 32]), toml: None }), ["a.wasm", "a.toml"]);
    }

    #[test]
    fn faults_name_the_key() {
        let digest = "00".repeat(32);
        for (text, expected) in [
            (String::new(), "`files`: must be a table of file names and their SHA-256"),
            ("[files]".to_owned(), "`files`: must be a table of file names and their SHA-256"),
            (format!("[files]\n\"a.wasm\" = \"{digest}\"\n[more]"), "`more`: unknown key, expected `files`"),
            (
                "[files]\n\"a.wasm\" = \"12\"".to_owned(),
                "`files.a.wasm`: must be 64 hexadecimal digits, as `sha256sum` prints them",
            ),
            ("[files".to_owned(), "line 1, column 7: "),
        ] {
            let faults = PluginSet::of_bytes(text.as_bytes()).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(expected), "{text}: {faults:?}");
        }
        for name in ["../a.wasm", "d/a.wasm", "a.set", "a.retired", ".a.wasm", "a"] {
            let text = format!("[files]\n\"{name}\" = \"{digest}\"");
            let faults = PluginSet::of_bytes(text.as_bytes()).unwrap_err();
            assert!(faults[0].contains("must be the name of a component or a binding file"), "{name}: {faults:?}");
        }
        assert_eq!(PluginSet::of_bytes(b"\xff").unwrap_err(), ["byte 0 is not valid UTF-8"]);
    }
}
