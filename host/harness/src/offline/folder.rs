//! Reads the folder: one folder `env-<id>` per environment, with up to four files in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::credential::KeyHash;
use crate::dataset::Items;
use crate::environments::Identity;
use crate::kept::Kept;
use crate::model::{Flag, Segment, Target};

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
pub(super) type Content = (Look, BTreeMap<String, Kept>);

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
fn read(folder: &Path) -> Result<Kept, OfflineError> {
    let keys: Vec<String> = list(&folder.join(KEYS))?;
    let malformed = |file: &str, problem: String| OfflineError::Malformed { path: folder.join(file), problem };
    let hash = |text: &String| {
        // Written by version 2 and by hand, hashes may carry the name of their place in a cache.
        let hash = text.strip_prefix("auth-key-").unwrap_or(text);
        KeyHash::listed(hash).ok_or_else(|| malformed(KEYS, "it lists what is no hash of a key".to_owned()))
    };
    let flags: Vec<Value> = list(&folder.join(FLAGS))?;
    let environment = flags.iter().find_map(|it| it["environment"].as_str()).unwrap_or_default().to_owned();
    let project = flags.iter().find_map(|it| it["project"].as_str()).unwrap_or_default().to_owned();
    let flag = |it: Value| Flag::read(it).map(Arc::new).map_err(|error| malformed(FLAGS, error.to_string()));
    let segment = |it: Value| Segment::read(it).map(Arc::new).map_err(|error| malformed(SEGMENTS, error.to_string()));
    let segments: Vec<Value> = list(&folder.join(SEGMENTS))?;
    Ok(Kept {
        source: None,
        identity: Identity { environment, project, cluster: "1".to_owned(), ..Identity::default() },
        keys: keys.iter().map(hash).collect::<Result<_, _>>()?,
        items: Some(Items {
            flags: flags.into_iter().map(flag).collect::<Result<_, _>>()?,
            segments: segments.into_iter().map(segment).collect::<Result<_, _>>()?,
        }),
        targets: list::<Target>(&folder.join(TARGETS))?,
    })
}

/// No file and `null` are empty lists. A file without anything in it is not: it is about to be written.
fn list<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, OfflineError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(OfflineError::Unreadable { path: path.to_owned(), source }),
    };
    let list: Option<Vec<T>> = serde_json::from_slice(&text)
        .map_err(|error| OfflineError::Malformed { path: path.to_owned(), problem: error.to_string() })?;
    Ok(list.unwrap_or_default())
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
        let flags: Vec<_> =
            all.iter().map(|(id, kept)| (id.as_str(), kept.items.as_ref().unwrap().flags.len())).collect();
        assert_eq!(flags, [("a", 0), ("b", 1)]);
        assert_eq!(all["b"].identity.environment, "prod");
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
            ("feature_config.json", "[7]", "flag"),
            ("segments.json", r#"[{"identifier":7}]"#, "segment"),
            ("auth_config.json", r#"["short"]"#, "no hash"),
            ("targets.json", "[{}]", "identifier"),
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
