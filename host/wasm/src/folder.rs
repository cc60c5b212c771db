//! The watched plugin folder: detects new, changed and removed files, and keeps the plan up to date.
//!
//! A single task waits for an event, waits until the files are stable, stages new files away from the serving path,
//! builds one plan, and installs it with one atomic store.

mod entry;
mod events;
pub(crate) mod files;
mod loader;
pub(crate) mod scan;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::Instant;
use yardarm_core::hooks::Hooks;
use yardarm_core::supervisor;
use yardarm_core::{DataStore, InternalError, Lifecycle, Supervised, Supervisor};

use self::events::{FolderEvents, FolderWatcher};
use self::loader::Loader;
pub use self::trust::Trust;
use crate::runtime::engine::Engine;
use crate::staging::Stager;
use crate::staging::cache::{Cache, CacheLimits};
use crate::staging::compilation::{Compilation, CompileLimits, Compiler, Quarantine};
use crate::status::{FolderStatus, PluginMetrics, View};
use crate::vocabulary::AllAbstain;

/// Maximum delay of a plan while changes continue to arrive.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Pause between two scans while a file is unstable.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// Time limit for opening the cache folder.
const CACHE_TIMEOUT: Duration = Duration::from_secs(10);

/// Location of plugins, and how it is watched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The watched folder.
    pub dir: PathBuf,
    /// Which folders and files are trusted to contain code.
    pub trust: Trust,
    /// Whether a component without a binding file is bound to all its hooks in all environments.
    pub auto_bind: bool,
    /// What happens to a request when every plugin of its `request-auth` chain abstains.
    pub all_abstain: AllAbstain,
    /// Folder of the cache of compiled components, in the data folder; no cache if absent, or if the data folder belongs
    /// to another user. Its index is in the store of the data folder.
    pub cache_dir: Option<PathBuf>,
    /// Size and age limits of the cache.
    pub cache_limits: CacheLimits,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What a compilation may cost.
    pub compile_limits: CompileLimits,
    /// Interval of folder scans, because file events can be lost.
    pub scan_interval: Duration,
    /// Interval at which the content of all files is compared with what was read, because a file can change without a
    /// change of its size and time.
    pub verify_interval: Duration,
    /// How long all files must be unchanged before changes are applied, so that files copied together are applied
    /// together.
    pub quiet: Duration,
    /// How long [`PluginFolder::open`] waits for the first complete plan.
    pub start_timeout: Duration,
    /// Maximum number of live plugin instances, over all plugins.
    pub instances: u32,
}

/// A watched folder of plugins.
pub struct PluginFolder {
    view: Mutex<View>,
    ready: AtomicBool,
    folder_events: Arc<FolderEvents>,
    quarantine: Quarantine,
}

/// The gateway cannot watch a plugin folder.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine cannot run WebAssembly.
    #[error("the WebAssembly engine cannot be started")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./plugins.d"),
            trust: Trust::default(),
            auto_bind: true,
            all_abstain: AllAbstain::default(),
            cache_dir: None,
            cache_limits: CacheLimits::default(),
            compiler: Compiler::default(),
            compile_limits: CompileLimits::default(),
            scan_interval: Duration::from_secs(2),
            verify_interval: Duration::from_secs(30),
            quiet: Duration::from_millis(100),
            start_timeout: Duration::from_secs(30),
            instances: 1_000,
        }
    }
}

impl PluginFolder {
    /// Loads the folder, installs the plan, and keeps watching under `lifecycle`. `store` is the store of the data folder
    /// once it is open; without one, compiled components are not cached.
    ///
    /// Waits for the first complete plan, up to the configured timeout. Until it is complete, hooks with required
    /// plugins that are not loaded yet fail closed.
    ///
    /// # Errors
    /// If the engine cannot be created. A folder or plugin that cannot be used is not an error; it is reported in
    /// [`Self::status`].
    pub async fn open(
        mut settings: Settings,
        store: impl Future<Output = Option<DataStore>>,
        hooks: Hooks,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        // Absolute, as in file events, and independent of later changes of the working directory.
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
        let store = store.await;
        let cache = open_cache(&settings, store.clone(), &engine).await;
        let (compiler, limits) = (settings.compiler.clone(), settings.compile_limits);
        let compilation = Compilation::new(&engine.wasmtime, compiler, limits, (cache, store));
        let compilation = compilation.map_err(|error| OpenError::Engine(error.into()))?;
        let quarantine = compilation.quarantine().clone();
        let stager = Stager { engine, compilation, lifecycle: lifecycle.clone() };
        let folder = Arc::new(Self {
            view: Mutex::new(View::new(settings.dir.clone(), facts)),
            ready: AtomicBool::new(false),
            folder_events: Arc::new(FolderEvents::new(settings.dir.clone())),
            quarantine,
        });
        let (first, done) = oneshot::channel();
        let start_timeout = settings.start_timeout;
        let loader = Loader::new(settings, stager, hooks, Arc::clone(&folder));
        lifecycle.supervise("plugin folder", WatchTask::new(loader, first, lifecycle.supervisor()));
        if tokio::time::timeout(start_timeout, done).await.is_err() {
            tracing::warn!("some plugins are still being loaded; required ones fail closed until they are loaded");
        }
        Ok(folder)
    }

    /// Compares the content of all files now instead of at the next interval.
    pub fn rescan(&self) {
        self.folder_events.suspect_all();
    }

    /// Releases a component file with this digest from quarantine; returns whether it was in it. It is compiled when it is
    /// loaded the next time. Blocks.
    pub fn clear_quarantine(&self, sha256: &[u8; 32]) -> bool {
        self.quarantine.clear(sha256)
    }

    /// Returns the status of the folder and of each plugin.
    #[must_use]
    pub fn status(&self) -> FolderStatus {
        self.view().status(self.is_ready())
    }

    /// Returns the counters of each plugin.
    #[must_use]
    pub fn metrics(&self) -> Vec<PluginMetrics> {
        self.view().metrics()
    }

    /// Returns whether every file that was in the folder at the start has been loaded or rejected.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock()
    }
}

impl std::fmt::Debug for PluginFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginFolder").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

/// Loads the folder for the first time, then after each change.
struct WatchTask {
    loader: Loader,
    folder_events: Arc<FolderEvents>,
    watcher: Arc<Mutex<FolderWatcher>>,
    /// Sent when the first plan is complete.
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
        // The receiver is dropped if the first plan took too long.
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

/// Watches the folder that currently has the configured path.
async fn renew(watcher: &Arc<Mutex<FolderWatcher>>, afresh: bool) {
    let watcher = Arc::clone(watcher);
    let renewal = move || watcher.lock().renew(afresh);
    // The folder is scanned periodically in any case.
    let _ = supervisor::blocking("plugin folder reader", renewal).await;
}

/// Waits until files stop changing.
async fn quiet(folder_events: &FolderEvents, quiet: Duration) {
    let storm = async { while folder_events.wait(quiet).await {} };
    // After the limit, changes are applied although more may follow.
    let _ = tokio::time::timeout(LONGEST_WAIT, storm).await;
}

/// Applies changes, scanning again while files are being written; returns whether the folder itself was moved.
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

/// Opens the cache of compiled components, if one is configured and usable.
async fn open_cache(settings: &Settings, store: Option<DataStore>, engine: &Engine) -> Option<Cache> {
    let (dir, store) = (settings.cache_dir.clone()?, store?);
    let (limits, engine) = (settings.cache_limits, engine.wasmtime.clone());
    let open = {
        let dir = dir.clone();
        supervisor::blocking("plugin cache", move || Cache::open(&dir, store, &engine, limits))
    };
    let opened = tokio::time::timeout(CACHE_TIMEOUT, open).await;
    let opened = opened.map_err(|_| std::io::ErrorKind::TimedOut.into());
    match opened.and_then(|opened| opened.unwrap_or_else(|error| Err(std::io::Error::other(error)))) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "compiled plugins cannot be cached");
            None
        }
    }
}
