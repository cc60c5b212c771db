//! Reading of files that may be of any kind: never waits for another process, never reads more than the limit.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::trust::Trust;
use crate::vocabulary::LoadError;

/// Maximum size of a binding file in bytes.
pub(crate) const LARGEST_BINDING: u64 = 1 << 20;
/// Number of bytes that are digested at a time.
const CHUNK: usize = 64 << 10;

/// Distinguishes states of a file without reading it. Equal stamps do not prove equal content: writes through a memory
/// mapping do not update them, and timestamps have limited resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Set by the system at each change of content, name or permissions; programs cannot set it.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the time since the last change by the clock of the file system; `None` if that is ahead of ours.
    pub(super) fn age(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    pub(super) fn made_up(size: u64, age: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - age;
        let changed = (now.as_secs().cast_signed(), i64::from(now.subsec_nanos()));
        Self { device: 1, inode: 1, size, modified: changed, changed }
    }
}

/// Opens a regular file, or the target of a symbolic link to one.
///
/// # Errors
/// [`LoadError::NotAFile`] for everything else, which is not opened, and [`LoadError::Unreadable`].
pub(super) fn open(path: &Path) -> Result<(File, Metadata), LoadError> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    // Opening a device may have side effects, and opening a pipe waits for its other end.
    refuse_other_kinds(path, &fs::metadata(path).map_err(unreadable)?)?;
    // If a pipe has replaced the file since, this does not wait for it.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    refuse_other_kinds(path, &metadata)?;
    Ok((file, metadata))
}

/// Reads a whole trusted file of at most `limit` bytes.
///
/// # Errors
/// If it is not a regular file, cannot be read, is too large or is not trusted.
pub(crate) fn read(path: &Path, limit: u64, trust: Trust) -> Result<Vec<u8>, LoadError> {
    read_with_stamps(path, limit, trust).map(|(bytes, _)| bytes)
}

/// Like `read`, with the stamp of the content; `None` if the file changed while it was read.
pub(super) fn read_with_stamps(path: &Path, limit: u64, trust: Trust) -> Result<(Vec<u8>, Option<Stamp>), LoadError> {
    let (file, before) = open(path)?;
    trust.check(path, &file, &before)?;
    let too_large = |size| LoadError::TooLarge { size, limit };
    if before.len() > limit {
        return Err(too_large(before.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default());
    // The reported size may be wrong, and the file may grow.
    (&file).take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    let after = file.metadata().map_err(|error| unreadable(path, &error))?;
    let (before, after) = (Stamp::of(&before), Stamp::of(&after));
    let is_steady = before == after && bytes.len() as u64 == after.size;
    Ok((bytes, is_steady.then_some(after)))
}

/// Returns the digest of a file's content, read in chunks; `None` if the file is larger than `limit` bytes.
pub(super) fn digest(path: &Path, limit: u64) -> Result<Option<[u8; 32]>, LoadError> {
    let (file, metadata) = open(path)?;
    if metadata.len() > limit {
        return Ok(None);
    }
    let (mut digest, mut total) = (Sha256::new(), 0);
    let mut file = file.take(limit + 1);
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).map_err(|error| unreadable(path, &error))?;
        if count == 0 {
            return Ok(Some(digest.finalize().into()));
        }
        digest.update(&chunk[..count]);
        total += count as u64;
        if total > limit {
            return Ok(None);
        }
    }
}

pub(super) fn refuse_other_kinds(path: &Path, metadata: &Metadata) -> Result<(), LoadError> {
    let kind = metadata.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(LoadError::NotAFile { path: path.display().to_string(), kind })
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> LoadError {
    LoadError::Unreadable { text: format!("`{}`: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn read_any(path: &Path) -> Result<Vec<u8>, LoadError> {
        read(path, 1_000, Trust::Any)
    }

    #[test]
    fn anything_but_a_regular_file_is_rejected_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        symlink("pipe", path("link")).unwrap();
        for (name, expected) in [
            ("pipe", "a named pipe"),
            ("link", "a named pipe"),
            ("socket", "a socket"),
            ("folder", "a folder"),
            ("device", "a device"),
        ] {
            let Err(LoadError::NotAFile { kind, .. }) = read_any(&path(name)) else { panic!("{name}") };
            assert_eq!(kind, expected);
            assert!(digest(&path(name), 1_000).is_err());
        }
        symlink("nowhere", path("broken")).unwrap();
        symlink("loop", path("loop")).unwrap();
        for name in ["broken", "loop", "absent"] {
            assert!(matches!(read_any(&path(name)), Err(LoadError::Unreadable { .. })), "{name}");
        }
    }

    #[test]
    fn size_is_checked_before_and_while_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // A sparse file of six gigabytes; reading it would take long.
        File::create(&path).unwrap().set_len(6 << 30).unwrap();
        assert_eq!(read_any(&path), Err(LoadError::TooLarge { size: 6 << 30, limit: 1_000 }));
        assert_eq!(digest(&path, 1_000), Ok(None));
        fs::write(&path, [7; 1_000]).unwrap();
        assert_eq!(read_any(&path).unwrap().len(), 1_000);
        assert_eq!(digest(&path, 1_000), Ok(Some(Sha256::digest([7; 1_000]).into())));
        fs::write(&path, [7; 1_001]).unwrap();
        assert_eq!(read_any(&path), Err(LoadError::TooLarge { size: 1_001, limit: 1_000 }));
        // Reports a size of zero but has content.
        let status = Path::new("/proc/self/status");
        assert_eq!(read(status, 100, Trust::Any), Err(LoadError::TooLarge { size: 101, limit: 100 }));
        assert_eq!(digest(status, 100), Ok(None));
        assert_eq!(read_with_stamps(status, 1 << 20, Trust::Any).unwrap().1, None);
    }

    #[test]
    fn a_stamp_detects_changes_with_equal_size_and_modification_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        fs::write(&path, "one").unwrap();
        let (before, modified) = (stamp(), fs::metadata(&path).unwrap().modified().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let after = stamp();
        assert_eq!((before.size, before.inode, before.modified), (after.size, after.inode, after.modified));
        assert_ne!(before, after);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(stamp().age().is_some_and(|age| age < Duration::from_secs(60)));
    }
}
