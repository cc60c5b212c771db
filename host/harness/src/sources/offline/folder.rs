//! Reads the folder: one folder `env-<id>` per environment, with up to four files in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use serde_json::value::RawValue;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::Target;

use crate::data::persisted::{self, PersistedEnvironment};
use crate::data::received::{ReadList, Received};
use crate::identity::{Identity, KeyHash};

pub(super) const KEYS: &str = "auth_config.json";
pub(super) const FLAGS: &str = "feature_config.json";
pub(super) const SEGMENTS: &str = "segments.json";
pub(super) const TARGETS: &str = "targets.json";
pub(super) const PREFIX: &str = "env-";

/// Folders within folders that are looked into, so that a link to itself has an end.
const MAX_DEPTH: usize = 8;

/// What tells one state of the folder from another without reading the files.
pub(super) type Look = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

/// What a folder holds, by ID, and what it looked like before it was read.
pub(super) type Content = (Look, BTreeMap<String, Read>);

/// What the files of one environment say.
pub(super) struct Read {
    /// Everything but flags and segments.
    pub(super) persisted: PersistedEnvironment,
    pub(super) received: Received,
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The operating system said no.
    #[error("`{path}` (`harness.offline.dir`) cannot be read: {source}")]
    Unreadable {
        /// File or folder.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("`{path}` (`harness.offline.dir`) is malformed: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
}

/// Reads everything, if the folder looks different than it was `seen`. Blocks.
pub(super) fn read_if_changed(folder: &Path, seen: Option<&Look>) -> Result<Option<Content>, OfflineError> {
    let mut environments = BTreeMap::new();
    find(folder, 0, &mut environments)?;
    // Looked at before it is read: a file that changes meanwhile is read again.
    let look = environments.values().flat_map(|path| [KEYS, FLAGS, SEGMENTS, TARGETS].map(|it| path.join(it)));
    let look: Look = look.map(|path| (path.clone(), look_at(&path))).collect();
    if seen == Some(&look) {
        return Ok(None);
    }
    let all = environments.into_iter().map(|(id, path)| Ok((id, read(&path)?))).collect::<Result<_, _>>()?;
    Ok(Some((look, all)))
}

fn look_at(path: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// Finds folders of environments, wherever they are.
fn find(folder: &Path, depth: usize, found: &mut BTreeMap<String, PathBuf>) -> Result<(), OfflineError> {
    let unreadable = |source| OfflineError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        if name.contains(PREFIX) {
            let id = name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
            found.entry(id).or_insert_with(|| path.clone());
        }
        if depth < MAX_DEPTH {
            find(&path, depth + 1, found)?;
        }
    }
    Ok(())
}

/// All files are optional.
fn read(folder: &Path) -> Result<Read, OfflineError> {
    let malformed = |file: &str, problem: String| OfflineError::Malformed { path: folder.join(file), problem };
    let hash = |entry: &RawValue| {
        // Written by version 2 and by hand, hashes may carry the name of their place in a cache.
        let text: String = serde_json::from_str(entry.get()).unwrap_or_default();
        let hash = text.strip_prefix("auth-key-").unwrap_or(&text);
        KeyHash::listed(hash).ok_or_else(|| malformed(KEYS, "it lists what is no hash of a key".to_owned()))
    };
    let keys = list(&folder.join(KEYS), |all| all.iter().map(|it| hash(it)).collect::<Result<_, _>>())??;
    let ((environment, project), flags) = list(&folder.join(FLAGS), |all| (place(all), ReadList::from_entries(all)))?;
    let segments = list(&folder.join(SEGMENTS), ReadList::from_entries)?;
    let targets = list(&folder.join(TARGETS), Target::read_all)?;
    if targets.1 > 0 {
        tracing::error!(file = %folder.join(TARGETS).display(), unreadable = targets.1, "targets that cannot be read are skipped");
    }
    Ok(Read {
        persisted: PersistedEnvironment {
            source: None,
            identity: Identity { environment, project, cluster: "1".to_owned(), ..Identity::default() },
            keys,
            items: None,
            targets: persisted::texts(&targets.0),
        },
        received: Received { flags: Some(flags), segments: Some(segments) },
    })
}

/// Identifiers of environment and project, as far as flags say.
fn place(flags: &[&RawValue]) -> (String, String) {
    let flags: Vec<Value> = flags.iter().filter_map(|it| serde_json::from_str(it.get()).ok()).collect();
    let of = |name: &str| flags.iter().find_map(|it| it[name].as_str()).unwrap_or_default().to_owned();
    (of("environment"), of("project"))
}

/// What `read` makes of the entries of a file. No file and `null` are empty lists. A file without anything in it is not:
/// it is about to be written.
fn list<T>(path: &Path, read: impl FnOnce(&[&RawValue]) -> T) -> Result<T, OfflineError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(read(&[])),
        Err(source) => return Err(OfflineError::Unreadable { path: path.to_owned(), source }),
    };
    let text = lenient_json::text(&bytes);
    let list: Option<Vec<&RawValue>> = serde_json::from_str(&text)
        .map_err(|error| OfflineError::Malformed { path: path.to_owned(), problem: error.to_string() })?;
    Ok(read(&list.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_missing_or_null_is_nothing() {
        // F098
        let folder = folder(&[
            ("env-a/feature_config.json", "[]"),
            ("env-a/segments.json", "null"),
            ("env-a/README.md", "text"),
            ("deep/er/env-b/feature_config.json", r#"[{"feature":"f","environment":"prod"}]"#),
            ("deep/er/env-b/targets.json", " null\n"),
            ("other/feature_config.json", "{broken"),
            ("stray.json", "{broken"),
        ]);
        let (look, all) = read_if_changed(folder.path(), None).unwrap().unwrap();
        assert_eq!(all["b"].persisted.identity.environment, "prod");
        let flags: Vec<_> = all.into_iter().map(|(id, it)| (id, it.received.complete(None).0.flags.len())).collect();
        assert_eq!(flags, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert!(read_if_changed(folder.path(), Some(&look)).unwrap().is_none(), "nothing has changed");
        std::fs::write(folder.path().join("env-a/segments.json"), "[ ]").unwrap();
        assert!(read_if_changed(folder.path(), Some(&look)).unwrap().is_some());
    }

    #[test]
    fn a_malformed_file_is_named() {
        // F098
        for (file, text, problem) in [
            ("feature_config.json", "", "EOF"),
            ("feature_config.json", "[{", "EOF"),
            ("feature_config.json", "{}", "expected a sequence"),
            ("feature_config.json", "7", "expected a sequence"),
            ("segments.json", r#"{"identifier":7}"#, "expected a sequence"),
            ("auth_config.json", r#"["short"]"#, "no hash"),
            ("auth_config.json", "[7]", "no hash"),
            ("targets.json", "[{}", "EOF"),
        ] {
            let folder = folder(&[(&format!("env-a/{file}"), text)]);
            let Err(error) = read_if_changed(folder.path(), None) else { panic!("{file} {text} was read") };
            let error = error.to_string();
            assert!(error.contains(file) && error.contains(problem), "{error}");
        }
        let Err(error) = read_if_changed(Path::new("/nowhere"), None) else { panic!("nothing was read") };
        let error = error.to_string();
        assert!(error.contains("/nowhere") && error.contains("harness.offline.dir"), "{error}");
    }

    #[test]
    fn a_link_to_itself_has_an_end() {
        let folder = folder(&[("env-a/feature_config.json", "[]")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(read_if_changed(folder.path(), None).unwrap().unwrap().1.len(), 1);
    }
}
