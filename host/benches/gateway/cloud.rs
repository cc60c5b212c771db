//! Fakes of the vendors' services, each on a thread of this process.

use anyhow::{Context, Result};
use yardarm_testkit::{FakeHarness, FakeLaunchDarkly};

/// A fake service that stops when dropped.
pub(crate) struct Cloud<F = FakeLaunchDarkly> {
    fake: F,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloud {
    /// Starts the fake LaunchDarkly on a free loopback port.
    pub(crate) fn start() -> Result<Self> {
        Self::of(FakeLaunchDarkly::start())
    }
}

impl Cloud<FakeHarness> {
    /// Starts the fake Harness on a free loopback port.
    pub(crate) fn harness() -> Result<Self> {
        Self::of(FakeHarness::start())
    }
}

impl<F> Cloud<F> {
    fn of(start: impl Future<Output = F>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fake = runtime.block_on(start);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = move || {
            // The sender sends or is dropped; either way the server ends.
            let _ = runtime.block_on(stopped);
        };
        let thread =
            std::thread::Builder::new().name("cloud".to_owned()).spawn(serve).context("no thread for the cloud")?;
        Ok(Self { fake, stop: Some(stop), thread: Some(thread) })
    }
}

impl<F> std::ops::Deref for Cloud<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.fake
    }
}

impl<F> Drop for Cloud<F> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}
