//! Injected panics, for tests. Compiled out in builds without debug assertions.

#[cfg(debug_assertions)]
pub use self::enabled::Faults;
#[cfg(debug_assertions)]
pub(super) use self::enabled::Waiting;

/// Marks a place at which a test can inject a panic: once armed under this name, the running task panics here, once.
///
/// Does nothing in builds without debug assertions.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    enabled::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod enabled {
    use std::collections::BTreeMap;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::Context;

    use parking_lot::Mutex;
    use tokio::sync::watch;

    use super::super::TaskId;
    use super::super::hook::Scope;

    /// Injected panics that have not occurred yet. Cheap to clone.
    #[derive(Debug, Clone)]
    pub struct Faults {
        /// How often each task or place still has to panic.
        armed: Arc<Mutex<BTreeMap<String, u32>>>,
        changed: watch::Sender<()>,
    }

    /// Makes a waiting task panic.
    pub(crate) struct Waiting {
        task: TaskId,
        /// Never ready; wakes the task whenever a panic is armed.
        changed: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    }

    impl Default for Faults {
        fn default() -> Self {
            Self { armed: Arc::default(), changed: watch::Sender::new(()) }
        }
    }

    impl Faults {
        /// Makes the next task, thread or place of this name panic, at once if it is waiting.
        pub fn arm(&self, name: &str) {
            *self.armed.lock().entry(name.to_owned()).or_default() += 1;
            self.changed.send_replace(());
        }

        /// Removes panics that have not occurred yet.
        pub fn clear(&self) {
            self.armed.lock().clear();
        }

        /// Returns whether every armed panic has occurred.
        #[must_use]
        pub fn are_over(&self) -> bool {
            self.armed.lock().is_empty()
        }

        pub(crate) fn waiting(&self, task: &TaskId) -> Waiting {
            let mut changes = self.changed.subscribe();
            let changed = Box::pin(async move {
                while changes.changed().await.is_ok() {}
                std::future::pending::<()>().await;
            });
            Waiting { task: task.clone(), changed }
        }

        fn fire(&self, name: &str) {
            let mut armed = self.armed.lock();
            let Some(count) = armed.get_mut(name) else { return };
            *count -= 1;
            if *count == 0 {
                armed.remove(name);
            }
            drop(armed);
            panic!("a panic on purpose");
        }
    }

    impl Waiting {
        pub(crate) fn poll(&mut self, context: &mut Context<'_>) {
            let _ = self.changed.as_mut().poll(context);
            Scope::current().supervisor.0.faults.fire(self.task.name);
        }
    }

    pub(super) fn point(name: &'static str) {
        Scope::current().supervisor.0.faults.fire(name);
    }
}

#[cfg(not(debug_assertions))]
#[derive(Debug, Default)]
pub(super) struct Faults;

#[cfg(not(debug_assertions))]
pub(super) struct Waiting;

#[cfg(not(debug_assertions))]
impl Faults {
    pub(super) fn waiting(&self, _: &super::TaskId) -> Waiting {
        Waiting
    }
}

#[cfg(not(debug_assertions))]
impl Waiting {
    pub(super) fn poll(&mut self, _: &mut std::task::Context<'_>) {}
}
