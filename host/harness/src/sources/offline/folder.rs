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

/// Depth of folders that are searched, which bounds the search of a link to itself.
const MAX_DEPTH: usize = 8;

/// Modification times and lengths of all files, which show changes without reading the files.
pub(super) type Fingerprint = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

/// The fingerprint of the folder before it was read, and its environments by ID.
pub(super) type Content = (Fingerprint, BTreeMap<String, ReadEnvironment>);

/// The content of the files of one environment.
pub(super) struct ReadEnvironment {
    /// Everything but flags and segments.
    pub(super) persisted: PersistedEnvironment,
    pub(super) received: Received,
}

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A file or folder cannot be read.
    #[error("`{path}` (`harness.offline.dir`) cannot be read: {source}")]
    Unreadable {
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file is malformed.
    #[error("`{path}` (`harness.offline.dir`) is malformed: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
}

/// Reads everything, if the folder has changed since it was `seen`. Blocks.
pub(super) fn read_if_changed(folder: &Path, seen: Option<&Fingerprint>) -> Result<Option<Content>, OfflineError> {
    let mut environments = BTreeMap::new();
    find(folder, 0, &mut environments)?;
    // Taken before the files are read, so that a file which changes meanwhile is read again.
    let paths = environments.values().flat_map(|path| [KEYS, FLAGS, SEGMENTS, TARGETS].map(|it| path.join(it)));
    let fingerprint: Fingerprint = paths.map(|path| (path.clone(), modification(&path))).collect();
    if seen == Some(&fingerprint) {
        return Ok(None);
    }
    let all = environments.into_iter().map(|(id, path)| Ok((id, read(&path)?))).collect::<Result<_, _>>()?;
    Ok(Some((fingerprint, all)))
}

fn modification(path: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// Finds folders of environments at any depth.
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

/// Reads the files of one environment, all of which are optional.
fn read(folder: &Path) -> Result<ReadEnvironment, OfflineError> {
    let malformed = |file: &str, problem: String| OfflineError::Malformed { path: folder.join(file), problem };
    let hash = |entry: &RawValue| {
        // In files of version 2 and those written by hand, hashes may have the prefix of a cache key.
        let text: String = serde_json::from_str(entry.get()).unwrap_or_default();
        let hash = text.strip_prefix("auth-key-").unwrap_or(&text);
        KeyHash::listed(hash).ok_or_else(|| malformed(KEYS, "it contains an entry that is no hash of a key".to_owned()))
    };
    let keys = list(&folder.join(KEYS), |all| all.iter().map(|it| hash(it)).collect::<Result<_, _>>())??;
    let ((environment, project), flags) = list(&folder.join(FLAGS), |all| (origin(all), ReadList::from_entries(all)))?;
    let segments = list(&folder.join(SEGMENTS), ReadList::from_entries)?;
    let targets = list(&folder.join(TARGETS), Target::read_all)?;
    if targets.1 > 0 {
        tracing::error!(file = %folder.join(TARGETS).display(), unreadable = targets.1, "targets that cannot be read are skipped");
    }
    Ok(ReadEnvironment {
        persisted: PersistedEnvironment {
            source: None,
            identity: Identity { environment, project, cluster: "1".to_owned(), ..Identity::default() },
            keys,
            items: None,
            targets: persisted::texts(&targets.0),
            is_stored: false,
        },
        received: Received { flags: Some(flags), segments: Some(segments) },
    })
}

/// Returns the identifiers of environment and project that flags name; empty if they name none.
fn origin(flags: &[&RawValue]) -> (String, String) {
    let flags: Vec<Value> = flags.iter().filter_map(|it| serde_json::from_str(it.get()).ok()).collect();
    let of = |name: &str| flags.iter().find_map(|it| it[name].as_str()).unwrap_or_default().to_owned();
    (of("environment"), of("project"))
}

/// Reads the entries of a file with `read`. A missing file and `null` are empty lists. An empty file is an error, because it is
/// about to be written.
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
    fn missing_files_and_null_are_empty_lists() {
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
        let (fingerprint, all) = read_if_changed(folder.path(), None).unwrap().unwrap();
        assert_eq!(all["b"].persisted.identity.environment, "prod");
        let flags: Vec<_> = all.into_iter().map(|(id, it)| (id, it.received.complete(None).0.flags.len())).collect();
        assert_eq!(flags, [("a".to_owned(), 0), ("b".to_owned(), 1)]);
        assert!(read_if_changed(folder.path(), Some(&fingerprint)).unwrap().is_none(), "nothing has changed");
        std::fs::write(folder.path().join("env-a/segments.json"), "[ ]").unwrap();
        assert!(read_if_changed(folder.path(), Some(&fingerprint)).unwrap().is_some());
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
    fn a_link_to_itself_is_searched_to_a_bounded_depth() {
        let folder = folder(&[("env-a/feature_config.json", "[]")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(read_if_changed(folder.path(), None).unwrap().unwrap().1.len(), 1);
    }
}
