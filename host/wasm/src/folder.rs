//! Notices plugin files that come, change and go, and keeps the plan up to date.
//!
//! One task does it all: wait for a sign, let the files come to rest, stage what is new away from the serving path,
//! build one plan, put it in place with one store.

mod entry;
mod events;
pub(crate) mod files;
mod loader;
pub(crate) mod scan;
mod trust;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use yardarm_core::hooks::Hooks;
use yardarm_core::supervisor;
use yardarm_core::{InternalError, Lifecycle, Supervised, Supervisor};

use self::events::{FolderEvents, FolderWatcher};
use self::loader::Loader;
pub use self::trust::Trust;
use crate::runtime::engine::Engine;
use crate::staging::Stager;
use crate::staging::cache::{Cache, CacheLimits};
use crate::status::{FolderStatus, PluginMetrics, View};

/// Changes that keep coming do not put off the plan for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Pause between two looks at a file that does not rest.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// Longest wait for the folder of compiled components.
const CACHE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where plugins are and how they are watched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The watched folder.
    pub dir: PathBuf,
    /// From which folders and files code is loaded.
    pub trust: Trust,
    /// Whether a component without a binding file serves all its hooks in all environments.
    pub auto_bind: bool,
    /// Where compiled components are kept, outside of the watched folder; nowhere if absent.
    pub cache_dir: Option<PathBuf>,
    /// How much of it is kept, and for how long.
    pub cache_limits: CacheLimits,
    /// How often the folder is listed, because file events get lost.
    pub scan_interval: Duration,
    /// How often the content of all files is compared with what was read, because size and time of a file may hide
    /// that it changed.
    pub verify_interval: Duration,
    /// How long no file may change before changes are taken up, so that files copied together act together.
    pub quiet: Duration,
    /// How long [`PluginFolder::open`] waits for the first complete plan.
    pub start_timeout: Duration,
    /// Plugin instances that may live at once, all plugins together.
    pub instances: u32,
}

/// A watched folder of plugins.
pub struct PluginFolder {
    view: Mutex<View>,
    ready: AtomicBool,
    folder_events: Arc<FolderEvents>,
}

/// The gateway cannot watch a folder of plugins.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine cannot run WebAssembly.
    #[error("the WebAssembly engine does not start")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./plugins.d"),
            trust: Trust::default(),
            auto_bind: true,
            cache_dir: None,
            cache_limits: CacheLimits::default(),
            scan_interval: Duration::from_secs(2),
            verify_interval: Duration::from_secs(30),
            quiet: Duration::from_millis(100),
            start_timeout: Duration::from_secs(30),
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
    /// If the engine cannot be made. A folder or a plugin that cannot be used is no error but a line in
    /// [`Self::status`].
    pub async fn open(mut settings: Settings, hooks: Hooks, lifecycle: &Lifecycle) -> Result<Arc<Self>, OpenError> {
        // As the watcher names files, and whatever becomes of the working directory.
        settings.dir = std::path::absolute(&settings.dir).unwrap_or(settings.dir);
        let engine = Engine::new(settings.instances).map_err(|error| OpenError::Engine(error.into()))?;
        let engine = Arc::new(engine);
        let facts = engine.facts.clone();
        tracing::info!(
            allocation = facts.allocation,
            instances = facts.instances,
            page_map_scan = facts.page_map_scan,
            "plugin engine ready"
        );
        let cache = open_cache(&settings, &engine).await;
        let stager = Stager { engine, cache, lifecycle: lifecycle.clone() };
        let folder = Arc::new(Self {
            view: Mutex::new(View::new(settings.dir.clone(), facts)),
            ready: AtomicBool::new(false),
            folder_events: Arc::new(FolderEvents::new(settings.dir.clone())),
        });
        let (first, done) = oneshot::channel();
        let start_timeout = settings.start_timeout;
        let loader = Loader::new(settings, stager, hooks, Arc::clone(&folder));
        lifecycle.supervise("plugin folder", WatchTask::new(loader, first, lifecycle.supervisor()));
        if tokio::time::timeout(start_timeout, done).await.is_err() {
            tracing::warn!("some plugins are still being loaded; required ones fail closed until they are there");
        }
        Ok(folder)
    }

    /// Looks at the content of all files now instead of at the next interval.
    pub fn rescan(&self) {
        self.folder_events.suspect_all();
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
struct WatchTask {
    loader: Loader,
    folder_events: Arc<FolderEvents>,
    watcher: Arc<Mutex<FolderWatcher>>,
    /// Signals that the first plan is complete.
    first: Option<oneshot::Sender<()>>,
}

impl WatchTask {
    fn new(loader: Loader, first: oneshot::Sender<()>, supervisor: &Supervisor) -> Self {
        let folder_events = Arc::clone(&loader.folder().folder_events);
        let watcher = Arc::new(Mutex::new(FolderWatcher::new(&folder_events, supervisor.clone())));
        Self { loader, folder_events, watcher, first: Some(first) }
    }
}

impl Supervised for WatchTask {
    async fn run(&mut self) {
        watch(&mut self.loader, &self.folder_events, &self.watcher, &mut self.first).await;
    }

    fn recover(&mut self, _: &InternalError) {
        self.loader.recover();
    }
}

async fn watch(
    loader: &mut Loader,
    folder_events: &Arc<FolderEvents>,
    watcher: &Arc<Mutex<FolderWatcher>>,
    first: &mut Option<oneshot::Sender<()>>,
) {
    renew(watcher, false).await;
    if first.is_some() {
        loader.fail_closed_until_loaded().await;
    }
    settle(loader, folder_events).await;
    loader.folder().ready.store(true, Ordering::Release);
    if let Some(first) = first.take() {
        // The receiver is gone if the first plan took long.
        let _ = first.send(());
    }
    let (scan_interval, verify_interval) = (loader.settings().scan_interval, loader.settings().verify_interval);
    let mut verified = Instant::now();
    loop {
        if folder_events.wait(scan_interval.min(verify_interval)).await {
            quiet(folder_events, loader.settings().quiet).await;
        }
        let is_verification_due = verified.elapsed() >= verify_interval;
        if is_verification_due {
            loader.suspect_all();
            verified = Instant::now();
        }
        renew(watcher, is_verification_due).await;
        let has_folder_moved = settle(loader, folder_events).await;
        if has_folder_moved {
            renew(watcher, true).await;
        }
    }
}

/// Watches the folder that has the name now.
async fn renew(watcher: &Arc<Mutex<FolderWatcher>>, afresh: bool) {
    let watcher = Arc::clone(watcher);
    let renewal = move || watcher.lock().unwrap_or_else(PoisonError::into_inner).renew(afresh);
    // The folder is listed now and then in any case.
    let _ = supervisor::blocking("plugin folder reader", renewal).await;
}

/// Waits until no file changes any more.
async fn quiet(folder_events: &FolderEvents, quiet: Duration) {
    let storm = async { while folder_events.wait(quiet).await {} };
    // A storm that does not end is taken as it comes.
    let _ = tokio::time::timeout(LONGEST_WAIT, storm).await;
}

/// Takes up changes, looking again at files that are still being written; says whether the folder itself was moved.
async fn settle(loader: &mut Loader, folder_events: &FolderEvents) -> bool {
    let mut looks = LONGEST_WAIT.as_millis() / NEXT_LOOK.as_millis();
    let mut has_folder_moved = false;
    loop {
        let mut events = folder_events.take();
        has_folder_moved |= events.has_folder_moved();
        if loader.look(&mut events, looks > 0).await {
            return has_folder_moved;
        }
        looks = looks.saturating_sub(1);
        tokio::time::sleep(NEXT_LOOK).await;
    }
}

/// The cache of compiled components, if there is one that can be used.
async fn open_cache(settings: &Settings, engine: &Engine) -> Option<Cache> {
    let dir = settings.cache_dir.clone()?;
    let (limits, engine) = (settings.cache_limits, engine.wasmtime.clone());
    let open = {
        let dir = dir.clone();
        supervisor::blocking("plugin cache", move || Cache::open(&dir, &engine, limits))
    };
    let opened = tokio::time::timeout(CACHE_TIMEOUT, open).await;
    let opened = opened.map_err(|_| std::io::ErrorKind::TimedOut.into());
    match opened.and_then(|opened| opened.unwrap_or_else(|error| Err(std::io::Error::other(error)))) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "compiled plugins are not kept");
            None
        }
    }
}
