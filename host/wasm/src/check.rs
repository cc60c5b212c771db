//! The same checks as loading, without a gateway: for `yardarm check` and for plugin authors.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};
use yardarm_core::Lifecycle;

use crate::engine::Engine;
use crate::manifest::{Bind, Hook, Manifest};
use crate::stage::{Candidate, LoadError, Stager};

/// What a component is and where it would apply.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name that the plugin gives itself.
    pub name: String,
    /// Version that the plugin gives itself.
    pub version: String,
    /// One line on what it does.
    pub about: String,
    /// Digest of the file.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// Version of the interface that the host speaks with it.
    pub interface: &'static str,
    /// Hooks that it answers.
    pub exports: Vec<Hook>,
    /// Grants that its imports ask for.
    pub grants_requested: Vec<String>,
    /// Grants that the binding file gives.
    pub grants: Vec<String>,
    /// Where it applies: as the binding file says, else all hooks everywhere.
    pub binds: Vec<Bind>,
    /// Best measured time to make an instance, in microseconds.
    pub fresh_instance_us: u64,
    /// Time to compile, in milliseconds.
    pub compile_ms: u64,
}

/// Checks a component, with its binding file if there is one: everything that loading checks, `init` included.
///
/// May be called from any thread, inside or outside of an asynchronous runtime; blocks until it is done.
///
/// # Errors
///
/// The reason why a gateway would refuse the file.
pub fn check_file(path: &Path, binding: Option<&Path>) -> Result<Report, LoadError> {
    // A runtime may be running on this thread already, and two do not fit on one.
    std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| unreadable(path, &error))?.block_on(check(path, binding))
        });
        checking.join().unwrap_or_else(|_| Err(LoadError::CompileFailed { text: "the check panicked".to_owned() }))
    })
}

async fn check(path: &Path, binding: Option<&Path>) -> Result<Report, LoadError> {
    let bytes: Arc<[u8]> = std::fs::read(path).map_err(|error| unreadable(path, &error))?.into();
    let manifest = binding.map(read_manifest).transpose()?;
    let engine = Engine::new(16).map_err(|error| LoadError::CompileFailed { text: error.to_string() })?;
    let stager = Stager { engine: Arc::new(engine), cache: None, lifecycle: Lifecycle::new() };
    let stem = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into());
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let candidate = Candidate { stem, bytes: Arc::clone(&bytes), sha256, manifest, generation: 0, compiled: None };
    let plugin = stager.stage(candidate, |_| Arc::default()).await?;
    Ok(Report {
        name: plugin.name.to_string(),
        version: plugin.version.clone(),
        about: plugin.about.clone(),
        sha256: hex::encode(sha256),
        bytes: bytes.len(),
        interface: crate::interface::v0_1::VERSION,
        exports: plugin.exported.clone(),
        grants_requested: plugin.requested.clone(),
        grants: plugin.guest.face.grants.names(),
        binds: plugin.seats.iter().map(|seat| seat.bind.clone()).collect(),
        fresh_instance_us: u64::try_from(plugin.figures.fresh.as_micros()).unwrap_or(u64::MAX),
        compile_ms: u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
    })
}

fn read_manifest(path: &Path) -> Result<Manifest, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Manifest::parse(&text).map_err(|bad| LoadError::ManifestInvalid { file, faults: bad.faults })
}

fn unreadable(path: &Path, error: &std::io::Error) -> LoadError {
    LoadError::Unreadable { text: format!("`{}`: {error}", path.display()) }
}
