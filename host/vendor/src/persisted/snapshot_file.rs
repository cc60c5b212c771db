//! Files that hold last good data: MessagePack behind a checksum, replaced atomically.
//!
//! The only user of `rmp-serde`. Layout: magic and format version (8 bytes), SHA-256 of the rest (32 bytes),
//! MessagePack. A truncated or damaged file fails its checksum and is reported, never half-read.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"YARDSN\x00\x01";
const EXTENSION: &str = "snapshot";
const HEADER: usize = MAGIC.len() + 32;
/// Larger files are rejected, so that a foreign file cannot exhaust memory at start.
const MAX_BYTES: u64 = 2 << 30;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system reported an error.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file has another format, is truncated or was altered.
    #[error("{path}: damaged ({reason}); it is ignored and will be replaced by the next good data")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The check that failed.
        reason: &'static str,
    },
    /// The value cannot be expressed in MessagePack.
    #[error("{path}: cannot be encoded")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoding error.
        source: rmp_serde::encode::Error,
    },
}

/// A file that holds one value.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
}

impl SnapshotFile {
    /// Creates the handle of the file for `name` in `dir`. Any name is allowed: characters that are not portable in
    /// file names are escaped.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut file_name = String::with_capacity(name.len() + 8);
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => file_name.push(char::from(byte)),
                _ => file_name.push_str(&format!("%{byte:02x}")),
            }
        }
        // File systems allow 255 bytes; a digest distinguishes long names.
        if file_name.len() > 180 {
            let digest = Sha256::digest(name.as_bytes());
            file_name.truncate(140);
            file_name.push_str(&format!("%{:016x}", u64::from_be_bytes(*digest.first_chunk().unwrap_or(&[0; 8]))));
        }
        Self { path: dir.join(format!("{file_name}.{EXTENSION}")) }
    }

    /// Returns all files in `folder`, sorted by name; none if there is no such folder. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn all(folder: &Path) -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|it| it == EXTENSION));
        paths.sort();
        Ok(paths.into_iter().map(|path| Self { path }).collect())
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the value; returns `None` when there is no file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, SnapshotError> {
        let read = yardarm_core::atomic_file::read(&self.path, MAX_BYTES).map_err(|error| self.io(error))?;
        let Some(bytes) = read else { return Ok(None) };
        let Some((header, body)) = bytes.split_at_checked(HEADER) else {
            return Err(self.damaged("shorter than its header"));
        };
        if !header.starts_with(MAGIC) {
            return Err(self.damaged("not a snapshot of this version"));
        }
        if header[MAGIC.len()..] != Sha256::digest(body)[..] {
            return Err(self.damaged("checksum does not match"));
        }
        rmp_serde::from_slice(body).map(Some).map_err(|_| self.damaged("content does not fit"))
    }

    /// Replaces the value. After a crash at any moment the file holds the old value or the new one. Blocks.
    ///
    /// # Errors
    /// When the value cannot be encoded or the file system refuses; the old file is then unchanged.
    pub fn write<T: Serialize>(&self, value: &T) -> Result<(), SnapshotError> {
        let body = rmp_serde::to_vec_named(value)
            .map_err(|source| SnapshotError::Encode { path: self.path.clone(), source })?;
        yardarm_core::atomic_file::replace(&self.path, &[MAGIC, &Sha256::digest(&body), &body])
            .map_err(|error| self.io(error))
    }

    /// Removes the value, if there is one. Blocks.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(&self) -> Result<(), SnapshotError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(error)),
            _ => Ok(()),
        }
    }

    fn io(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, reason: &'static str) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file() -> (tempfile::TempDir, SnapshotFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::new(dir.path(), "launch/Prod 1");
        (dir, file)
    }

    #[test]
    fn a_written_value_is_read_back() {
        let (_dir, file) = file();
        assert_eq!(file.read::<Vec<String>>().unwrap(), None);
        file.write(&vec!["a".to_owned()]).unwrap();
        assert_eq!(file.read::<Vec<String>>().unwrap().unwrap(), ["a"]);
    }

    #[test]
    fn a_file_cut_at_any_byte_or_with_any_byte_changed_is_refused() {
        let (_dir, file) = file();
        file.write(&vec!["some", "data"]).unwrap();
        let good = fs::read(file.path()).unwrap();
        for length in 0..good.len() {
            fs::write(file.path(), &good[..length]).unwrap();
            assert!(file.read::<Vec<String>>().is_err(), "cut at {length}");
        }
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x40;
            fs::write(file.path(), &bad).unwrap();
            assert!(file.read::<Vec<String>>().is_err(), "changed at {index}");
        }
    }

    #[test]
    fn files_are_listed_and_removed_and_what_the_system_refuses_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["b", "a"].map(|name| SnapshotFile::new(dir.path(), name));
        files.iter().for_each(|file| file.write(&1).unwrap());
        fs::write(dir.path().join("note.txt"), "").unwrap();
        let listed = || -> Vec<_> {
            let all = SnapshotFile::all(dir.path()).unwrap();
            all.iter().map(|it| it.path().file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(listed(), ["a", "b"].map(|it| format!("{it}.{EXTENSION}")));
        files[0].remove().unwrap();
        assert_eq!(listed(), [format!("a.{EXTENSION}")]);
        files[0].remove().unwrap();
        assert!(SnapshotFile::all(&dir.path().join("nowhere")).unwrap().is_empty());
        assert!(SnapshotFile::all(&dir.path().join("note.txt")).is_err(), "no folder");
        fs::create_dir(files[0].path()).unwrap();
        assert!(files[0].remove().is_err(), "no file");
    }

    #[test]
    fn different_names_have_different_files() {
        let dir = Path::new("/d");
        let long = "x".repeat(300);
        let names = ["a/b", "a%2fb", "a_b", "A_b", "..", long.as_str(), &format!("{long}y")];
        let paths: std::collections::BTreeSet<_> =
            names.iter().map(|name| SnapshotFile::new(dir, name).path().to_owned()).collect();
        assert_eq!(paths.len(), names.len());
        assert!(paths.iter().all(|path| path.parent() == Some(dir)));
    }
}
