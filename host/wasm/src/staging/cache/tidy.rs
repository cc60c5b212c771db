//! Removal of cache entries that exceed the limits.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::{Cache, EntryName, PARTIAL_SUFFIX, SUFFIX, touch};

/// A usable entry.
struct Entry {
    path: PathBuf,
    size: u64,
    used: SystemTime,
    is_active: bool,
}

impl Cache {
    /// Removes unusable entries, entries that were not used for too long, and the least recently used ones beyond the
    /// size limit. Keeps the entries of component files whose digests are in `active`, and marks them as used, so that
    /// other processes keep them too.
    pub(crate) fn tidy(&self, active: &HashSet<[u8; 32]>) {
        let active: HashSet<String> = active.iter().map(hex::encode).collect();
        match self.survey(&active) {
            Ok(entries) => self.evict(entries),
            // A missing folder is created with the next entry.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => tracing::warn!(dir = %self.dir.display(), %error, "cannot list compiled plugins"),
        }
    }

    /// Lists the entries, and removes leftovers of other engines and of processes that were killed.
    fn survey(&self, active: &HashSet<String>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (path, file_name) = (entry.path(), entry.file_name());
            let Some(name) = file_name.to_str() else { continue };
            // The metadata of the link itself, if it is one. Another process may have removed the file.
            let Some(metadata) = entry.metadata().ok().filter(|metadata| !metadata.is_dir()) else { continue };
            if name.starts_with('.') && name.ends_with(&format!(".{PARTIAL_SUFFIX}")) {
                if !metadata.is_file() || is_left_over(&path) {
                    remove(&path);
                }
                continue;
            }
            if !name.ends_with(&format!(".{SUFFIX}")) {
                continue;
            }
            match EntryName::of(name).filter(|name| metadata.is_file() && name.engine == &*self.engine) {
                None => remove(&path),
                Some(name) => {
                    let is_active = active.contains(name.component);
                    if is_active {
                        touch(&path);
                    }
                    entries.push(Entry { path, size: metadata.len(), used: used(&metadata), is_active });
                }
            }
        }
        Ok(entries)
    }

    fn evict(&self, mut entries: Vec<Entry>) {
        entries.sort_by_key(|entry| (entry.is_active, entry.used));
        let mut total: u64 = entries.iter().map(|entry| entry.size).sum();
        let (mut evicted, mut freed) = (0_usize, 0);
        for entry in entries.into_iter().filter(|entry| !entry.is_active) {
            // A modification time in the future is due to a changed clock and counts as age zero.
            let age = entry.used.elapsed().unwrap_or(Duration::ZERO);
            if total > self.limits.max_size || age > self.limits.max_age {
                remove(&entry.path);
                total -= entry.size;
                evicted += 1;
                freed += entry.size;
            }
        }
        if evicted > 0 {
            tracing::debug!(evicted, freed_bytes = freed, kept_bytes = total, "removed compiled plugins");
        }
    }
}

/// Returns whether no process writes to an unfinished file any more.
fn is_left_over(path: &Path) -> bool {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    file.is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn used(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn remove(path: &Path) {
    // A failure to remove a file is not an error.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "cannot remove a compiled plugin");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use sha2::{Digest, Sha256};
    use wasmtime::component::Component;

    use super::super::{CacheLimits, private_file};
    use super::*;

    struct Kept {
        dir: tempfile::TempDir,
        engine: wasmtime::Engine,
        cache: Cache,
    }

    impl Kept {
        fn new(limits: CacheLimits) -> Self {
            let (dir, engine) = (tempfile::tempdir().unwrap(), wasmtime::Engine::default());
            let cache = Cache::open(&dir.path().join("compiled"), &engine, limits).unwrap();
            Self { dir, engine, cache }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("compiled")
        }

        /// Compiles and caches a component that is unique to `number`.
        fn store(&self, number: u32) -> [u8; 32] {
            // The header of a component and a custom section: its number, its size, the size of its name, and the text.
            let mut bytes = b"\0asm\x0d\0\x01\0\0\x05\0".to_vec();
            bytes.extend(number.to_le_bytes());
            let sha256 = Sha256::digest(&bytes).into();
            let component = Component::from_binary(&self.engine, &bytes).unwrap();
            self.cache.store(&component, &sha256).unwrap();
            sha256
        }

        fn has(&self, sha256: &[u8; 32]) -> bool {
            self.cache.load(&self.engine, sha256).is_some()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path()).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn size(&self) -> u64 {
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
        }

        fn age(&self, sha256: &[u8; 32], age: Duration) {
            let (path, _) = self.cache.find(sha256).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
    }

    #[test]
    fn a_hundred_swaps_stay_within_the_size_and_the_least_recently_used_go_first() {
        let probe = Kept::new(CacheLimits::default());
        probe.store(0);
        let max_size = probe.size() * 5;
        let kept = Kept::new(CacheLimits { max_size, ..CacheLimits::default() });
        let first = kept.store(0);
        let mut all = Vec::new();
        for number in 1..=100 {
            let active = kept.store(number);
            all.push(active);
            // The first entry is used repeatedly, the last belongs to the running plugin.
            kept.age(&active, Duration::from_secs(u64::from(200 - number)));
            assert!(kept.has(&first), "{number}");
            kept.cache.tidy(&HashSet::from([active]));
            assert!(kept.size() <= max_size, "{number}: {}", kept.size());
            assert!(kept.has(&active), "{number}");
            kept.age(&active, Duration::from_secs(u64::from(200 - number)));
        }
        assert_eq!(kept.names().len(), 5);
        assert!(all[97..].iter().all(|sha256| kept.has(sha256)));
    }

    #[test]
    fn entries_of_running_plugins_are_kept_and_count_as_used() {
        let kept = Kept::new(CacheLimits { max_size: 1, max_age: Duration::from_secs(60) });
        let (active, other) = (kept.store(1), kept.store(2));
        kept.age(&active, Duration::from_secs(3600));
        kept.cache.tidy(&HashSet::from([active]));
        assert!(kept.has(&active) && !kept.has(&other));

        // A second process with other plugins uses the same folder, which has space for one more.
        let limits = CacheLimits { max_size: kept.size() * 2, max_age: Duration::from_secs(60) };
        let second = Cache::open(&kept.path(), &kept.engine, limits).unwrap();
        let third = kept.store(3);
        kept.age(&active, Duration::from_secs(50));
        kept.age(&third, Duration::from_secs(40));
        kept.cache.tidy(&HashSet::from([active, third]));
        second.tidy(&HashSet::new());
        assert!(kept.has(&active) && kept.has(&third), "used by the other process a moment ago");
    }

    #[test]
    fn old_and_foreign_entries_and_leftovers_are_removed_and_other_files_kept() {
        let kept = Kept::new(CacheLimits { max_age: Duration::from_secs(60), ..CacheLimits::default() });
        let (old, new) = (kept.store(1), kept.store(2));
        kept.age(&old, Duration::from_secs(61));
        let other_engine = format!("0123456789abcdef-{0}-{0}.cwasm", "00".repeat(32));
        for name in [&other_engine, "0123-4567.cwasm", ".1.part", "README"] {
            fs::write(kept.path().join(name), "x").unwrap();
        }
        symlink("/etc/passwd", kept.path().join("a-b-c.cwasm")).unwrap();
        // A file that a running process is writing.
        let writing = private_file(&kept.path().join(".2.part")).unwrap();
        writing.lock().unwrap();
        kept.cache.tidy(&HashSet::new());
        let names = kept.names();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(kept.has(&new) && names.iter().any(|it| it == ".2.part") && names.iter().any(|it| it == "README"));
        drop(writing);
        kept.cache.tidy(&HashSet::new());
        assert_eq!(kept.names().len(), 2);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn a_removed_folder_is_created_again_and_a_pipe_in_it_does_not_block() {
        let kept = Kept::new(CacheLimits::default());
        fs::remove_dir_all(kept.path()).unwrap();
        kept.cache.tidy(&HashSet::new());
        let sha256 = kept.store(1);
        assert!(kept.has(&sha256));
        let (path, _) = kept.cache.find(&sha256).unwrap();
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(!kept.has(&sha256));
        assert!(!path.exists(), "it makes room for the entry");
    }
}
