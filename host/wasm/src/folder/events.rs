//! File system events of the plugin folder. Events can be lost, so correctness does not depend on them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use yardarm_core::Supervisor;
use yardarm_core::supervisor::fault_point;

use super::listing::{self, Pair};

/// Maximum number of names collected between two scans; beyond it, every file is suspect.
const MOST_NAMES: usize = 1_000;

/// Collects events on the watcher's thread.
pub(super) struct FolderEvents {
    dir: PathBuf,
    wake: Notify,
    events: Mutex<Events>,
}

/// Events since the last scan.
#[derive(Debug, Default, Clone)]
pub(super) struct Events {
    /// Files that were closed after writing or renamed into place, and have not changed since.
    pub(super) arrived: HashSet<PathBuf>,
    /// Plugin files that were touched in any way.
    touched: HashSet<PathBuf>,
    /// Whether other names appeared, disappeared or changed, which symbolic links may point to.
    others_moved: bool,
    /// Whether events were lost.
    has_gap: bool,
    /// Whether the watched folder itself was removed or renamed.
    has_folder_moved: bool,
}

/// File stems whose content must be compared with what was read.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    touched: HashSet<PathBuf>,
    links: bool,
    all: bool,
    /// Suspect only because time has passed.
    pub(super) sweep: BTreeSet<Arc<str>>,
}

impl FolderEvents {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, wake: Notify::new(), events: Mutex::default() }
    }

    /// Waits for an event since the last wait.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes the events since the last call. Files that arrived are reported again until they change.
    pub(super) fn take(&self) -> Events {
        let mut events = self.lock();
        let arrived = events.arrived.clone();
        std::mem::replace(&mut *events, Events { arrived, ..Events::default() })
    }

    /// Marks every file as suspect, as if events had been lost.
    pub(super) fn suspect_all(&self) {
        self.lock().has_gap = true;
        self.wake.notify_one();
    }

    fn note(&self, event: notify::Result<notify::Event>) {
        fault_point("plugin file events");
        let mut events = self.lock();
        match event {
            Ok(event) if matches!(event.kind, EventKind::Access(AccessKind::Close(AccessMode::Write))) => {
                events.note(&self.dir, &event);
            }
            // Read accesses are ignored, because this program causes them.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
            Ok(event) => events.note(&self.dir, &event),
            Err(_) => events.has_gap = true,
        }
        drop(events);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock()
    }
}

impl Events {
    fn note(&mut self, dir: &Path, event: &notify::Event) {
        let is_arrival = matches!(
            event.kind,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
        );
        let is_move =
            matches!(event.kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        self.has_gap |= event.need_rescan();
        for path in &event.paths {
            if path == dir {
                self.has_folder_moved |= is_move;
            } else if listing::name(path).is_none() {
                self.others_moved |= is_move;
            } else if self.touched.len() >= MOST_NAMES || self.arrived.len() >= MOST_NAMES {
                self.has_gap = true;
                self.arrived.clear();
                self.touched.clear();
            } else {
                self.touched.insert(path.clone());
                if is_arrival {
                    self.arrived.insert(path.clone());
                } else {
                    self.arrived.remove(path);
                }
            }
        }
    }

    /// Returns whether the folder must be watched again.
    pub(super) fn has_folder_moved(&self) -> bool {
        self.has_folder_moved
    }
}

impl Suspects {
    /// Adds the files that the events refer to.
    pub(super) fn add(&mut self, events: &mut Events) {
        self.touched.extend(events.touched.drain());
        self.links |= events.others_moved;
        self.all |= events.has_gap;
        (events.others_moved, events.has_gap) = (false, false);
    }

    /// Takes all touched files, and of the others as many as fit in `budget` bytes.
    pub(super) fn take(&mut self, pairs: &BTreeMap<Arc<str>, Pair>, budget: u64) -> BTreeSet<Arc<str>> {
        let is_touched = |path: &PathBuf| {
            listing::name(path).and_then(|(stem, _)| pairs.get_key_value(stem.to_str()?)).map(|it| it.0)
        };
        let mut suspects: BTreeSet<Arc<str>> = self.touched.iter().filter_map(is_touched).cloned().collect();
        if self.all || self.links {
            let all = self.all;
            suspects.extend(pairs.iter().filter(|(_, pair)| all || pair.has_link()).map(|(stem, _)| Arc::clone(stem)));
        }
        self.touched.clear();
        (self.links, self.all) = (false, false);
        let mut bytes = 0;
        while bytes < budget
            && let Some(stem) = self.sweep.pop_first()
        {
            if let Some(pair) = pairs.get(&stem) {
                bytes += pair.size();
                suspects.insert(stem);
            }
        }
        suspects
    }
}

/// A watcher that survives replacement of the folder. Its methods block as long as the file system does.
pub(super) struct FolderWatcher {
    dir: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: Option<(u64, u64)>,
}

impl FolderWatcher {
    pub(super) fn new(folder_events: &Arc<FolderEvents>, supervisor: Supervisor) -> Self {
        let dir = folder_events.dir.clone();
        let folder_events = Arc::clone(folder_events);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Runs on a thread of the library, which would not survive a panic.
            if supervisor.catch("plugin file events", None, || folder_events.note(event)).is_err() {
                folder_events.suspect_all();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "file events are not available, the folder is only scanned periodically");
        }
        Self { dir, watcher: watcher.ok(), watched: None }
    }

    /// Watches the folder that currently has the configured path. A folder with the same inode number as the previous
    /// one may be another folder, if the number was reused; `afresh` watches it again in any case.
    pub(super) fn renew(&mut self, afresh: bool) {
        let Some(watcher) = &mut self.watcher else { return };
        let now = std::fs::metadata(&self.dir).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if now == self.watched && !afresh {
            return;
        }
        if self.watched.is_some() {
            // Fails if the folder was removed, which ends the watch too.
            let _ = watcher.unwatch(&self.dir);
        }
        self.watched = now.filter(|_| match watcher.watch(&self.dir, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "file events are not available for now");
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    use super::super::files::Stamp;
    use super::super::listing::Listed;
    use super::*;

    fn pairs(files: &[(&str, u64, bool)]) -> BTreeMap<Arc<str>, Pair> {
        let pair = |size, is_link| {
            let stamp = Stamp::made_up(size, Duration::ZERO);
            Pair { wasm: Some(Listed::File { stamp, is_link }), ..Pair::default() }
        };
        files.iter().map(|(stem, size, is_link)| ((*stem).into(), pair(*size, *is_link))).collect()
    }

    fn event(kind: EventKind, name: &str) -> notify::Event {
        notify::Event::new(kind).add_path(Path::new("/d").join(name))
    }

    fn suspects_after(kind: EventKind, name: &str) -> Vec<String> {
        let pairs = pairs(&[("gate", 1, false), ("link", 1, true), ("other", 1, false)]);
        let folder_events = FolderEvents::new("/d".into());
        folder_events.note(Ok(event(kind, name)));
        let mut suspects = Suspects::default();
        suspects.add(&mut folder_events.take());
        let taken = suspects.take(&pairs, 1_000).iter().map(ToString::to_string).collect();
        assert!(suspects.take(&pairs, 1_000).is_empty(), "each is taken once");
        taken
    }

    #[test]
    fn every_event_makes_its_file_suspect_and_moved_names_make_links_suspect() {
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let attributes = EventKind::Modify(ModifyKind::Metadata(notify::event::MetadataKind::Any));
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for kind in [written, attributes, closed, EventKind::Create(CreateKind::File)] {
            assert_eq!(suspects_after(kind, "gate.wasm"), ["gate"], "{kind:?}");
            assert_eq!(suspects_after(kind, "gate.toml"), ["gate"], "{kind:?}");
        }
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        assert_eq!(suspects_after(moved, "..data"), ["link"]);
        assert!(suspects_after(written, ".gate.wasm.part").is_empty());
        assert!(suspects_after(EventKind::Access(AccessKind::Open(AccessMode::Read)), "gate.wasm").is_empty());
    }

    #[test]
    fn lost_events_make_everything_suspect() {
        let all = ["gate", "link", "other"];
        let lost = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let folder_events = FolderEvents::new("/d".into());
        let pairs = pairs(&[("gate", 1, false), ("link", 1, true), ("other", 1, false)]);
        let mut suspects = Suspects::default();
        for note in [Ok(lost), Err(notify::Error::generic("gone"))] {
            folder_events.note(note);
            suspects.add(&mut folder_events.take());
            assert_eq!(suspects.take(&pairs, 0).iter().map(|stem| &**stem).collect::<Vec<_>>(), all);
        }
        for number in 0..=MOST_NAMES {
            folder_events.note(Ok(event(EventKind::Create(CreateKind::File), &format!("{number}.wasm"))));
        }
        suspects.add(&mut folder_events.take());
        assert_eq!(suspects.take(&pairs, 0).len(), 3);
    }

    #[test]
    fn a_sweep_continues_where_its_budget_ended() {
        let pairs = pairs(&[("a", 60, false), ("b", 60, false), ("c", 60, false)]);
        let mut suspects = Suspects { sweep: pairs.keys().cloned().collect(), ..Suspects::default() };
        assert_eq!(suspects.take(&pairs, 100).len(), 2);
        assert_eq!(suspects.take(&pairs, 100).len(), 1);
        assert!(suspects.take(&pairs, 100).is_empty());
    }

    #[test]
    fn a_file_that_arrived_is_one_until_it_changes() {
        let folder_events = FolderEvents::new("/d".into());
        folder_events.note(Ok(event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "gate.wasm")));
        for _ in 0..2 {
            assert!(folder_events.take().arrived.contains(Path::new("/d/gate.wasm")));
        }
        folder_events.note(Ok(event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "gate.wasm")));
        assert!(folder_events.take().arrived.is_empty());
        folder_events.note(Ok(event(EventKind::Remove(RemoveKind::Folder), "")));
        assert!(folder_events.take().has_folder_moved());
    }
}
