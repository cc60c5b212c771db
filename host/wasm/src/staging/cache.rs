//! The on-disk cache of compiled components.
//!
//! An entry is native code, so an entry is used only if it is in a folder of its own that only this process's user can
//! write to, and if its content is unchanged: its digest is part of its name. Several processes may share the folder:
//! entries appear atomically and are never changed, and an entry that another process removed is compiled again.

mod tidy;

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::runtime::engine::OWN_KEY;

const SUFFIX: &str = "cwasm";
const PARTIAL_SUFFIX: &str = "part";
/// Maximum size of an entry in bytes; the largest guests have some fifty megabytes.
const LARGEST_ENTRY: u64 = 1 << 30;

/// Size and age limits of the cache. Entries of running plugins are exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Maximum total size in bytes. Beyond it, the least recently used entries are removed.
    pub max_size: u64,
    /// Time after which an unused entry is removed.
    pub max_age: Duration,
}

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: Arc<Path>,
    limits: CacheLimits,
    /// Identifies Wasmtime and its settings.
    engine: Arc<str>,
}

/// The parts of an entry's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntryName<'a> {
    engine: &'a str,
    /// Digest of the component file.
    component: &'a str,
    /// Digest of the entry itself.
    content: &'a str,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { max_size: 256 << 20, max_age: Duration::from_secs(30 * 24 * 3600) }
    }
}

impl Cache {
    /// Opens or creates the folder, accessible to its owner only.
    pub(crate) fn open(dir: &Path, engine: &wasmtime::Engine, limits: CacheLimits) -> io::Result<Self> {
        let cache = Self { dir: dir.into(), limits, engine: engine_key(engine).into() };
        cache.prepare()?;
        Ok(cache)
    }

    /// Returns the compiled form of a component file with this digest, if it is cached and undamaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, sha256: &[u8; 32]) -> Option<Component> {
        let (path, content) = self.find(sha256)?;
        let bytes = match read_entry(&path) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == content => bytes,
            // Another process has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            result => {
                let error = result.err();
                tracing::warn!(entry = %path.display(), ?error, "a compiled plugin in the cache is damaged, compiling again");
                let _ = fs::remove_file(&path);
                return None;
            }
        };
        // Mapping the file would save some milliseconds for the largest guests, but the process would be killed by a
        // signal if the file were truncated.
        // SAFETY: the bytes are native code that `store` wrote for an engine with the same settings (both are part of
        // the file's name), only this user can write to the folder, and the digest shows that they are unchanged.
        #[expect(unsafe_code, reason = "running compiled code is the point of the cache")]
        let component = unsafe { Component::deserialize(engine, &bytes) };
        match component {
            Ok(component) => {
                touch(&path);
                Some(component)
            }
            Err(error) => {
                tracing::warn!(%error, "a compiled plugin in the cache is incompatible, compiling again");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Stores the compiled form of a component file with this digest.
    pub(crate) fn store(&self, component: &Component, sha256: &[u8; 32]) -> io::Result<()> {
        let bytes = component.serialize().map_err(io::Error::other)?;
        self.write(sha256, &bytes).or_else(|error| match error.kind() {
            // The folder was removed, or another process removed the unfinished file as a leftover.
            io::ErrorKind::NotFound => self.prepare().and_then(|()| self.write(sha256, &bytes)),
            _ => Err(error),
        })
    }

    fn write(&self, sha256: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let content = hex::encode(Sha256::digest(bytes));
        let name = format!("{}-{}-{content}.{SUFFIX}", self.engine, hex::encode(sha256));
        let partial = self.dir.join(format!(".{}.{PARTIAL_SUFFIX}", rand::random::<u64>()));
        let mut file = private_file(&partial)?;
        // The lock is released when this process ends, which distinguishes an unfinished file from a leftover.
        let written = file.lock().and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_all());
        let kept = written.and_then(|()| fs::rename(&partial, self.dir.join(name)));
        if kept.is_err() {
            let _ = fs::remove_file(&partial);
        }
        kept
    }

    /// Returns the path of the entry for a component, and the digest that its content must have.
    fn find(&self, sha256: &[u8; 32]) -> Option<(PathBuf, String)> {
        let component = hex::encode(sha256);
        fs::read_dir(&self.dir).ok()?.map_while(Result::ok).find_map(|entry| {
            let file_name = entry.file_name();
            let name = EntryName::of(file_name.to_str()?)?;
            let is_it = name.engine == &*self.engine && name.component == component;
            is_it.then(|| (entry.path(), name.content.to_owned()))
        })
    }

    /// Creates the folder if it does not exist, and rejects a folder that belongs to or is writable by another user.
    fn prepare(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let probe = self.dir.join(format!(".{}.{PARTIAL_SUFFIX}", rand::random::<u64>()));
        let me = private_file(&probe)?.metadata()?.uid();
        // Another process may have removed it as a leftover.
        let _ = fs::remove_file(&probe);
        let folder = fs::metadata(&self.dir)?;
        if folder.uid() != me || folder.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder is not ours alone"));
        }
        Ok(())
    }
}

impl<'a> EntryName<'a> {
    fn of(file_name: &'a str) -> Option<Self> {
        let mut parts = file_name.strip_suffix(SUFFIX)?.strip_suffix('.')?.split('-');
        let name = Self { engine: parts.next()?, component: parts.next()?, content: parts.next()? };
        parts.next().is_none().then_some(name)
    }
}

/// Marks an entry as used.
fn touch(path: &Path) {
    // A failure to record the use is ignored.
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

fn read_entry(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST_ENTRY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an entry"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(LARGEST_ENTRY).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn private_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Identifies what compiled code depends on besides the component: Wasmtime and its settings.
fn engine_key(engine: &wasmtime::Engine) -> String {
    let mut hasher = DigestHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let mut digest = hasher.0;
    digest.update(OWN_KEY);
    hex::encode(&digest.finalize()[..8])
}

/// A hasher whose digest is the same in every process.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
