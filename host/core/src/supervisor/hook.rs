//! The panic hook, and the scope that attributes a panic to a task.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::Arc;

use super::{Consequence, FOREIGN, Supervisor, TaskId};
use crate::internal_error::InternalError;
use crate::status::{ErrorKind, Status};

/// The task and environment that this thread works for at the moment.
pub(crate) struct Scope {
    pub(super) supervisor: Supervisor,
    pub(super) task: TaskId,
    /// The status that shows errors of the environment to operators.
    status: Option<Status>,
}

/// The scope of a thread, until it is dropped.
pub(super) struct Entered(Option<Arc<Scope>>);

/// The origin of a panic.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// File and line.
    pub(super) location: Arc<str>,
    /// The message, if it is a literal of the source.
    pub(super) message: Option<&'static str>,
    /// Name of the thread, if no task is known.
    pub(super) thread: Option<String>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
    /// The panic that unwinds at the moment, from the hook to the code that catches it.
    static UNWINDING: RefCell<Option<Origin>> = const { RefCell::new(None) };
}

impl Scope {
    pub(super) fn new(supervisor: &Supervisor, task: TaskId, status: Option<Status>) -> Arc<Self> {
        Arc::new(Self { supervisor: supervisor.clone(), task, status })
    }

    /// Returns the scope of this thread; outside of every task, that of the process.
    pub(super) fn current() -> Arc<Self> {
        let current = CURRENT.try_with(|it| it.borrow().clone()).ok().flatten();
        current.unwrap_or_else(|| Self::new(Supervisor::global(), TaskId { name: FOREIGN, environment: None }, None))
    }

    /// Returns a scope of the same environment and supervisor under another name.
    pub(super) fn named(&self, task: &'static str) -> Arc<Self> {
        let task = TaskId { name: task, environment: self.task.environment.clone() };
        Self::new(&self.supervisor, task, self.status.clone())
    }

    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        let entered = Some(Arc::clone(self));
        Entered(CURRENT.try_with(|it| it.replace(entered)).ok().flatten())
    }

    /// Runs `work` in this scope; a panic is logged and counted.
    pub(super) fn catch<T>(
        self: &Arc<Self>,
        consequence: Consequence,
        work: impl FnOnce() -> T,
    ) -> Result<T, InternalError> {
        let _entered = self.enter();
        std::panic::catch_unwind(AssertUnwindSafe(work))
            .map_err(|payload| self.report(&Origin::take(&*payload), consequence))
    }

    pub(super) fn report(&self, origin: &Origin, consequence: Consequence) -> InternalError {
        let error = self.supervisor.report(&self.task, origin, consequence);
        if let Some(status) = &self.status {
            status.note(ErrorKind::Unknown, &error.to_string());
        }
        error
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        // The thread may be ending; its thread-local values are then gone.
        let _ = CURRENT.try_with(|it| it.replace(before));
    }
}

impl Origin {
    /// Takes the origin of the panic that was just caught with `payload`.
    pub(super) fn take(payload: &(dyn Any + Send)) -> Self {
        let noted = UNWINDING.try_with(|it| it.borrow_mut().take()).ok().flatten();
        noted.unwrap_or_else(|| Self {
            // There was no hook, or a library caught the panic on another thread and resumed it here.
            location: "unknown location".into(),
            message: payload.downcast_ref::<&'static str>().copied(),
            thread: None,
        })
    }

    fn of(info: &PanicHookInfo<'_>) -> Self {
        let location = info.location().map_or_else(|| "unknown location".to_owned(), ToString::to_string);
        Self {
            location: location.into(),
            message: info.payload().downcast_ref::<&'static str>().copied(),
            thread: None,
        }
    }
}

/// Installs a hook that logs each panic as one record instead of printing it to standard error.
///
/// The hook stores a panic inside a task, and the code that catches it logs it, because it knows the consequence. A
/// panic that no task catches is logged by the hook. Before the log is set up, one line is written to standard error.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let origin = Origin::of(info);
        let is_in_scope = CURRENT.try_with(|it| it.try_borrow().is_ok_and(|it| it.is_some())).unwrap_or(false);
        if is_in_scope {
            let before =
                UNWINDING.try_with(|it| it.try_borrow_mut().ok().and_then(|mut it| it.replace(origin.clone())));
            // A second panic during unwinding aborts the process, and neither of them will be caught.
            if let Ok(Some(first)) = before {
                let scope = Scope::current();
                scope.report(&first, Consequence::Fatal);
                scope.report(&origin, Consequence::Fatal);
            }
        } else if tracing::dispatcher::has_been_set() {
            let thread = std::thread::current().name().map(str::to_owned);
            let task = TaskId { name: FOREIGN, environment: None };
            Supervisor::global().report(&task, &Origin { thread, ..origin }, Consequence::GiveUp);
        } else {
            eprintln!("error: internal error (panic) at {}", origin.location);
        }
    }));
}
