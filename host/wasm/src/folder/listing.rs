//! The names in the folder: which files belong to which plugin or set, and which of them can be read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;

use super::files::{self, Stamp};
use super::trust::Trust;
use crate::vocabulary::{LoadError, clean};

/// Maximum number of entries of a folder that are examined, plugins and others.
const MOST_ENTRIES: usize = 100_000;

/// The content of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Plugin files by file stem.
    pub(crate) pairs: BTreeMap<Arc<str>, Pair>,
    /// Files `NAME.set` by file stem.
    pub(crate) sets: BTreeMap<Arc<str>, Listed>,
    /// Why nothing in the folder may be loaded.
    pub(crate) distrust: Option<LoadError>,
}

/// The files of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) wasm: Option<Listed>,
    pub(crate) toml: Option<Listed>,
    /// Whether there is a tombstone, `NAME.retired`.
    pub(crate) is_retired: bool,
}

/// A file as listed in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listed {
    /// A regular file, or a symbolic link to one.
    File { stamp: Stamp, is_link: bool },
    /// An entry that cannot be read, with the reason.
    Unusable(LoadError),
}

/// What a file is for, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// `NAME.wasm`
    Component,
    /// `NAME.toml`
    Binding,
    /// `NAME.retired`
    Tombstone,
    /// `NAME.set`
    Set,
}

/// Lists the plugins and sets of a folder by file stem; returns `None` if the folder does not exist.
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
    let mut listing = Listing { distrust, ..Listing::default() };
    for (index, entry) in fs::read_dir(dir).map_err(unreadable)?.enumerate() {
        if index >= most {
            return Err(unusable(format!("`{}` has more than {most} entries; remove some", dir.display())));
        }
        // An incomplete list would look as if files had been removed.
        let path = entry.map_err(unreadable)?.path();
        let Some((stem, kind)) = name(&path) else { continue };
        let Some((stem, listed)) = look_at(&path, stem) else { continue };
        match kind {
            FileKind::Component => listing.pairs.entry(stem).or_default().wasm = Some(listed),
            FileKind::Binding => listing.pairs.entry(stem).or_default().toml = Some(listed),
            FileKind::Tombstone => listing.pairs.entry(stem).or_default().is_retired = true,
            FileKind::Set => _ = listing.sets.insert(stem, listed),
        }
    }
    Ok(Some(listing))
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

impl Pair {
    /// Returns whether a file is a symbolic link, so that it can change together with names in other folders.
    pub(crate) fn has_link(&self) -> bool {
        [&self.wasm, &self.toml].into_iter().flatten().any(|it| matches!(it, Listed::File { is_link: true, .. }))
    }

    /// Returns the size of the component in bytes; 0 if it is missing or cannot be read.
    pub(crate) fn component_size(&self) -> u64 {
        self.wasm.as_ref().map_or(0, Listed::size)
    }

    /// Returns the time since the component changed; `None` if it is missing or the clock was set back.
    pub(crate) fn component_age(&self) -> Option<Duration> {
        match self.wasm {
            Some(Listed::File { stamp, .. }) => stamp.age(),
            _ => None,
        }
    }

    /// Returns the size of both files in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.component_size() + self.toml.as_ref().map_or(0, Listed::size)
    }
}

impl Listed {
    fn size(&self) -> u64 {
        match self {
            Self::File { stamp, .. } => stamp.size(),
            Self::Unusable(_) => 0,
        }
    }
}

/// Returns the stem and the kind of a file of the folder; `None` for temporary and hidden files.
pub(crate) fn name(path: &Path) -> Option<(&OsStr, FileKind)> {
    let stem = path.file_stem()?;
    let kind = match path.extension()?.to_str()? {
        _ if stem.as_encoded_bytes().starts_with(b".") => return None,
        "wasm" => FileKind::Component,
        "toml" => FileKind::Binding,
        "retired" => FileKind::Tombstone,
        "set" => FileKind::Set,
        _ => return None,
    };
    Some((stem, kind))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_complete_names_count() {
        assert_eq!(name(Path::new("/d/gate.wasm")), Some((OsStr::new("gate"), FileKind::Component)));
        assert_eq!(name(Path::new("/d/gate.toml")), Some((OsStr::new("gate"), FileKind::Binding)));
        for other in ["/d/.gate.wasm", "/d/gate.wasm.tmp", "/d/gate.wasm.part", "/d/gate", "/d/..data"] {
            assert_eq!(name(Path::new(other)), None, "{other}");
        }
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
}
