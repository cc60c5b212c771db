//! A snapshot of the folder: its files, whether they are stable, and their content.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::files::{self, LARGEST_BINDING, Stamp};
use super::trust::Trust;

use crate::staging::manifest::{BadManifest, Manifest};

use crate::vocabulary::{Bind, LARGEST_LARGE_FILE, LoadError, clean, largest_file, only_required};

/// Time without changes before a file is read.
const STABLE: Duration = Duration::from_millis(300);
/// Maximum number of entries of a folder that are examined, plugins and others.
const MOST_ENTRIES: usize = 100_000;

/// The content of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Plugin files by file stem.
    pub(crate) pairs: BTreeMap<Arc<str>, Pair>,
    /// Why nothing in the folder may be loaded.
    pub(crate) distrust: Option<LoadError>,
}

/// The two files of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) wasm: Option<Listed>,
    pub(crate) toml: Option<Listed>,
}

/// A file as listed in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listed {
    /// A regular file, or a symbolic link to one.
    File { stamp: Stamp, is_link: bool },
    /// An entry that cannot be read, with the reason.
    Unusable(LoadError),
}

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

/// Bindings that fail closed until a plugin is loaded.
pub(crate) struct RequiredBindings {
    pub(crate) stem: Arc<str>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) binds: Vec<Bind>,
}

/// The component file of a plugin.
pub(crate) enum ComponentFile {
    Absent,
    /// The binding file cannot be used, so the component is not needed.
    Unread,
    Read(Arc<[u8]>, [u8; 32]),
    Refused(LoadError),
}

/// Files that recently changed.
#[derive(Debug, Default)]
pub(crate) struct UnstableFiles(HashMap<PathBuf, (Stamp, Instant)>);

/// Lists the plugins of a folder by file stem; returns `None` if the folder does not exist.
pub(crate) fn list(dir: &Path, trust: Trust) -> Result<Option<Listing>, LoadError> {
    list_at_most(MOST_ENTRIES, dir, trust)
}

fn list_at_most(most: usize, dir: &Path, trust: Trust) -> Result<Option<Listing>, LoadError> {
    let unusable = |text: String| LoadError::UnusableFolder { text };
    let unreadable = |error: io::Error| {
        let user = rustix::process::geteuid().as_raw();
        unusable(format!("`{}` cannot be read by user {user}, who runs this process: {error}", dir.display()))
    };
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => (),
        Ok(_) => return Err(unusable(format!("`{}` is not a folder", dir.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let distrust =
        open_folder(dir).map_err(unreadable).map(|(file, metadata)| trust.check(dir, &file, &metadata))?.err();
    let mut pairs: BTreeMap<Arc<str>, Pair> = BTreeMap::new();
    for (index, entry) in fs::read_dir(dir).map_err(unreadable)?.enumerate() {
        if index >= most {
            return Err(unusable(format!("`{}` has more than {most} entries; remove some", dir.display())));
        }
        // An incomplete list would look as if files had been removed.
        let path = entry.map_err(unreadable)?.path();
        let Some((stem, is_wasm)) = name(&path) else { continue };
        let Some((stem, listed)) = look_at(&path, stem) else { continue };
        let pair = pairs.entry(stem).or_default();
        *(if is_wasm { &mut pair.wasm } else { &mut pair.toml }) = Some(listed);
    }
    Ok(Some(Listing { pairs, distrust }))
}

fn open_folder(dir: &Path) -> io::Result<(File, fs::Metadata)> {
    let flags = OFlags::DIRECTORY | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(dir)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Returns the stem and the state of a file; `None` if the file has just been removed.
fn look_at(path: &Path, stem: &OsStr) -> Option<(Arc<str>, Listed)> {
    let text = stem.to_str().filter(|text| !text.chars().any(char::is_control));
    let Some(text) = text else {
        let cleaned = clean(&stem.to_string_lossy());
        return Some((cleaned.into(), Listed::Unusable(LoadError::BadFileName)));
    };
    let listed = match (fs::symlink_metadata(path), fs::metadata(path)) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => return None,
        (Err(error), _) => Listed::Unusable(files::unreadable(path, &error)),
        (Ok(link), Err(error)) if link.is_symlink() && error.kind() == io::ErrorKind::NotFound => {
            let text = format!("`{}` is a symbolic link to a file that does not exist", path.display());
            Listed::Unusable(LoadError::Unreadable { text })
        }
        (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => return None,
        (Ok(_), Err(error)) => Listed::Unusable(files::unreadable(path, &error)),
        // Follows symbolic links, which orchestrators use to mount files.
        (Ok(link), Ok(metadata)) => match files::refuse_other_kinds(path, &metadata) {
            Ok(()) => Listed::File { stamp: Stamp::of(&metadata), is_link: link.is_symlink() },
            Err(error) => Listed::Unusable(error),
        },
    };
    Some((text.into(), listed))
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
    is_same("toml", digests.toml, LARGEST_BINDING) && is_same("wasm", digests.wasm, LARGEST_LARGE_FILE)
}

/// Returns the required bindings of every plugin that has a binding file. Untrusted files are read too, because
/// bindings without a running plugin can only deny.
pub(crate) fn required_bindings(dir: &Path, listing: &Listing) -> Vec<RequiredBindings> {
    let mut required_bindings = Vec::new();
    for (stem, pair) in listing.pairs.iter().filter(|(_, pair)| pair.toml.is_some()) {
        let only = Pair { wasm: None, toml: pair.toml.clone() };
        let Ok(Content { binding: Some(binding), .. }) = read(dir, stem, &only, Trust::Any) else { continue };
        let stem = Arc::clone(stem);
        required_bindings.push(match binding {
            Ok(manifest) => RequiredBindings { stem, name: manifest.name, binds: only_required(manifest.binds) },
            Err(bad) => RequiredBindings { stem, name: None, binds: bad.required_bindings },
        });
    }
    required_bindings
}

impl Pair {
    /// Returns whether a file is a symbolic link, so that it can change together with names in other folders.
    pub(crate) fn has_link(&self) -> bool {
        [&self.wasm, &self.toml].into_iter().flatten().any(|it| matches!(it, Listed::File { is_link: true, .. }))
    }

    /// Returns the size of both files in bytes.
    pub(crate) fn size(&self) -> u64 {
        let files = [&self.wasm, &self.toml].into_iter().flatten();
        files.map(|it| if let Listed::File { stamp, .. } = it { stamp.size() } else { 0 }).sum()
    }
}

impl UnstableFiles {
    /// Returns whether a file with a new stamp is stable. `arrived` contains files that were closed or renamed into
    /// place since.
    pub(crate) fn is_at_rest(&mut self, path: &Path, stamp: Stamp, arrived: &HashSet<PathBuf>) -> bool {
        if arrived.contains(path) {
            return true;
        }
        if stamp.age().is_some_and(|age| age >= STABLE) {
            return true;
        }
        let now = Instant::now();
        let (seen, since) = self.0.entry(path.to_owned()).or_insert((stamp, now));
        if *seen != stamp {
            (*seen, *since) = (stamp, now);
        }
        *since + STABLE <= now
    }

    /// Removes all recorded files.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Returns the stem of a plugin file, and whether it is the component; `None` for temporary and hidden files.
pub(crate) fn name(path: &Path) -> Option<(&OsStr, bool)> {
    let stem = path.file_stem()?;
    match path.extension()?.to_str()? {
        _ if stem.as_encoded_bytes().starts_with(b".") => None,
        "wasm" => Some((stem, true)),
        "toml" => Some((stem, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_complete_names_count() {
        assert_eq!(name(Path::new("/d/gate.wasm")), Some((OsStr::new("gate"), true)));
        assert_eq!(name(Path::new("/d/gate.toml")), Some((OsStr::new("gate"), false)));
        for other in ["/d/.gate.wasm", "/d/gate.wasm.tmp", "/d/gate.wasm.part", "/d/gate", "/d/..data"] {
            assert_eq!(name(Path::new(other)), None, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_stable_when_unchanged_for_a_while_or_closed() {
        let stamp = |size| Stamp::made_up(size, Duration::ZERO);
        let path = Path::new("/d/a.wasm");
        let (mut unstable, nothing) = (UnstableFiles::default(), HashSet::new());
        let first = stamp(1);
        assert!(!unstable.is_at_rest(path, first, &nothing));
        tokio::time::advance(STABLE / 2).await;
        let second = stamp(2);
        assert!(!unstable.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(!unstable.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(unstable.is_at_rest(path, second, &nothing));
        assert!(unstable.is_at_rest(path, stamp(3), &HashSet::from([path.to_owned()])));
        assert!(unstable.is_at_rest(path, Stamp::made_up(4, Duration::from_secs(9)), &nothing));
    }

    #[test]
    fn a_folder_is_listed_completely_whether_trusted_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let list = |path: &Path| list(path, Trust::Owner);
        assert_eq!(list(dir.path()), Ok(Some(Listing::default())));
        let file = dir.path().join("gate.toml");
        fs::write(&file, "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let listing = list(dir.path()).unwrap().unwrap();
        assert_eq!(listing.distrust.unwrap().code(), "L12");
        assert_eq!(listing.pairs.len(), 1);
        assert_eq!(list(&file).unwrap_err().class(), "unusable-folder");
        assert_eq!(list(&dir.path().join("nowhere")), Ok(None));
        symlink("nowhere", dir.path().join("link")).unwrap();
        assert_eq!(list(&dir.path().join("link")), Ok(None));
    }

    #[test]
    fn invalid_names_and_other_kinds_of_files_are_listed_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"caf\xe9.wasm"[..], b"two\nlines.toml", b"fine.wasm"] {
            fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        fs::create_dir(dir.path().join("folder.wasm")).unwrap();
        symlink("nowhere", dir.path().join("broken.toml")).unwrap();
        symlink("loop.wasm", dir.path().join("loop.wasm")).unwrap();
        let pairs = list(dir.path(), Trust::Owner).unwrap().unwrap().pairs;
        let problem = |listed: &Option<Listed>| match listed {
            Some(Listed::Unusable(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(problem(&pairs["caf\u{fffd}"].wasm).contains("UTF-8"));
        let split = pairs.keys().find(|stem| stem.starts_with("two")).unwrap();
        assert!(!split.contains('\n') && problem(&pairs[split].toml).contains("control characters"));
        assert!(problem(&pairs["folder"].wasm).contains("a folder"));
        assert!(problem(&pairs["broken"].toml).contains("does not exist"));
        assert!(problem(&pairs["loop"].wasm).contains("symbolic link"), "{pairs:?}");
        assert!(matches!(pairs["fine"].wasm, Some(Listed::File { is_link: false, .. })));
    }

    #[test]
    fn a_folder_with_too_many_entries_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..4 {
            fs::write(dir.path().join(format!("{number}.txt")), "").unwrap();
        }
        assert!(list_at_most(4, dir.path(), Trust::Owner).is_ok());
        let error = list_at_most(3, dir.path(), Trust::Owner).unwrap_err();
        assert!(error.to_string().contains("more than 3 entries"), "{error}");
    }

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
