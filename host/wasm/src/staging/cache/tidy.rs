//! Removal of cache entries that exceed the limits.

use std::collections::HashSet;
use std::time::Duration;
use std::{fs, io};

use yardarm_core::time::unix_ms;

use super::index::CompiledPlugin;
use super::{Cache, SUFFIX};

/// A record, the digest of its component, and whether a running plugin uses it.
struct Entry {
    component: [u8; 32],
    record: CompiledPlugin,
    is_active: bool,
}

impl Cache {
    /// Removes unusable entries, entries that were not used for too long, and the least recently used ones beyond the
    /// size limit. Keeps the entries of component files whose digests are in `active`, and marks them as used.
    pub(crate) fn tidy(&self, active: &HashSet<[u8; 32]>) {
        let _writing = self.writing.lock();
        // Without the index it is not known which files are used.
        let Some(records) = self.index.survey() else { return };
        let files = match self.files() {
            Ok(files) => files,
            // A missing folder is created with the next entry.
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot list compiled plugins");
                return;
            }
        };
        let mut entries = Vec::new();
        for (component, record) in records {
            let is_active = active.contains(&component);
            if !files.contains(&self.file_name(&component)) {
                self.index.remove(&component);
                continue;
            }
            if is_active {
                self.index.mark_used(&component, record);
            }
            entries.push(Entry { component, record, is_active });
        }
        let kept: HashSet<String> = self.evict(entries).iter().map(|it| self.file_name(&it.component)).collect();
        files.difference(&kept).for_each(|name| self.remove_file(name));
    }

    /// Returns the names of the files of compiled code, among them those that no record knows.
    fn files(&self) -> io::Result<HashSet<String>> {
        let mut files = HashSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().into_string();
            files.extend(name.ok().filter(|it| it.strip_suffix(SUFFIX).is_some_and(|stem| stem.ends_with('.'))));
        }
        Ok(files)
    }

    /// Removes the records of entries beyond the limits; returns the other entries.
    fn evict(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        entries.sort_by_key(|entry| (entry.is_active, entry.record.used_ms));
        let now = unix_ms();
        let mut total: u64 = entries.iter().map(|entry| entry.record.size).sum();
        let (mut evicted, mut freed) = (0_usize, 0);
        entries.retain(|Entry { component, record, is_active }| {
            // A last use in the future is due to a changed clock and counts as age zero.
            let age = Duration::from_millis(now.saturating_sub(record.used_ms));
            let is_kept = *is_active || (total <= self.limits.max_size && age <= self.limits.max_age);
            if !is_kept {
                self.index.remove(component);
                total -= record.size;
                evicted += 1;
                freed += record.size;
            }
            is_kept
        });
        if evicted > 0 {
            tracing::debug!(evicted, freed_bytes = freed, kept_bytes = total, "removed compiled plugins");
        }
        entries
    }

    fn remove_file(&self, name: &str) {
        let path = self.dir.join(name);
        // A failure to remove a file is not an error.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "cannot remove a compiled plugin");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use sha2::{Digest, Sha256};
    use tokio::runtime::Runtime;
    use yardarm_core::data_store::{Key, tables};
    use yardarm_core::{DataStore, Lifecycle};

    use super::super::CacheLimits;
    use super::*;

    struct Kept {
        dir: tempfile::TempDir,
        engine: wasmtime::Engine,
        cache: Cache,
        store: DataStore,
        /// Writes the store.
        _runtime: Runtime,
    }

    impl Kept {
        fn new(limits: CacheLimits) -> Self {
            let (dir, engine) = (tempfile::tempdir().unwrap(), wasmtime::Engine::default());
            let runtime = Runtime::new().unwrap();
            let store = runtime.block_on(async { DataStore::open(dir.path(), &Lifecycle::new()).await });
            let cache = Cache::open(&dir.path().join("compiled"), store.clone(), &engine, limits).unwrap();
            Self { dir, engine, cache, store, _runtime: runtime }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("compiled")
        }

        /// Compiles and caches a component that is unique to `number`.
        fn store(&self, number: u32) -> [u8; 32] {
            // The header of a component and a custom section: its number, its size, the size of its name, and the text.
            let mut bytes = b"\0asm\x0d\0\x01\0\0\x05\0".to_vec();
            bytes.extend(number.to_le_bytes());
            self.store_component(&bytes)
        }

        fn store_component(&self, bytes: &[u8]) -> [u8; 32] {
            let sha256 = Sha256::digest(bytes).into();
            self.cache.store(&self.engine.precompile_component(bytes).unwrap(), &sha256).unwrap();
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
            let record = self.cache.index.get(sha256).unwrap();
            let used_ms = unix_ms() - u64::try_from(age.as_millis()).unwrap();
            self.cache.index.put(sha256, &CompiledPlugin { used_ms, ..record });
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
            kept.age(&first, Duration::from_secs(300));
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
        let used_ms = kept.cache.index.get(&active).unwrap().used_ms;
        assert!(unix_ms() - used_ms < 60_000, "used just now");
    }

    #[test]
    fn old_and_foreign_entries_and_leftovers_are_removed_and_other_files_kept() {
        let kept = Kept::new(CacheLimits { max_age: Duration::from_secs(60), ..CacheLimits::default() });
        let (old, new) = (kept.store(1), kept.store(2));
        kept.age(&old, Duration::from_secs(61));
        // The code and the record of another engine, code that is in no record, and records without code.
        let record = kept.cache.index.get(&new).unwrap();
        let table = tables::COMPILED_PLUGINS.of::<CompiledPlugin>();
        let foreign = Key::of(&[&b"0123456789abcdef"[..], &new]);
        kept.store.put(table, &foreign, &record).unwrap();
        kept.store.put(table, &Key::of(&["junk"]), &record).unwrap();
        kept.cache.index.put(&[7; 32], &record);
        let other_engine = format!("0123456789abcdef-{}.cwasm", hex::encode(new));
        for name in [&other_engine, "0123-4567.cwasm", "README"] {
            fs::write(kept.path().join(name), "x").unwrap();
        }
        symlink("/etc/passwd", kept.path().join("a-b-c.cwasm")).unwrap();
        kept.cache.tidy(&HashSet::new());
        assert_eq!(kept.names().len(), 2, "{:?}", kept.names());
        assert!(kept.has(&new) && !kept.has(&old) && kept.names().iter().any(|it| it == "README"));
        assert!(Path::new("/etc/passwd").exists());
        let mut keys = Vec::new();
        kept.store.read(table, &Key::default(), |record| keys.push(Key::of(record.key))).unwrap();
        assert_eq!(keys, [Key::of(&[kept.cache.index.engine().as_bytes(), &new])]);
    }

    #[test]
    fn an_entry_that_is_not_what_the_index_says_is_not_used() {
        let kept = Kept::new(CacheLimits::default());
        // The second one has an empty core module, so its code is another one, which the engine accepts as well.
        let (one, other) = (kept.store(1), kept.store_component(b"\0asm\x0d\0\x01\0\x01\x08\0asm\x01\0\0\0"));
        fs::copy(kept.cache.path(&other), kept.cache.path(&one)).unwrap();
        assert!(!kept.has(&one) && kept.has(&other));
        assert_eq!(kept.cache.index.get(&one), None, "compiled again and recorded with the next use");
        assert_eq!(kept.store(1), one);
        assert!(kept.has(&one));
    }

    #[test]
    fn a_removed_folder_is_created_again_and_a_pipe_in_it_does_not_block() {
        let kept = Kept::new(CacheLimits::default());
        fs::remove_dir_all(kept.path()).unwrap();
        kept.cache.tidy(&HashSet::new());
        let sha256 = kept.store(1);
        assert!(kept.has(&sha256));
        let path = kept.cache.path(&sha256);
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(!kept.has(&sha256));
        kept.store(1);
        assert!(kept.has(&sha256), "the entry replaces it");
    }
}
