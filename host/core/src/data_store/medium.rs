//! The file of the store: opened without following links, locked, and set aside when it is damaged.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::{Builder, Database, StorageBackend};

use super::error::StoreError;
use super::overlay::Overlay;
use crate::atomic_file;
use crate::time::unix_ms;

/// Part of the names of files that were set aside; the time follows, in Unix seconds.
const SET_ASIDE: &str = "damaged-";
/// Maximum number of files that were set aside; older ones are removed.
const MAX_SET_ASIDE: usize = 3;

/// Where a store is kept. Tests have others than files.
pub(super) trait Medium: Send + Sync + 'static {
    /// Opens the database, or creates an empty one. Blocks.
    fn open(&self, builder: &Builder) -> Result<Database, StoreError>;

    /// Opens the database for reading where it cannot be written. Blocks.
    fn open_read_only(&self, builder: &Builder) -> Result<Database, StoreError>;

    /// Whether the open database is still the one that a later process will find.
    fn is_current(&self) -> bool;

    /// Moves a damaged database out of the way, and returns its new name. Blocks.
    fn set_aside(&self) -> io::Result<String>;

    /// Returns the name of the database.
    fn name(&self) -> String;
}

/// A file, and which one was opened: its device and inode.
pub(super) struct FileMedium {
    path: PathBuf,
    opened: Mutex<Option<(u64, u64)>>,
}

/// A locked file as the storage of a database.
#[derive(Debug)]
pub(super) struct PageFile(File);

impl FileMedium {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, opened: Mutex::new(None) }
    }

    fn unavailable(&self, error: &io::Error) -> StoreError {
        StoreError::Unavailable(format!("`{}` cannot be opened: {error}", self.path.display()))
    }

    /// Opens the file and returns what the system knows of it; an existing one is used only if no other user can have
    /// written it.
    fn file(&self, options: &mut OpenOptions) -> Result<(File, fs::Metadata), StoreError> {
        let file = atomic_file::open(options, &self.path).map_err(|error| match error.kind() {
            // A link or a pipe.
            ErrorKind::InvalidInput => StoreError::Damaged(error.to_string()),
            _ => self.unavailable(&error),
        })?;
        let about = file.metadata().map_err(|error| self.unavailable(&error))?;
        atomic_file::check_owner(&about, &self.path).map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok((file, about))
    }

    fn check_lock(&self, locked: Result<(), TryLockError>) -> Result<(), StoreError> {
        match locked {
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Unavailable(format!("`{}` is in use by another process", self.path.display())))
            }
            // Some file systems have no locks. The folder has one too, whose absence is logged.
            Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
        }
    }

    fn identity(about: &fs::Metadata) -> (u64, u64) {
        (about.dev(), about.ino())
    }

    /// Removes the oldest files that were set aside.
    fn tidy(&self) -> io::Result<()> {
        let Some((folder, prefix)) = self.path.parent().zip(self.set_aside_prefix()) else { return Ok(()) };
        let mut old: Vec<PathBuf> = fs::read_dir(folder)?.filter_map(|it| Some(it.ok()?.path())).collect();
        let is_old = |it: &Path| it.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(&prefix));
        old.retain(|it| is_old(it));
        old.sort();
        let surplus = old.len().saturating_sub(MAX_SET_ASIDE);
        old.iter().take(surplus).try_for_each(fs::remove_file)
    }

    fn set_aside_prefix(&self) -> Option<String> {
        Some(format!("{}.{SET_ASIDE}", self.path.file_name()?.to_str()?))
    }
}

impl Medium for FileMedium {
    fn open(&self, builder: &Builder) -> Result<Database, StoreError> {
        let (file, about) = self.file(OpenOptions::new().read(true).write(true).create(true).mode(0o600))?;
        self.check_lock(file.try_lock())?;
        let database = builder.create_with_backend(PageFile(file))?;
        *self.opened.lock() = Some(Self::identity(&about));
        // A loss of power must not take the name of a new file away.
        if let Some(folder) = self.path.parent().filter(|_| about.len() == 0) {
            let _ = File::open(folder).and_then(|it| it.sync_all());
        }
        Ok(database)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<Database, StoreError> {
        let (file, _) = self.file(OpenOptions::new().read(true))?;
        self.check_lock(file.try_lock_shared())?;
        let overlay = Overlay::new(PageFile(file)).map_err(|error| self.unavailable(&error))?;
        Ok(builder.create_with_backend(overlay)?)
    }

    fn is_current(&self) -> bool {
        let present = fs::symlink_metadata(&self.path).ok().map(|it| Self::identity(&it));
        present.is_some() && present == *self.opened.lock()
    }

    fn set_aside(&self) -> io::Result<String> {
        let prefix = self.set_aside_prefix().ok_or(ErrorKind::InvalidFilename)?;
        let name = self.path.with_file_name(format!("{prefix}{}", unix_ms() / 1000));
        fs::rename(&self.path, &name)?;
        // A surplus file that cannot be removed is harmless.
        let _ = self.tidy();
        Ok(name.display().to_string())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl StorageBackend for PageFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
