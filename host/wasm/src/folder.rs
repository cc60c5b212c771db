//! Notices plugin files that come, change and go, and keeps the plan up to date.
//!
//! One task does it all: wait for a sign, let the files come to rest, stage what is new away from the serving path,
//! build one plan, put it in place with one store.

mod entry;
mod loader;
mod scan;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, oneshot};
use yardarm_core::Lifecycle;
use yardarm_core::hooks::Hooks;

use self::loader::Loader;
use crate::cache::Cache;
use crate::engine::Engine;
use crate::stage::{LoadError, Stager};
use crate::status::{FolderStatus, PluginMetrics, View};

/// Changes that keep coming do not put off the plan for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Pause between two looks at a file that does not rest.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// Where plugins are and how they are watched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The watched folder.
    pub dir: PathBuf,
    /// Whether a component without a binding file serves all its hooks in all environments.
    pub auto_bind: bool,
    /// Where compiled components are kept, outside of the watched folder; nowhere if absent.
    pub cache_dir: Option<PathBuf>,
    /// How often the folder is listed, because file events get lost.
    pub scan_interval: Duration,
    /// How long no file may change before changes are taken up, so that files copied together act together.
    pub quiet: Duration,
    /// How long [`PluginFolder::open`] waits for the first complete plan.
    pub start_timeout: Duration,
    /// Whether a folder that does not exist is an error.
    pub must_exist: bool,
    /// Plugin instances that may live at once, all plugins together.
    pub instances: u32,
}

/// A watched folder of plugins.
pub struct PluginFolder {
    view: Mutex<View>,
    ready: AtomicBool,
}

/// The gateway cannot watch a folder of plugins.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is no place to load code from.
    #[error(transparent)]
    Unsafe(LoadError),
    /// There is no such folder, and there should be one.
    #[error("plugin folder `{0}` does not exist")]
    Absent(PathBuf),
    /// The machine cannot run WebAssembly.
    #[error("the WebAssembly engine does not start")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Signs from the watcher's thread.
#[derive(Default)]
pub(crate) struct Signs {
    wake: Notify,
    /// Files that were closed after writing or renamed into place. No larger than the folder.
    arrived: Mutex<HashSet<PathBuf>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./plugins.d"),
            auto_bind: true,
            cache_dir: None,
            scan_interval: Duration::from_secs(2),
            quiet: Duration::from_millis(100),
            start_timeout: Duration::from_secs(30),
            must_exist: false,
            instances: 1_000,
        }
    }
}

impl PluginFolder {
    /// Loads what is there, puts the plan in place, then keeps watching under `lifecycle`.
    ///
    /// Waits for the first complete plan, within the settings' bound. Until it is complete, hooks of plugins that
    /// are required and not loaded yet fail closed.
    ///
    /// # Errors
    ///
    /// If the folder is unsafe, or absent though it must exist, or if the engine cannot be made. A plugin that does
    /// not load is no error but a row in [`Self::status`].
    pub async fn open(settings: Settings, hooks: Hooks, lifecycle: &Lifecycle) -> Result<Arc<Self>, OpenError> {
        match scan::list(&settings.dir).map_err(OpenError::Unsafe)? {
            None if settings.must_exist => return Err(OpenError::Absent(settings.dir)),
            _ => (),
        }
        let engine = Engine::new(settings.instances).map_err(|error| OpenError::Engine(error.into()))?;
        let engine = Arc::new(engine);
        let facts = engine.facts.clone();
        tracing::info!(
            allocation = facts.allocation,
            instances = facts.instances,
            page_map_scan = facts.page_map_scan,
            "plugin engine ready"
        );
        let cache = settings.cache_dir.as_deref().and_then(open_cache);
        let stager = Stager { engine, cache, lifecycle: lifecycle.clone() };
        let folder =
            Arc::new(Self { view: Mutex::new(View::new(settings.dir.clone(), facts)), ready: AtomicBool::new(false) });
        let (first, done) = oneshot::channel();
        let start_timeout = settings.start_timeout;
        let loader = Loader::new(settings, stager, hooks, Arc::clone(&folder));
        lifecycle.spawn("plugin folder", watch(loader, first));
        if tokio::time::timeout(start_timeout, done).await.is_err() {
            tracing::warn!("some plugins are still being loaded; required ones fail closed until they are there");
        }
        Ok(folder)
    }

    /// What the operator wants to know of each plugin.
    #[must_use]
    pub fn status(&self) -> FolderStatus {
        self.view().status(self.is_ready())
    }

    /// Counters of each plugin.
    #[must_use]
    pub fn metrics(&self) -> Vec<PluginMetrics> {
        self.view().metrics()
    }

    /// Whether everything that was in the folder at the start has been loaded or refused.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for PluginFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginFolder").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Loads the folder for the first time, then whenever something changes.
async fn watch(mut loader: Loader, first: oneshot::Sender<()>) {
    let signs = Arc::new(Signs::default());
    let mut watcher = FolderWatcher::new(loader.dir().to_owned(), &signs);
    watcher.renew();
    loader.keep_shut().await;
    settle(&mut loader, &signs).await;
    loader.folder().ready.store(true, Ordering::Release);
    // Nobody waits any more if the first plan took long.
    let _ = first.send(());
    loop {
        let woken = tokio::time::timeout(loader.scan_interval(), signs.wake.notified()).await.is_ok();
        if woken {
            quiet(&signs, loader.quiet()).await;
        }
        watcher.renew();
        settle(&mut loader, &signs).await;
    }
}

/// Waits until no file changes any more.
async fn quiet(signs: &Signs, quiet: Duration) {
    let storm = async { while tokio::time::timeout(quiet, signs.wake.notified()).await.is_ok() {} };
    // A storm that does not end is taken as it comes.
    let _ = tokio::time::timeout(LONGEST_WAIT, storm).await;
}

/// Takes up changes, looking again at files that are still being written.
async fn settle(loader: &mut Loader, signs: &Signs) {
    let mut looks = LONGEST_WAIT.as_millis() / NEXT_LOOK.as_millis();
    loop {
        let arrived = signs.arrived();
        let wait = looks > 0;
        if loader.look(&arrived, wait).await {
            return;
        }
        looks = looks.saturating_sub(1);
        tokio::time::sleep(NEXT_LOOK).await;
    }
}

fn open_cache(dir: &Path) -> Option<Cache> {
    match Cache::open(dir) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "compiled plugins are not kept");
            None
        }
    }
}

/// A watcher that survives the folder being replaced.
struct FolderWatcher {
    dir: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: Option<(u64, u64)>,
}

impl FolderWatcher {
    fn new(dir: PathBuf, signs: &Arc<Signs>) -> Self {
        let signs = Arc::clone(signs);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| signs.note(event));
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no file events, the folder is only listed now and then");
        }
        Self { dir, watcher: watcher.ok(), watched: None }
    }

    /// Watches the folder that has the name now.
    fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let now = folder_identity(&self.dir);
        if now == self.watched {
            return;
        }
        if self.watched.is_some() {
            // Fails if the folder is gone, which ends the watch too.
            let _ = watcher.unwatch(&self.dir);
        }
        self.watched = now.filter(|_| match watcher.watch(&self.dir, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "no file events for now");
                false
            }
        });
    }
}

#[cfg(unix)]
fn folder_identity(dir: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn folder_identity(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).ok().map(|_| (0, 0))
}

impl Signs {
    fn note(&self, event: notify::Result<notify::Event>) {
        let Ok(event) = event else {
            // Events were lost: look at everything.
            self.wake.notify_one();
            return;
        };
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                arrived.extend(event.paths.into_iter().filter(|path| scan::name(path).is_some()));
            }
            EventKind::Access(_) => return,
            _ => {
                for path in &event.paths {
                    arrived.remove(path);
                }
            }
        }
        drop(arrived);
        self.wake.notify_one();
    }

    fn arrived(&self) -> HashSet<PathBuf> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
