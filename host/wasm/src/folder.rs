//! The watched plugin folder: detects new, changed and removed files, and keeps the plan up to date.
//!
//! A single task (`watch`) waits for events, scans the folder once files are stable, stages new files side by side and away
//! from the serving path (`stagings`), builds one plan of what is ready, and installs it with one atomic store.

mod content;
mod entry;
mod events;
pub(crate) mod files;
mod kept;
mod listing;
mod loader;
mod orders;
mod probation;
mod records;
mod rollout;
mod schedule;
mod set;
mod stagings;
mod trust;
mod unstable;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, watch as latest};
use yardarm_core::hooks::Hooks;
use yardarm_core::readiness::Readiness;
use yardarm_core::supervisor;
use yardarm_core::{DataStore, Lifecycle, Secret};

use self::events::FolderEvents;
use self::kept::KeptFiles;
use self::loader::Loader;
pub use self::orders::{Impossible, OrderError, OrderReport, PluginAction, UnknownPlugin};
use self::orders::{MOST_ORDERS, Order};
use self::records::Records;
pub use self::trust::Trust;
use self::watch::WatchTask;
use crate::cases::{Capture, Captures};
use crate::notices::Mailboxes;
use crate::runtime::cpu_share::{CpuLimits, CpuShares};
use crate::runtime::engine::Engine;
use crate::services::{ServiceSettings, Services};
use crate::staging::Stager;
use crate::staging::cache::{Cache, CacheLimits};
use crate::staging::compilation::{Compilation, CompileLimits, Compiler, Quarantine};
use crate::staging::signature::SignaturePolicy;
use crate::status::{FolderStatus, PluginMetrics, View};
use crate::vocabulary::{AdmissionRules, AllCounters, DelegatedEnvironments, FieldClass};

/// Time limit for reading binding files before the first request, on a file system that does not respond.
const FIRST_LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for opening a part of the data folder.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Location of plugins, and how it is watched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The watched folder.
    pub dir: PathBuf,
    /// Which folders and files are trusted to contain code.
    pub trust: Trust,
    /// Whether a component without a binding file is bound to all its hooks in all environments.
    pub auto_bind: bool,
    /// Rules for the decisions of `request-auth` chains.
    pub admission: AdmissionRules,
    /// Environments whose callers need no credential of theirs, if a resolver chooses them.
    pub delegated_auth: DelegatedEnvironments,
    /// Which signatures of components are trusted, and whether they are required.
    pub signatures: Arc<SignaturePolicy>,
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
    /// How long a component without a binding file waits for it before it is bound automatically.
    pub settle_time: Duration,
    /// How much processor time plugins may use.
    pub cpu_limits: CpuLimits,
    /// How long the version before a new one is kept warm, and returns if the new one is worse; zero for never.
    pub probation: Duration,
    /// Folder of the files of versions that may return, in the data folder; none are kept if absent, or if the data folder
    /// belongs to another user.
    pub kept_dir: Option<PathBuf>,
    /// Whether the input of failed calls is kept, and which fields of it are not masked.
    pub captures: Option<Vec<FieldClass>>,
    /// Maximum number of live plugin instances, over all plugins.
    pub instances: u32,
    /// Key of the fingerprints of credentials and contexts; random if absent.
    pub fingerprint_key: Option<Secret>,
    /// What plugins use besides the input of a call.
    pub services: ServiceSettings,
}

/// A watched folder of plugins.
pub struct PluginFolder {
    view: Mutex<View>,
    /// Whether every file that was in the folder at the start has been loaded or rejected.
    ready: latest::Sender<bool>,
    folder_events: Arc<FolderEvents>,
    quarantine: Quarantine,
    orders: mpsc::Sender<Order>,
    captures: Option<Arc<Captures>>,
    /// Where orders are remembered.
    store: Option<DataStore>,
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
            admission: AdmissionRules::default(),
            delegated_auth: DelegatedEnvironments::default(),
            signatures: Arc::default(),
            cache_dir: None,
            cache_limits: CacheLimits::default(),
            compiler: Compiler::default(),
            compile_limits: CompileLimits::default(),
            scan_interval: Duration::from_secs(2),
            verify_interval: Duration::from_secs(30),
            quiet: Duration::from_millis(100),
            settle_time: Duration::from_millis(500),
            cpu_limits: CpuLimits::default(),
            probation: Duration::from_secs(60),
            kept_dir: None,
            captures: None,
            instances: 1_000,
            fingerprint_key: None,
            services: ServiceSettings::default(),
        }
    }
}

impl PluginFolder {
    /// Installs a plan in which required plugins fail closed, and loads and watches the folder under `lifecycle`.
    ///
    /// Does not wait for any plugin. Each required plugin that is in the folder, or that was active in an earlier process,
    /// delays `readiness` until it is active. `store` is the store of the data folder once it is open; without one,
    /// compiled components are not cached, and nothing is remembered of plugins across restarts.
    ///
    /// # Errors
    /// If the engine cannot be created. A folder or plugin that cannot be used is not an error; it is reported in
    /// [`Self::status`].
    pub async fn open(
        mut settings: Settings,
        store: impl Future<Output = Option<DataStore>>,
        hooks: Hooks,
        readiness: &Readiness,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        // Absolute, as in file events, and independent of later changes of the working directory.
        settings.dir = std::path::absolute(&settings.dir).unwrap_or(settings.dir);
        let mut engine = Engine::new(settings.instances).map_err(|error| OpenError::Engine(error.into()))?;
        if let Some(key) = &settings.fingerprint_key {
            engine = engine.with_fingerprint_key(key);
        }
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
        let compilation = Compilation::new(&engine.engines, compiler, limits, (cache, store.clone()));
        let compilation = compilation.map_err(|error| OpenError::Engine(error.into()))?;
        let quarantine = compilation.quarantine().clone();
        let shares = CpuShares::new(settings.cpu_limits);
        let captures = settings.captures.as_ref().map(|plain| Arc::new(Captures::new(plain)));
        let services = Services::new(&settings.services, store.clone(), lifecycle);
        let stager = Stager {
            engine,
            compilation,
            lifecycle: lifecycle.clone(),
            shares,
            services: services.clone(),
            mailboxes: Mailboxes::default(),
            captures: captures.clone(),
            signatures: Arc::clone(&settings.signatures),
            published: Arc::default(),
        };
        let (sender, orders) = mpsc::channel(MOST_ORDERS);
        let counters = AllCounters::default();
        let folder = Arc::new(Self {
            view: Mutex::new(View::new(settings.dir.clone(), facts, counters.clone(), services)),
            ready: latest::Sender::new(false),
            folder_events: Arc::new(FolderEvents::new(settings.dir.clone())),
            quarantine,
            orders: sender,
            captures,
            store: store.clone(),
        });
        let kept = open_kept(&settings, store.is_some()).await;
        let memory = (Records::new(store), kept);
        let mut loader = Loader::new(settings, stager, hooks, Arc::clone(&folder), memory, counters);
        let first_look = loader.fail_closed_until_loaded(readiness);
        if tokio::time::timeout(FIRST_LOOK_TIMEOUT, first_look).await.is_err() {
            tracing::error!("the plugin folder does not respond; required plugins in it may be bypassed until it does");
        }
        lifecycle.supervise("plugin folder", WatchTask::new(loader, orders, lifecycle.supervisor()));
        Ok(folder)
    }

    /// Compares the content of all files now instead of at the next interval.
    pub fn rescan(&self) {
        self.folder_events.suspect_all();
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

    /// Returns the failed calls of a plugin that are kept, the newest first; `None` if none are kept at all. It is named
    /// as it declares, or as its file without extension.
    #[must_use]
    pub fn captures(&self, name: &str) -> Option<Vec<Capture>> {
        let captures = self.captures.as_ref()?;
        let declared = self.view().declared_name(name);
        Some(captures.of(declared.as_deref().unwrap_or(name)))
    }

    /// Returns whether every file that was in the folder at the start has been loaded or rejected.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until every file that was in the folder at the start has been loaded or rejected.
    pub async fn loaded(&self) {
        // The sender lives as long as `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
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

/// Opens the folder of versions that may return, if one is configured and usable.
async fn open_kept(settings: &Settings, has_store: bool) -> KeptFiles {
    let Some(dir) = settings.kept_dir.clone().filter(|_| has_store) else { return KeptFiles::default() };
    let without = "versions of plugins cannot be kept for a return after a restart";
    opened("plugin folder reader", &dir.clone(), without, move || KeptFiles::open(dir)).await.unwrap_or_default()
}

/// Opens the cache of compiled components, if one is configured and usable.
async fn open_cache(settings: &Settings, store: Option<DataStore>, engine: &Engine) -> Option<Cache> {
    let (dir, store) = (settings.cache_dir.clone()?, store?);
    let (limits, engine) = (settings.cache_limits, engine.engines.plain().clone());
    let open = move || Cache::open(&dir, store, &engine, limits);
    opened("plugin cache", settings.cache_dir.as_ref()?, "compiled plugins cannot be cached", open).await
}

/// Opens a part of the data folder, within a time limit. If that fails, logs what there is not `without` it.
async fn opened<T: Send + 'static>(
    task: &'static str,
    dir: &Path,
    without: &'static str,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Option<T> {
    let opened = tokio::time::timeout(OPEN_TIMEOUT, supervisor::blocking(task, open)).await;
    let opened = opened.map_err(|_| io::ErrorKind::TimedOut.into());
    let opened = opened.and_then(|opened| opened.unwrap_or_else(|error| Err(io::Error::other(error))));
    opened.inspect_err(|error| tracing::warn!(dir = %dir.display(), %error, "{without}")).ok()
}
