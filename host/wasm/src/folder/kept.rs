//! The files of versions that ran, in the data folder, so that a version can return after its file was replaced, also after
//! a restart.
//!
//! Files are named by the digest of their content and are used only if they still have it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yardarm_core::atomic_file;

use super::entry::Identity;
use crate::plugin::Plugin;
use crate::staging::manifest::Manifest;
use crate::vocabulary::LARGEST_COMPONENT;

/// Maximum total size in bytes; beyond it, no further version is kept.
const LARGEST_TOTAL: u64 = 512 << 20;

/// A version whose files are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptVersion {
    /// Version that the plugin declares.
    pub(super) version: String,
    pub(super) identity: Identity,
}

/// The folder of kept files; nothing is kept without one. Cheap to clone. All functions block.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptFiles(Option<Arc<Path>>);

impl KeptVersion {
    pub(super) fn of(plugin: &Plugin, identity: Identity) -> Self {
        Self { version: plugin.version.clone(), identity }
    }
}

impl KeptFiles {
    /// Opens or creates the folder in the data folder, accessible to its owner only.
    ///
    /// # Errors
    /// When the file system refuses, or the data folder belongs to another user.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        dir.parent().map_or(Ok(()), atomic_file::check_folder_owner)?;
        atomic_file::prepare_folder(&dir)?;
        Ok(Self(Some(dir.into())))
    }

    /// Returns whether versions are kept.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Keeps a component with this digest, and the text of its binding file.
    pub(super) fn save(&self, sha256: &[u8; 32], component: &[u8], manifest: Option<&Manifest>) {
        let Some(dir) = &self.0 else { return };
        let binding = manifest.map(|manifest| (&manifest.digest, &*manifest.source));
        for (digest, content) in [(sha256, component)].into_iter().chain(binding) {
            let path = path(dir, digest);
            if path.exists() {
                continue;
            }
            let saved = match total(dir) {
                Ok(total) if total + content.len() as u64 > LARGEST_TOTAL => Err(io::ErrorKind::QuotaExceeded.into()),
                Ok(_) => atomic_file::replace(&path, &[content]),
                Err(error) => Err(error),
            };
            if let Err(error) = saved {
                tracing::warn!(%error, "a version of a plugin cannot be kept; it cannot return after a restart");
                return;
            }
        }
    }

    /// Reads the files of a version; `None` if they are missing or damaged.
    pub(super) fn load(&self, (component, binding): Identity) -> Option<(Arc<[u8]>, Option<Manifest>)> {
        let component = self.read(&component)?;
        let manifest = match binding {
            Some(digest) => Some(Manifest::of_bytes(&self.read(&digest)?).ok()?),
            None => None,
        };
        Some((component.into(), manifest))
    }

    fn read(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let path = path(self.0.as_ref()?, digest);
        let bytes = atomic_file::read(&path, LARGEST_COMPONENT);
        match bytes {
            Ok(Some(bytes)) if <[u8; 32]>::from(Sha256::digest(&bytes)) == *digest => Some(bytes),
            result => {
                let error = result.err();
                tracing::warn!(file = %path.display(), ?error, "a kept version of a plugin is missing or damaged");
                None
            }
        }
    }

    /// Removes the files that none of these versions has.
    pub(super) fn tidy(&self, kept: &[Identity]) {
        let Some(dir) = &self.0 else { return };
        let digests = kept.iter().flat_map(|(component, binding)| [Some(*component), *binding]).flatten();
        let names: HashSet<OsString> = digests.map(|digest| name(&digest).into()).collect();
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten().filter(|entry| !names.contains(&entry.file_name())) {
            // It is tried again the next time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn name(digest: &[u8; 32]) -> String {
    hex::encode(digest)
}

fn path(dir: &Path, digest: &[u8; 32]) -> PathBuf {
    dir.join(name(digest))
}

fn total(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_read_as_they_were_kept_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptFiles::open(dir.path().join("versions")).unwrap();
        let manifest = Manifest::of_bytes(b"[plugin]\nname = \"gate\"").unwrap();
        let component: [u8; 32] = Sha256::digest(b"component").into();
        kept.save(&component, b"component", Some(&manifest));
        let identity = (component, Some(manifest.digest));
        let (bytes, read) = kept.load(identity).unwrap();
        assert_eq!((&*bytes, read.unwrap().name.as_deref()), (&b"component"[..], Some("gate")));
        let path = dir.path().join("versions").join(name(&component));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"another").unwrap();
        assert!(kept.load(identity).is_none(), "damaged");
        kept.tidy(&[([0; 32], Some(manifest.digest))]);
        assert!(!path.exists(), "not needed");
        assert_eq!(total(&dir.path().join("versions")).unwrap(), 22);
        assert!(KeptFiles::default().load(identity).is_none());
    }
}
