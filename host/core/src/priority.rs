//! The priority of threads that must not delay those that serve.

/// A thread with this `nice` value gets a tenth of the time of a serving thread when both are runnable: it does not get
/// in the way, and still makes progress on a machine that is always busy.
#[cfg(target_os = "linux")]
pub(crate) const NICENESS: i32 = 10;

/// Lowers the priority of this thread. Does nothing on systems where priorities belong to processes.
pub(crate) fn lower() {
    #[cfg(target_os = "linux")]
    // On Linux, this process call applies to a single thread.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of a worker thread");
    }
}

/// Returns the priority of this thread.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn current() -> i32 {
    rustix::process::getpriority_process(Some(rustix::thread::gettid())).expect("a thread has a priority")
}
