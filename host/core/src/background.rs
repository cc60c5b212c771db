//! A runtime for low-priority tasks on behalf of untrusted callers, such as forwarding the events they post.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::priority;

/// A runtime whose threads have a lower priority than those that serve: however much work its tasks have, short
/// requests of other callers come first. Cheap to clone; its tasks are dropped with the last clone.
///
/// The HTTP client drives a connection on the runtime that opened it. Tasks of this runtime must therefore not share a
/// connection pool with tasks of another runtime, which would then depend on these threads.
#[derive(Debug, Clone)]
pub struct Background(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    handle: Handle,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts a runtime of `threads` threads called `name`.
    ///
    /// # Errors
    /// When the system refuses a resource that the runtime needs.
    pub fn start(name: &'static str, threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .on_thread_start(priority::lower)
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(Owned { handle: runtime.handle().clone(), runtime: Some(runtime) })))
    }

    /// Returns the handle that tasks are spawned on.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }
}

impl Drop for Owned {
    /// Does not block: the last owner may be an async task, even one on this runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_may_be_the_last_owner() {
        struct Dropped(Option<oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().map(|it| it.send(()));
            }
        }
        let background = Background::start("test", 1).unwrap();
        let (sender, dropped) = oneshot::channel();
        let (handle, dropping) = (background.handle().clone(), Dropped(Some(sender)));
        handle.spawn(async move {
            let _dropping = dropping;
            std::future::pending::<()>().await;
        });
        let owner = handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(background);
        });
        // The other task was dropped with the runtime.
        dropped.await.unwrap();
        let _ = owner.await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn background_threads_have_a_low_priority() {
        let own = priority::current();
        let background = Background::start("test", 1).unwrap();
        for priority in [
            background.handle().spawn(async { priority::current() }).await.unwrap(),
            background.handle().spawn_blocking(priority::current).await.unwrap(),
        ] {
            assert_eq!(priority, priority::NICENESS);
        }
        assert_eq!(priority::current(), own, "of those threads only");
    }
}
