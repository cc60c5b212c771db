//! Compilation: from a component to native code, in a child process that is stopped at its limits.
//!
//! Compilers are not made for hostile input: the memory and the time that they need for some components have no sensible
//! bound. So each component is compiled in a process of its own, and a digest whose compilation had to be stopped is not
//! compiled again. At most one large and one small file are compiled at a time.

mod child;
mod in_process;
mod lanes;
mod limits;
mod memory;
mod protocol;
mod quarantine;
mod threads;
mod worker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::Component;
use yardarm_core::{DataStore, supervisor};

use self::in_process::InProcess;
use self::lanes::{Lanes, SMALL_FILE};
pub use self::limits::CompileLimits;
use self::limits::Limits;
use self::protocol::Job;
pub(crate) use self::quarantine::Quarantine;
pub use self::worker::run_compiler;
use super::cache::Cache;
use crate::runtime::engine::{EngineKind, Engines};
use crate::runtime::native_code;
use crate::vocabulary::{CompileStop, LoadError, Progress, StagingStep};

/// The argument with which a program is expected to call [`run_compiler`], unless its [`Compiler`] names others.
pub const COMPILER_COMMAND: &str = "plugin-compiler";

/// Where components are compiled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process. It is killed at the limits of memory and time, and a crash of it is harmless.
    Child {
        /// A program of the same version that calls [`run_compiler`].
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// In this process, on a thread of idle priority, without a limit of memory. A compilation that takes too long is
    /// given up, but its thread runs to the end. For programs that do not call [`run_compiler`], and trusted components.
    #[default]
    InProcess,
}

/// Compiles components. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Compilation(Arc<Shared>);

struct Shared {
    engines: Engines,
    backend: Backend,
    limits: CompileLimits,
    lanes: Lanes,
    cache: Option<Cache>,
    quarantine: Quarantine,
}

enum Backend {
    Child { program: PathBuf, arguments: Vec<OsString> },
    InProcess(InProcess),
}

/// A component that was inspected.
pub(crate) struct Source {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) sha256: [u8; 32],
    /// An estimate of what its costliest function needs (see [`super::inspection::Inspection`]).
    pub(crate) complexity: u64,
    /// The engine that runs it.
    pub(crate) kind: EngineKind,
}

/// Why there is no code.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The component is invalid.
    Invalid(String),
    /// The compilation was stopped.
    Stopped(CompileStop),
    /// Not the fault of the component.
    Unavailable(String),
}

impl Compiler {
    /// Returns the compiler of a program that calls [`run_compiler`] for [`COMPILER_COMMAND`].
    #[must_use]
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self::Child { program: program.into(), arguments: vec![COMPILER_COMMAND.into()] }
    }

    /// Returns the compiler of this program, which calls [`run_compiler`] for [`COMPILER_COMMAND`].
    #[must_use]
    pub fn this_program() -> Self {
        // Runs the same file even if another version has replaced it.
        const LINUX: &str = "/proc/self/exe";
        if Path::new(LINUX).exists() {
            return Self::program(LINUX);
        }
        std::env::current_exe().map_or(Self::InProcess, Self::program)
    }
}

impl Compilation {
    /// # Errors
    /// If threads for compilation in this process cannot be started.
    pub(crate) fn new(
        engines: &Engines,
        compiler: Compiler,
        limits: CompileLimits,
        (cache, store): (Option<Cache>, Option<DataStore>),
    ) -> wasmtime::Result<Self> {
        let backend = match compiler {
            Compiler::Child { program, arguments } => Backend::Child { program, arguments },
            Compiler::InProcess => Backend::InProcess(InProcess::new(engines)?),
        };
        let quarantine = Quarantine::new(engines.plain(), store);
        let lanes = Lanes::default();
        Ok(Self(Arc::new(Shared { engines: engines.clone(), backend, limits, lanes, cache, quarantine })))
    }

    /// Returns the cache of compiled components, if there is one.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    /// Returns the digests that are not compiled.
    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.0.quarantine
    }

    /// Returns the compiled form, from the cache or the compiler, and whether it was in the cache. The compiler is
    /// stopped when the future is dropped.
    ///
    /// # Errors
    /// If the component is invalid or in quarantine, which begins when its compilation has to be stopped.
    pub(crate) async fn compile(&self, source: Source, progress: &Progress) -> Result<(Component, bool), LoadError> {
        let engine = self.0.engines.of(source.kind).map_err(|error| LoadError::CompilerUnavailable {
            text: format!("no engine for concurrency: {error:#}"),
        })?;
        if let Some(component) = self.cached(engine, source.sha256).await {
            return Ok((component, true));
        }
        progress.enter(StagingStep::Waiting);
        let limits = self.limits(source.bytes.len()).await;
        self.check_quarantine(source.sha256, limits).await?;
        let turn = self.0.lanes.enter(source.bytes.len(), source.complexity).await;
        if turn.has_waited {
            // Meanwhile, the same file may have been compiled for another plugin, and the machine has other work.
            if let Some(component) = self.cached(engine, source.sha256).await {
                return Ok((component, true));
            }
            self.check_quarantine(source.sha256, limits).await?;
        }
        progress.enter(StagingStep::Compiling);
        // What is free may have changed.
        let limits = self.limits(source.bytes.len()).await;
        let job = Job::new(source.bytes.len(), source.kind, &limits, source.bytes.len() <= SMALL_FILE);
        let sha256 = hex::encode(source.sha256);
        tracing::info!(%sha256, bytes = job.size, memory = job.memory, seconds = job.processor, "compiling a plugin");
        let compiled = match &self.0.backend {
            Backend::Child { program, arguments } => child::compile(program, arguments, &job, &source.bytes).await,
            Backend::InProcess(here) => here.compile(&job, Arc::clone(&source.bytes)).await,
        };
        drop(turn);
        match compiled {
            Ok(code) => self.adopt(engine, code, source.sha256).await.map(|component| (component, false)),
            Err(Failure::Invalid(text)) => Err(LoadError::of_compiler(&text)),
            Err(Failure::Unavailable(text)) => Err(LoadError::CompilerUnavailable { text }),
            Err(Failure::Stopped(stop)) => {
                let (quarantine, recorded) = (self.0.quarantine.clone(), stop.clone());
                let _ = supervisor::blocking("plugin cache", move || quarantine.add(source.sha256, recorded)).await;
                Err(LoadError::Quarantined { stop })
            }
        }
    }

    async fn limits(&self, size: usize) -> Limits {
        let limits = self.0.limits;
        let measured = supervisor::blocking("compiler limits", move || limits.of(size, memory::available())).await;
        measured.unwrap_or_else(|_| limits.of(size, None))
    }

    async fn check_quarantine(&self, sha256: [u8; 32], limits: Limits) -> Result<(), LoadError> {
        let quarantine = self.0.quarantine.clone();
        match supervisor::blocking("plugin cache", move || quarantine.find(&sha256, &limits)).await {
            Ok(Some(stop)) => Err(LoadError::Quarantined { stop }),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    async fn cached(&self, engine: &wasmtime::Engine, sha256: [u8; 32]) -> Option<Component> {
        let (cache, engine) = (self.0.cache.clone()?, engine.clone());
        supervisor::blocking("plugin cache", move || cache.load(&engine, &sha256)).await.ok()?
    }

    /// Stores new code in the cache, and loads it.
    async fn adopt(&self, engine: &wasmtime::Engine, code: Vec<u8>, sha256: [u8; 32]) -> Result<Component, LoadError> {
        let (cache, engine) = (self.0.cache.clone(), engine.clone());
        let load = move || {
            if let Some(cache) = cache
                && let Err(error) = cache.store(&code, &sha256)
            {
                tracing::warn!(%error, "cannot cache a compiled plugin");
            }
            native_code::load(&engine, &code)
        };
        match supervisor::blocking("plugin cache", load).await {
            Ok(Ok(component)) => Ok(component),
            Ok(Err(error)) => {
                Err(LoadError::CompilerUnavailable { text: format!("its code does not load: {error:#}") })
            }
            Err(error) => Err(LoadError::CompilerUnavailable { text: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
