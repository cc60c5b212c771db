//! The files that make a new version necessary when they change.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use wildmatch::WildMatch;
use yardarm_core::supervisor::blocking;

/// How long the files must be unchanged, because editors save in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Interval at which files are compared without an event, because events get lost on some file systems.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Content of larger files is not compared.
const LARGEST_COMPARED: u64 = 4 << 20;
/// Most files that are watched.
const MOST_FILES: usize = 10_000;
/// Names that are not sources, besides those in `.gitignore` and those with a leading dot.
const OUTPUTS: [&str; 6] = ["target", "node_modules", "__pycache__", "*.wasm", "*.part", "*~"];

/// Watched files.
pub(super) struct Sources {
    scope: Arc<Scope>,
    /// The files at the last change, or when watching began.
    seen: Files,
    /// Events of the file system, if there are any.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    events: Arc<Notify>,
}

/// Which files are watched.
#[derive(Debug)]
struct Scope {
    /// A folder, with the patterns of names that are not sources in it.
    folder: Option<(PathBuf, Vec<WildMatch>)>,
    /// Single files.
    files: Vec<PathBuf>,
}

type Files = BTreeMap<PathBuf, Stamp>;

/// What is compared of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Content(u64),
    Large(u64, Option<SystemTime>),
}

impl Sources {
    /// Watches all sources in a folder, and further files. Blocks.
    pub(super) fn of_folder(folder: &Path, files: Vec<PathBuf>) -> Self {
        let ignored = std::fs::read_to_string(folder.join(".gitignore")).unwrap_or_default();
        let ignored = ignored.lines().map(|line| line.trim().trim_matches('/'));
        let ignored = ignored.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        let patterns = ignored.chain(OUTPUTS).map(WildMatch::new).collect();
        Self::of(Scope { folder: Some((folder.to_owned(), patterns)), files })
    }

    /// Watches single files. Blocks.
    pub(super) fn of_files(files: Vec<PathBuf>) -> Self {
        Self::of(Scope { folder: None, files })
    }

    fn of(scope: Scope) -> Self {
        let events = Arc::new(Notify::new());
        let wake = Arc::clone(&events);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading files, as this program does, is not a change.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                wake.notify_one();
            }
        });
        let seen = scope.scan();
        let mut sources =
            Self { scope: Arc::new(scope), seen, watcher: watcher.ok(), watched: BTreeSet::new(), events };
        sources.watch_folders();
        sources
    }

    /// Waits until files have changed since the last call and have not changed for a moment. Changes between two calls are
    /// not lost.
    pub(super) async fn changed(&mut self) {
        loop {
            let mut now = self.scan().await;
            if now != self.seen {
                loop {
                    tokio::time::sleep(QUIET).await;
                    let next = self.scan().await;
                    if next == now {
                        break;
                    }
                    now = next;
                }
                self.seen = now;
                self.watch_folders();
                return;
            }
            // What is lost as an event is found by the next scan.
            let _ = tokio::time::timeout(SCAN_INTERVAL, self.events.notified()).await;
        }
    }

    /// Reads all files. If that fails, nothing has changed.
    async fn scan(&self) -> Files {
        let scope = Arc::clone(&self.scope);
        blocking("plugin sources", move || scope.scan()).await.unwrap_or_else(|_| self.seen.clone())
    }

    /// Requests events of all folders with files.
    fn watch_folders(&mut self) {
        let folders: BTreeSet<PathBuf> = self.scope.folders(&self.seen).collect();
        if let Some(watcher) = &mut self.watcher {
            for folder in folders.difference(&self.watched) {
                // Without events of it, its files are found by scans.
                let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
        }
        self.watched = folders;
    }
}

impl Scope {
    fn scan(&self) -> Files {
        let mut files = Files::new();
        for file in &self.files {
            files.extend(Stamp::of(file).map(|stamp| (file.clone(), stamp)));
        }
        let mut folders: Vec<PathBuf> = self.folder.iter().map(|(folder, _)| folder.clone()).collect();
        while let Some(folder) = folders.pop() {
            // A folder that is removed meanwhile has no files.
            for entry in folder.read_dir().into_iter().flatten().flatten() {
                let path = entry.path();
                if files.len() >= MOST_FILES || self.is_ignored(&entry.file_name().to_string_lossy()) {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(_) => files.extend(Stamp::of(&path).map(|stamp| (path, stamp))),
                    Err(_) => (),
                }
            }
        }
        files
    }

    fn is_ignored(&self, name: &str) -> bool {
        let patterns = self.folder.iter().flat_map(|(_, patterns)| patterns);
        name.starts_with('.') || patterns.into_iter().any(|pattern| pattern.matches(name))
    }

    fn folders<'a>(&'a self, files: &'a Files) -> impl Iterator<Item = PathBuf> + 'a {
        let all = files.keys().chain(&self.files).filter_map(|file| file.parent());
        let all = all.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        all.map(Path::to_owned).chain(self.folder.iter().map(|(folder, _)| folder.clone()))
    }
}

impl Stamp {
    /// Reads a file; returns `None` if there is none.
    fn of(file: &Path) -> Option<Self> {
        let read = || -> io::Result<Self> {
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            if metadata.len() > LARGEST_COMPARED {
                return Ok(Self::Large(metadata.len(), metadata.modified().ok()));
            }
            let mut hasher = DefaultHasher::new();
            std::fs::read(file)?.hash(&mut hasher);
            Ok(Self::Content(hasher.finish()))
        };
        read().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn is_changed(sources: &mut Sources) -> bool {
        tokio::time::timeout(Duration::from_secs(2), sources.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn sources_are_watched_and_outputs_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("src")).unwrap();
        fs::create_dir_all(path("target/debug")).unwrap();
        fs::write(path(".gitignore"), "/bindings\n*.log\n").unwrap();
        fs::write(path("src/lib.rs"), "1").unwrap();
        let mut sources = Sources::of_folder(dir.path(), vec![path("gate.toml")]);
        for ignored in ["target/debug/x", "gate.wasm", "bindings", "a.log", ".hidden"] {
            fs::write(path(ignored), "x").unwrap();
        }
        // The content is as before.
        fs::write(path("src/lib.rs"), "1").unwrap();
        assert!(!is_changed(&mut sources).await);
        for source in ["src/lib.rs", "src/new.rs", "gate.toml"] {
            fs::write(path(source), "2").unwrap();
            assert!(is_changed(&mut sources).await, "{source}");
        }
        fs::create_dir_all(path("config")).unwrap();
        fs::write(path("config/config.go"), "1").unwrap();
        fs::remove_file(path("src/new.rs")).unwrap();
        assert!(is_changed(&mut sources).await);
    }

    #[tokio::test]
    async fn single_files_may_be_absent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gate.wasm");
        let mut sources = Sources::of_files(vec![file.clone()]);
        fs::write(dir.path().join("other"), "").unwrap();
        fs::write(&file, "1").unwrap();
        assert!(is_changed(&mut sources).await);
        fs::remove_file(&file).unwrap();
        assert!(is_changed(&mut sources).await);
    }
}
