//! The vendor's cloud, on a thread of this process.

use anyhow::{Context, Result};
use yardarm_testkit::FakeLaunchDarkly;

/// A fake cloud that ends when dropped.
pub(crate) struct Cloud {
    fake: FakeLaunchDarkly,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cloud {
    /// Starts a cloud on a free loopback port.
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fake = runtime.block_on(FakeLaunchDarkly::start());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = move || {
            // Either way it is time to end.
            let _ = runtime.block_on(stopped);
        };
        let thread =
            std::thread::Builder::new().name("cloud".to_owned()).spawn(serve).context("no thread for the cloud")?;
        Ok(Self { fake, stop: Some(stop), thread: Some(thread) })
    }
}

impl std::ops::Deref for Cloud {
    type Target = FakeLaunchDarkly;

    fn deref(&self) -> &FakeLaunchDarkly {
        &self.fake
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}
