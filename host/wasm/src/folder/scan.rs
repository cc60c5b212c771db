//! The folder at one moment: which files there are, whether they rest, what they contain.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::stage::LoadError;

/// Time for which size and modification time must stay the same before a file is read.
const STABLE: Duration = Duration::from_millis(300);

/// The two files of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) wasm: Option<Stamp>,
    pub(super) toml: Option<Stamp>,
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

/// What was read of one plugin's files.
pub(super) struct Content {
    pub(super) wasm: Option<(Arc<[u8]>, [u8; 32])>,
    pub(super) toml: Option<String>,
}

/// Files that were seen changing.
#[derive(Debug, Default)]
pub(super) struct Restless(HashMap<PathBuf, (Stamp, Instant)>);

/// Lists the plugins of a folder by file stem; `None` if there is no folder.
pub(super) fn list(dir: &Path) -> Result<Option<BTreeMap<Arc<str>, Pair>>, LoadError> {
    let bad = |text: String| Err(LoadError::UnsafeFolder { text });
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return bad(format!("`{}` cannot be read: {error}", dir.display())),
    };
    if !metadata.is_dir() {
        return bad(format!("`{}` is not a directory", dir.display()));
    }
    if is_writable_by_all(&metadata) {
        return bad(format!("everybody can write to `{0}`; run `chmod o-w {0}`", dir.display()));
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return bad(format!("`{}` cannot be read: {error}", dir.display())),
    };
    let mut pairs: BTreeMap<Arc<str>, Pair> = BTreeMap::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Some((stem, is_wasm)) = name(&path) else { continue };
        // Follows symbolic links: that is how orchestrators mount files.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let pair = pairs.entry(stem.into()).or_default();
        *(if is_wasm { &mut pair.wasm } else { &mut pair.toml }) = Some(Stamp::of(&metadata));
    }
    Ok(Some(pairs))
}

/// Reads the files of one plugin once; `None` if they changed meanwhile.
pub(super) fn read(dir: &Path, stem: &str, pair: &Pair) -> Result<Option<Content>, LoadError> {
    let read = |stamp: Option<Stamp>, extension: &str| -> Result<Option<Option<Vec<u8>>>, LoadError> {
        let Some(stamp) = stamp else { return Ok(Some(None)) };
        let path = dir.join(format!("{stem}.{extension}"));
        let unreadable = |error: io::Error| LoadError::Unreadable { text: format!("`{}`: {error}", path.display()) };
        let before = fs::metadata(&path).map_err(unreadable)?;
        if is_writable_by_all(&before) {
            let text = format!("everybody can write to `{0}`; run `chmod o-w {0}`", path.display());
            return Err(LoadError::UnsafeFolder { text });
        }
        let bytes = fs::read(&path).map_err(unreadable)?;
        let after = fs::metadata(&path).map_err(unreadable)?;
        let steady = Stamp::of(&before) == stamp && Stamp::of(&after) == stamp && bytes.len() as u64 == after.len();
        Ok(steady.then_some(Some(bytes)))
    };
    let (Some(wasm), Some(toml)) = (read(pair.wasm, "wasm")?, read(pair.toml, "toml")?) else { return Ok(None) };
    Ok(Some(Content {
        wasm: wasm.map(|bytes| {
            let sha256 = Sha256::digest(&bytes).into();
            (Arc::from(bytes), sha256)
        }),
        toml: toml.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }))
}

impl Restless {
    /// Whether a file whose stamp is new has come to rest. `arrived` names files that were closed or renamed into
    /// place since.
    pub(super) fn is_at_rest(&mut self, path: &Path, stamp: Stamp, arrived: &HashSet<PathBuf>) -> bool {
        if arrived.contains(path) {
            return true;
        }
        let age = stamp.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age >= STABLE) {
            return true;
        }
        let now = Instant::now();
        let (seen, since) = self.0.entry(path.to_owned()).or_insert((stamp, now));
        if *seen != stamp {
            (*seen, *since) = (stamp, now);
        }
        *since + STABLE <= now
    }

    /// Forgets what was seen of files that are of no interest any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let modified = metadata.modified().ok();
        Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), modified }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        Self { device: 0, inode: 0, size: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// File stem of a plugin's file, and whether it is the component. Temporary and hidden files are none.
pub(super) fn name(path: &Path) -> Option<(&str, bool)> {
    let stem = path.file_stem()?.to_str()?;
    match path.extension()?.to_str()? {
        _ if stem.starts_with('.') => None,
        "wasm" => Some((stem, true)),
        "toml" => Some((stem, false)),
        _ => None,
    }
}

#[cfg(unix)]
fn is_writable_by_all(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o002 != 0
}

#[cfg(not(unix))]
fn is_writable_by_all(_: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_names_count() {
        assert_eq!(name(Path::new("/d/gate.wasm")), Some(("gate", true)));
        assert_eq!(name(Path::new("/d/gate.toml")), Some(("gate", false)));
        for other in ["/d/.gate.wasm", "/d/gate.wasm.tmp", "/d/gate.wasm.part", "/d/gate", "/d/..data"] {
            assert_eq!(name(Path::new(other)), None, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_rests_when_it_has_not_changed_for_a_while_or_was_closed() {
        let stamp = |size| Stamp { device: 1, inode: 1, size, modified: Some(SystemTime::now()) };
        let path = Path::new("/d/a.wasm");
        let (mut restless, nothing) = (Restless::default(), HashSet::new());
        let first = stamp(1);
        assert!(!restless.is_at_rest(path, first, &nothing));
        tokio::time::advance(STABLE / 2).await;
        let second = stamp(2);
        assert!(!restless.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(!restless.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(restless.is_at_rest(path, second, &nothing));
        assert!(restless.is_at_rest(path, stamp(3), &HashSet::from([path.to_owned()])));
        let old = Stamp { modified: Some(SystemTime::now() - Duration::from_secs(9)), ..stamp(4) };
        assert!(restless.is_at_rest(path, old, &nothing));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_everybody_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).unwrap().unwrap().is_empty());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(list(dir.path()).unwrap_err().code(), "L12");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(list(&file).unwrap_err().code(), "L12");
        assert_eq!(list(&dir.path().join("nowhere")), Ok(None));
    }
}
