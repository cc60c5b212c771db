//! The checks of loading, without a gateway: for `yardarm check` and for plugin authors.

use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use yardarm_core::Lifecycle;
use yardarm_core::hooks::Hooks;

use crate::folder::files::{self, LARGEST_BINDING};
use crate::folder::{OpenError, PluginFolder, Settings, Trust};
use crate::notices::Mailboxes;
use crate::runtime::cpu_share::{CpuLimits, CpuShares};
use crate::runtime::engine::Engine;
use crate::services::{ServiceSettings, Services};
use crate::staging::compilation::{Compilation, CompileLimits, Compiler};
use crate::staging::manifest::Manifest;
use crate::staging::{Candidate, Stager};
use crate::status::FolderStatus;
use crate::vocabulary::{Bind, Hook, LARGEST_COMPONENT, LoadError, Progress, RolloutPolicy};

/// The properties of a component and its bindings.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Name that the plugin declares.
    pub name: String,
    /// Version that the plugin declares.
    pub version: String,
    /// One-line description.
    pub about: String,
    /// Digest of the file.
    pub sha256: String,
    /// Size of the file in bytes.
    pub bytes: usize,
    /// Version of the interface between the host and the plugin.
    pub interface: &'static str,
    /// Hooks that it exports.
    pub exports: Vec<Hook>,
    /// Grants that its imports require.
    pub grants_requested: Vec<String>,
    /// Grants that the binding file gives.
    pub grants: Vec<String>,
    /// Its bindings from the binding file, or all hooks everywhere without one.
    pub binds: Vec<Bind>,
    /// Shortest measured time to create an instance, in microseconds.
    pub fresh_instance_us: u64,
    /// Linear memory of a new instance, in bytes.
    pub instance_memory: u64,
    /// Time to compile, in milliseconds.
    pub compile_ms: u64,
}

/// Why a folder could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The machine cannot run WebAssembly.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The check itself failed.
    #[error(transparent)]
    Failed(#[from] LoadError),
}

/// What an operator has beside a component. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct OperatorFiles {
    /// The binding file.
    pub binding: Option<PathBuf>,
    /// Folder with a file per secret.
    pub secrets_dir: Option<PathBuf>,
}

/// Checks a component, with its binding file if there is one: everything that loading checks, including `init`.
///
/// May be called from any thread, inside or outside of an asynchronous runtime; blocks until it is done.
///
/// # Errors
/// The reason why a gateway would reject the file.
pub fn check_file(path: &Path, operator: &OperatorFiles, compiler: Compiler) -> Result<CheckReport, LoadError> {
    let result = on_own_runtime(async {
        let bytes = files::read(path, LARGEST_COMPONENT, Trust::Any)?;
        let manifest = operator.binding.as_deref().map(read_manifest).transpose()?;
        let stem = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into());
        let sha256 = Sha256::digest(&bytes).into();
        Box::pin(stage(&new_stager(compiler, operator)?, stem, bytes.into(), sha256, manifest)).await
    });
    result.unwrap_or_else(Err)
}

/// Returns the status that a gateway with these settings would show once it has loaded or rejected everything in the
/// folder, because it is loaded as a gateway does. What a running gateway remembers of plugins is not known here.
///
/// May be called from any thread, inside or outside of an asynchronous runtime; blocks until it is done.
///
/// # Errors
/// If the engine cannot be created, or the check itself fails. A folder that cannot be used is not an error.
pub fn check_folder(settings: &Settings) -> Result<FolderStatus, CheckError> {
    on_own_runtime(async {
        let lifecycle = Lifecycle::new();
        // A folder that is checked is not waited for to change.
        let settings = Settings { cache_dir: None, kept_dir: None, settle_time: Duration::ZERO, ..settings.clone() };
        let folder =
            PluginFolder::open(settings, ready(None), Hooks::none(), lifecycle.readiness(), &lifecycle).await?;
        folder.loaded().await;
        let status = folder.status();
        lifecycle.token().cancel();
        Ok(status)
    })?
}

/// Runs a check on a thread with its own runtime: this thread may be running one already, and runtimes cannot be
/// nested.
pub(crate) fn on_own_runtime<T: Send>(check: impl Future<Output = T> + Send) -> Result<T, LoadError> {
    let failed = |text: String| LoadError::CompileFailed { text };
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(check)).map_err(|error| failed(error.to_string()))
        });
        checking.join().unwrap_or_else(|_| Err(failed("the check panicked".to_owned())))
    })
}

pub(crate) fn new_stager(compiler: Compiler, operator: &OperatorFiles) -> Result<Stager, LoadError> {
    let unavailable = |error: wasmtime::Error| LoadError::CompilerUnavailable { text: error.to_string() };
    stager_of(Engine::new(16).map_err(unavailable)?, compiler, operator)
}

/// Returns a stager whose code counts instructions; it is compiled in this process, because compilers in child processes
/// compile for a gateway.
pub(crate) fn new_metered_stager() -> Result<Stager, LoadError> {
    let engine = Engine::metered().map_err(|error| LoadError::CompilerUnavailable { text: error.to_string() })?;
    stager_of(engine, Compiler::InProcess, &OperatorFiles::default())
}

fn stager_of(engine: Engine, compiler: Compiler, operator: &OperatorFiles) -> Result<Stager, LoadError> {
    let unavailable = |error: wasmtime::Error| LoadError::CompilerUnavailable { text: error.to_string() };
    let compilation =
        Compilation::new(&engine.engines, compiler, CompileLimits::default(), (None, None)).map_err(unavailable)?;
    let shares = CpuShares::new(CpuLimits::default());
    let settings = ServiceSettings { secrets_dir: operator.secrets_dir.clone(), ..ServiceSettings::default() };
    Ok(Stager {
        engine: Arc::new(engine),
        compilation,
        lifecycle: Lifecycle::new(),
        shares,
        services: Services::for_checks(&settings),
        mailboxes: Mailboxes::default(),
        captures: None,
        signatures: Arc::default(),
        published: Arc::default(),
    })
}

async fn stage(
    stager: &Stager,
    stem: Arc<str>,
    bytes: Arc<[u8]>,
    sha256: [u8; 32],
    manifest: Option<Manifest>,
) -> Result<CheckReport, LoadError> {
    let size = bytes.len();
    let progress = Progress::default();
    let rollout = RolloutPolicy::default();
    let candidate = Candidate { stem, bytes, sha256, manifest, generation: 0, rollout, compiled: None, progress };
    let plugin = Box::pin(stager.stage(candidate, |_| Arc::default())).await?;
    Ok(CheckReport {
        name: plugin.name.to_string(),
        version: plugin.version.clone(),
        about: plugin.about.clone(),
        sha256: hex::encode(sha256),
        bytes: size,
        interface: crate::vocabulary::INTERFACE_VERSION,
        exports: plugin.exported.clone(),
        grants_requested: plugin.requested.clone(),
        grants: plugin.guest.context.grants.names(),
        binds: plugin.bindings.iter().map(|binding| binding.bind.clone()).collect(),
        fresh_instance_us: u64::try_from(plugin.figures.fresh.as_micros()).unwrap_or(u64::MAX),
        instance_memory: plugin.figures.memory as u64,
        compile_ms: u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(crate) fn read_manifest(path: &Path) -> Result<Manifest, LoadError> {
    let bytes = files::read(path, LARGEST_BINDING, Trust::Any)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Manifest::of_bytes(&bytes).map_err(|bad| LoadError::ManifestInvalid { file, faults: bad.faults })
}
