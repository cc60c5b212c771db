//! The data folder: locked by one process at a time, and not writable by other users.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::atomic_file;

/// Name of the lock file. The operating system releases the lock however the process ends.
const LOCK: &str = "lock";
/// Maximum size in bytes of the note about the holder.
const MAX_NOTE: u64 = 256;

/// A data folder that this process holds exclusively as long as this value lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// `None` on a read-only disk without a lock file.
    _lock: Option<File>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The folder cannot be created or written.
    #[error("folder `{path}` cannot be used: {source}")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process holds the folder.
    #[error("folder `{path}` is in use by {holder}, and two gateways would overwrite each other's files")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// `process PID on host NAME`, as recorded by the other process.
        holder: String,
    },
}

impl DataFolder {
    /// Creates the folder if it does not exist, and locks it. Blocks, but only for the disk.
    ///
    /// # Errors
    /// When the folder cannot be created or written, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let unusable = |source| DataFolderError::Unusable { path: path.to_owned(), source };
        atomic_file::make_folder(path).map_err(unusable)?;
        if !atomic_file::mend_permissions(path).map_err(unusable)? {
            // Volumes in containers are often mounted like this. The folders inside are created and checked by this
            // process.
            tracing::warn!(folder = %path.display(), "other users can write to the data folder");
        }
        let lock_path = path.join(LOCK);
        let opened = atomic_file::open(OpenOptions::new().read(true).write(true).create(true).mode(0o600), &lock_path);
        let mut lock = match opened {
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                tracing::warn!(folder = %path.display(), "the data folder is on a read-only disk; what is in it is used, and nothing is kept");
                match atomic_file::open(OpenOptions::new().read(true), &lock_path) {
                    // No process can write there.
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        return Ok(Self { path: path.to_owned(), _lock: None });
                    }
                    opened => opened,
                }
            }
            opened => opened,
        }
        .map_err(|error| unusable(io::Error::new(error.kind(), format!("`{LOCK}` in it cannot be opened: {error}"))))?;
        match lock.try_lock() {
            Ok(()) => {
                // Informational only; the lock does not depend on it.
                let note = format!("process {} on host {}\n", std::process::id(), host_name());
                let _ = lock.set_len(0).and_then(|()| lock.write_all(note.as_bytes()));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(DataFolderError::InUse { path: path.to_owned(), holder: holder(lock) });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(folder = %path.display(), %error, "the file system does not support locks; make sure that no other process uses the data folder");
            }
        }
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Checks whether [`Self::open`] would succeed. A folder that did not exist is not left behind. Blocks.
    ///
    /// # Errors
    /// The same as [`Self::open`].
    pub fn probe(path: &Path) -> Result<(), DataFolderError> {
        let missing: Vec<_> = path.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
        let probed = Self::open(path).map(drop);
        if let Some(made) = missing.first() {
            let _ = fs::remove_file(made.join(LOCK));
        }
        for made in missing {
            let _ = fs::remove_dir(made);
        }
        probed
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn holder(lock: File) -> String {
    let mut note = String::new();
    let is_read = lock.take(MAX_NOTE).read_to_string(&mut note).is_ok();
    let is_note = |it: &char| !it.is_control();
    let note: String = note.trim().chars().filter(is_note).collect();
    if is_read && !note.is_empty() { note } else { "another process".to_owned() }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_process_holds_the_folder_until_it_releases_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let folder = DataFolder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataFolder::open(&path).unwrap_err().to_string();
        let host = std::process::Command::new("uname").arg("-n").output().unwrap().stdout;
        let holder = format!("process {} on host {}", std::process::id(), String::from_utf8(host).unwrap().trim());
        for part in [path.to_str().unwrap(), &holder, "in use"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(matches!(DataFolder::probe(&path), Err(DataFolderError::InUse { .. })));
        // An empty or malformed note names no process.
        for (note, expected) in [("", "another process"), ("\u{1}\n", "another process"), ("a\u{7}b\n", "ab")] {
            fs::write(path.join(LOCK), note).unwrap();
            let Err(DataFolderError::InUse { holder, .. }) = DataFolder::open(&path) else { panic!("{note:?}") };
            assert_eq!(holder, expected);
        }
        fs::write(path.join(LOCK), b"\xff").unwrap();
        let Err(DataFolderError::InUse { holder, .. }) = DataFolder::open(&path) else { panic!("not text") };
        assert_eq!(holder, "another process");
        drop(folder);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        DataFolder::probe(&parent.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        fs::write(parent.path().join("file"), "").unwrap();
        assert!(matches!(DataFolder::probe(&parent.path().join("file/x")), Err(DataFolderError::Unusable { .. })));
    }

    #[test]
    fn other_users_can_neither_write_to_the_folder_nor_redirect_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        drop(DataFolder::open(folder.path()).unwrap());
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o755);
        fs::remove_file(folder.path().join(LOCK)).unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join(LOCK)).unwrap();
        assert!(DataFolder::open(folder.path()).unwrap_err().to_string().contains("is not a regular file"));
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
