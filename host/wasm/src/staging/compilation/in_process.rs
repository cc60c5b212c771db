//! Compilation in the process of the host, for programs that cannot run as their own compiler.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use yardarm_core::supervisor;

use super::Failure;
use super::protocol::Job;
use super::threads::{CompilerThreads, URGENT_AFTER};
use crate::runtime::engine::Engines;
use crate::vocabulary::CompileStop;

/// One thread that compiles.
pub(super) struct InProcess {
    engines: Engines,
    threads: CompilerThreads,
}

impl InProcess {
    pub(super) fn new(engines: &Engines) -> wasmtime::Result<Self> {
        Ok(Self { engines: engines.clone(), threads: CompilerThreads::start(1)? })
    }

    /// Compiles a component; returns its code. After an error the thread may still be compiling.
    pub(super) async fn compile(&self, job: &Job, component: Arc<[u8]>) -> Result<Vec<u8>, Failure> {
        let (sender, mut receiver) = oneshot::channel();
        let engine = match self.engines.of(job.kind) {
            Ok(engine) => engine.clone(),
            Err(error) => return Err(Failure::Unavailable(format!("{error:#}"))),
        };
        let work = supervisor::carried("plugin compiler", move || engine.precompile_component(&component));
        self.threads.spawn(move || {
            if let Ok(done) = work() {
                // The receiver is dropped when the compilation is given up.
                let _ = sender.send(done);
            }
        });
        let done = async {
            if job.is_urgent {
                if let Ok(done) = tokio::time::timeout(URGENT_AFTER, &mut receiver).await {
                    return done;
                }
                let _urgent = Urgent::new(&self.threads);
                return receiver.await;
            }
            receiver.await
        };
        match tokio::time::timeout(Duration::from_secs(job.time), done).await {
            Ok(Ok(Ok(code))) => Ok(code),
            Ok(Ok(Err(error))) => Err(Failure::Invalid(format!("{error:#}"))),
            Ok(Err(_)) => Err(Failure::Stopped(CompileStop::Crashed { how: "internal error (panic)".to_owned() })),
            Err(_) => Err(Failure::Stopped(CompileStop::Deadline { seconds: job.time })),
        }
    }
}

/// Threads that have normal priority as long as it exists.
struct Urgent<'a>(&'a CompilerThreads);

impl<'a> Urgent<'a> {
    fn new(threads: &'a CompilerThreads) -> Self {
        threads.set_urgent(true);
        Self(threads)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.set_urgent(false);
    }
}
