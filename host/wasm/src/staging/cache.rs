//! The on-disk cache of compiled components: their code in files, and what is known of it in the store of the data folder.
//!
//! An entry is native code, so it is used only if the store has its digest, and the cache is used only in
//! a data folder where no other user can have written the store. Only the process that has locked the data folder uses it. Whatever is lost or damaged,
//! a file or the store, is compiled again.

mod index;
mod tidy;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use yardarm_core::{DataStore, atomic_file};

use self::index::{CompiledPlugin, Index};
use crate::runtime::engine::code_key;
use crate::runtime::native_code;

const SUFFIX: &str = "cwasm";
/// Maximum size of an entry in bytes; the largest guests have some fifty megabytes.
pub(crate) const LARGEST_ENTRY: u64 = 1 << 30;

/// Size and age limits of the cache. Entries of running plugins are exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Maximum total size in bytes. Beyond it, the least recently used entries are removed.
    pub max_size: u64,
    /// Time after which an unused entry is removed.
    pub max_age: Duration,
}

/// A folder of compiled components. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache {
    dir: Arc<Path>,
    limits: CacheLimits,
    index: Index,
    /// Held while an entry is written, and while files without a record are removed.
    writing: Arc<Mutex<()>>,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { max_size: 256 << 20, max_age: Duration::from_secs(30 * 24 * 3600) }
    }
}

impl Cache {
    /// Opens or creates the folder, accessible to its owner only, in the data folder. `store` has the index.
    pub(crate) fn open(
        dir: &Path,
        store: DataStore,
        engine: &wasmtime::Engine,
        limits: CacheLimits,
    ) -> io::Result<Self> {
        dir.parent().map_or(Ok(()), atomic_file::check_folder_owner)?;
        atomic_file::prepare_folder(dir)?;
        let index = Index::new(store, code_key(engine));
        Ok(Self { dir: dir.into(), limits, index, writing: Arc::default() })
    }

    /// Returns the compiled form of a component file with this digest, if it is cached and undamaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, sha256: &[u8; 32]) -> Option<Component> {
        let known = self.index.get(sha256)?;
        let path = self.path(sha256);
        let bytes = match atomic_file::read(&path, LARGEST_ENTRY) {
            Ok(Some(bytes)) if <[u8; 32]>::from(Sha256::digest(&bytes)) == known.sha256 => bytes,
            result => {
                let error = result.err();
                tracing::warn!(entry = %path.display(), ?error, "a compiled plugin is missing or damaged, compiling again");
                self.index.remove(sha256);
                return None;
            }
        };
        match native_code::load(engine, &bytes) {
            Ok(component) => {
                self.index.mark_used(sha256, known);
                Some(component)
            }
            Err(error) => {
                tracing::warn!(%error, "a compiled plugin in the cache is incompatible, compiling again");
                self.index.remove(sha256);
                None
            }
        }
    }

    /// Stores the code that was compiled from a component file with this digest.
    pub(crate) fn store(&self, code: &[u8], sha256: &[u8; 32]) -> io::Result<()> {
        let _writing = self.writing.lock();
        atomic_file::replace(&self.path(sha256), &[code])?;
        self.index.put(sha256, &CompiledPlugin::used_now(code));
        Ok(())
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.dir.join(self.file_name(sha256))
    }

    fn file_name(&self, sha256: &[u8; 32]) -> String {
        format!("{}-{}.{SUFFIX}", self.index.engine(), hex::encode(sha256))
    }
}
