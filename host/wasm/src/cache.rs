//! Compiled components, kept on disk so that what was compiled once loads in a moment.
//!
//! An entry is native code, so only entries that this process's user wrote into a folder of its own are used, and
//! only if their content is what it was when it was written: its digest is part of its name.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::engine::OWN_KEY;

/// Entries that nobody used for this long are removed.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);
const SUFFIX: &str = "cwasm";

/// A folder with compiled components.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens or makes the folder, owner-only, and removes what nobody used for long.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        make_private(dir)?;
        let cache = Self { dir: dir.to_owned() };
        cache.check_owner()?;
        for entry in fs::read_dir(dir)?.flatten() {
            let age = entry.metadata().and_then(|it| it.modified()).map(|it| it.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age > FORGOTTEN) {
                // Failing to tidy up is no reason to fail.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(cache)
    }

    /// The compiled form of a component file with this digest, if it was kept and is undamaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, sha256: &[u8; 32]) -> Option<Component> {
        let key = key(engine, sha256);
        let (path, digest) = self.find(&key)?;
        let bytes = fs::read(&path).ok().filter(|bytes| hex::encode(Sha256::digest(bytes)) == digest);
        let Some(bytes) = bytes else {
            tracing::warn!(entry = %path.display(), "a compiled plugin in the cache is damaged, compiling again");
            let _ = fs::remove_file(&path);
            return None;
        };
        // Mapping the file would save some milliseconds for the largest guests, and the process would die of a signal
        // when somebody truncates it.
        // SAFETY: the bytes are native code that `store` wrote for an engine with the same settings (both are part of
        // the file's name), nobody but this user can write to the folder, and they are what was written.
        #[expect(unsafe_code, reason = "running compiled code is the point of the cache")]
        let component = unsafe { Component::deserialize(engine, &bytes) };
        match component {
            Ok(component) => {
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(component)
            }
            Err(error) => {
                tracing::warn!(%error, "a compiled plugin in the cache does not fit, compiling again");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps the compiled form of a component file with this digest.
    pub(crate) fn store(&self, component: &Component, sha256: &[u8; 32]) -> io::Result<()> {
        let bytes = component.serialize().map_err(io::Error::other)?;
        let name = format!("{}-{}.{SUFFIX}", key(component.engine(), sha256), hex::encode(Sha256::digest(&bytes)));
        let partial = self.dir.join(format!(".{}.part", rand::random::<u64>()));
        let written = private_file(&partial).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        let kept = written.and_then(|()| fs::rename(&partial, self.dir.join(name)));
        if kept.is_err() {
            let _ = fs::remove_file(&partial);
        }
        kept
    }

    fn find(&self, key: &str) -> Option<(PathBuf, String)> {
        fs::read_dir(&self.dir).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            let stem = path.file_stem().and_then(OsStr::to_str)?;
            let digest = stem.strip_prefix(key)?.strip_prefix('-')?.to_owned();
            (path.extension() == Some(OsStr::new(SUFFIX))).then_some((path, digest))
        })
    }

    /// Refuses a folder that belongs to or can be written by somebody else.
    #[cfg(unix)]
    fn check_owner(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let probe = self.dir.join(format!(".{}.part", rand::random::<u64>()));
        let me = private_file(&probe)?.metadata()?.uid();
        fs::remove_file(&probe)?;
        let folder = fs::metadata(&self.dir)?;
        if folder.uid() != me || folder.mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder is not ours alone"));
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn check_owner(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Names what the compiled code depends on: the component, Wasmtime and its settings.
fn key(engine: &wasmtime::Engine, sha256: &[u8; 32]) -> String {
    let mut hasher = DigestHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let mut digest = hasher.0;
    digest.update(OWN_KEY);
    digest.update(sha256);
    hex::encode(&digest.finalize()[..16])
}

/// Feeds what is hashed into a digest that is the same in every process.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(unix)]
fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

#[cfg(unix)]
fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}
