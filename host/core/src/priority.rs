//! The priority of threads that must not delay those that serve.

/// What `nice` calls it: a thread gets a tenth of the time of one that serves when both want to run. That keeps it out of
/// the way, and still lets it finish on a machine that is busy all the time.
#[cfg(target_os = "linux")]
pub(crate) const NICENESS: i32 = 10;

/// Lowers the priority of this thread. Does nothing where priorities belong to processes.
pub(crate) fn lower() {
    #[cfg(target_os = "linux")]
    // Here the system's call for processes means a thread.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::debug!(%error, "a thread for long work keeps its priority");
    }
}

/// The priority of this thread.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn current() -> i32 {
    rustix::process::getpriority_process(Some(rustix::thread::gettid())).expect("a thread has a priority")
}
