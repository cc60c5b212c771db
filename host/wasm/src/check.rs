//! The checks of loading, without a gateway: for `yardarm check` and for plugin authors.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use yardarm_core::Lifecycle;

use crate::folder::files::{self, LARGEST_BINDING};
use crate::folder::scan::{self, ComponentFile, Pair};
use crate::folder::{Settings, Trust};
use crate::runtime::engine::Engine;
use crate::staging::compilation::{Compilation, CompileLimits, Compiler};
use crate::staging::manifest::Manifest;
use crate::staging::{Candidate, Stager};
use crate::vocabulary::{Bind, Hook, LARGEST_LARGE_FILE, LoadError, Progress};

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
    /// Time to compile, in milliseconds.
    pub compile_ms: u64,
}

/// What a gateway would load from a plugin folder.
#[derive(Debug)]
pub struct CheckedFolder {
    /// Why nothing or not all of the folder would be loaded.
    pub trouble: Option<LoadError>,
    /// Each plugin by the name of its component file, or of its binding file if there is no component, sorted.
    pub plugins: Vec<(String, Result<CheckReport, LoadError>)>,
}

/// Checks a component, with its binding file if there is one: everything that loading checks, including `init`.
///
/// May be called from any thread, inside or outside of an asynchronous runtime; blocks until it is done.
///
/// # Errors
/// The reason why a gateway would reject the file.
pub fn check_file(path: &Path, binding: Option<&Path>) -> Result<CheckReport, LoadError> {
    let result = on_own_runtime(async {
        let bytes = files::read(path, LARGEST_LARGE_FILE, Trust::Any)?;
        let manifest = binding.map(read_manifest).transpose()?;
        let stem = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into());
        let sha256 = Sha256::digest(&bytes).into();
        stage(&new_stager(Compiler::InProcess, CompileLimits::default())?, stem, bytes.into(), sha256, manifest).await
    });
    result.unwrap_or_else(Err)
}

/// Checks the folder of `settings` as [`crate::PluginFolder`] would load it. A missing folder counts as empty.
#[must_use]
pub fn check_folder(settings: &Settings) -> CheckedFolder {
    let checked = on_own_runtime(async {
        let listing = match scan::list(&settings.dir, settings.trust) {
            Ok(listing) => listing.unwrap_or_default(),
            Err(error) => return CheckedFolder { trouble: Some(error), plugins: Vec::new() },
        };
        let mut checked = CheckedFolder { trouble: listing.distrust, plugins: Vec::new() };
        let mut stager = None;
        let mut names = HashMap::new();
        for (stem, pair) in listing.pairs {
            let outcome = match &checked.trouble {
                Some(error) => Some(Err(error.clone())),
                None => check_pair(settings, &mut stager, &stem, &pair).await,
            };
            let Some(mut outcome) = outcome else { continue };
            if let Ok(report) = &outcome
                && let Some(active) = names.insert(report.name.clone(), stem.to_string())
            {
                outcome = Err(LoadError::DuplicateName { name: report.name.clone(), active });
            }
            let extension = if pair.wasm.is_some() { "wasm" } else { "toml" };
            checked.plugins.push((format!("{stem}.{extension}"), outcome));
        }
        checked
    });
    checked.unwrap_or_else(|error| CheckedFolder { trouble: Some(error), plugins: Vec::new() })
}

/// Checks one plugin; returns `None` for files that a gateway would ignore silently.
async fn check_pair(
    settings: &Settings,
    stager: &mut Option<Stager>,
    stem: &Arc<str>,
    pair: &Pair,
) -> Option<Result<CheckReport, LoadError>> {
    let content = match scan::read(&settings.dir, stem, pair, settings.trust) {
        Ok(content) => content,
        Err(error) => return Some(Err(error)),
    };
    let manifest = match content.binding.transpose() {
        Ok(manifest) => manifest,
        Err(bad) => return Some(Err(LoadError::ManifestInvalid { file: format!("{stem}.toml"), faults: bad.faults })),
    };
    let (bytes, sha256) = match content.component {
        ComponentFile::Read(bytes, sha256) => (bytes, sha256),
        ComponentFile::Refused(error) => return Some(Err(error)),
        ComponentFile::Unread | ComponentFile::Absent => {
            let is_required = manifest.is_some_and(|manifest| manifest.binds.iter().any(|bind| bind.required));
            return is_required.then(|| Err(LoadError::Absent { file: format!("{stem}.wasm") }));
        }
    };
    if manifest.is_none() && !settings.auto_bind {
        return None;
    }
    if stager.is_none() {
        match new_stager(settings.compiler.clone(), settings.compile_limits) {
            Ok(new) => *stager = Some(new),
            Err(error) => return Some(Err(error)),
        }
    }
    let stager = stager.as_ref()?;
    Some(stage(stager, Arc::clone(stem), bytes, sha256, manifest).await)
}

/// Runs a check on a thread with its own runtime: this thread may be running one already, and runtimes cannot be
/// nested.
fn on_own_runtime<T: Send>(check: impl Future<Output = T> + Send) -> Result<T, LoadError> {
    let failed = |text: String| LoadError::CompileFailed { text };
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(check)).map_err(|error| failed(error.to_string()))
        });
        checking.join().unwrap_or_else(|_| Err(failed("the check panicked".to_owned())))
    })
}

fn new_stager(compiler: Compiler, limits: CompileLimits) -> Result<Stager, LoadError> {
    let unavailable = |error: wasmtime::Error| LoadError::CompilerUnavailable { text: error.to_string() };
    let engine = Engine::new(16).map_err(unavailable)?;
    let compilation = Compilation::new(&engine.wasmtime, compiler, limits, (None, None)).map_err(unavailable)?;
    Ok(Stager { engine: Arc::new(engine), compilation, lifecycle: Lifecycle::new() })
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
    let candidate = Candidate { stem, bytes, sha256, manifest, generation: 0, compiled: None, progress };
    let plugin = stager.stage(candidate, |_| Arc::default()).await?;
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
        compile_ms: u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
    })
}

fn read_manifest(path: &Path) -> Result<Manifest, LoadError> {
    let bytes = files::read(path, LARGEST_BINDING, Trust::Any)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Manifest::of_bytes(&bytes).map_err(|bad| LoadError::ManifestInvalid { file, faults: bad.faults })
}
