//! A future whose panics are caught, polled in the scope of a task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::Consequence;
use super::hook::{Origin, Scope};
use crate::internal_error::InternalError;

pin_project! {
    /// Polls a future in a scope; returns a panic as its result.
    pub(crate) struct Caught<F> {
        scope: Arc<Scope>,
        consequence: Consequence,
        // Dropped where panics are caught, because dropping it may panic as well.
        #[pin]
        future: Option<F>,
        fault: super::fault::Waiting,
    }
}

impl<F> Caught<F> {
    pub(crate) fn new(scope: Arc<Scope>, consequence: Consequence, future: F) -> Self {
        let fault = scope.supervisor.0.faults.waiting(&scope.task);
        Self { scope, consequence, future: Some(future), fault }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, InternalError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _entered = this.scope.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            this.fault.poll(context);
            match this.future.as_mut().as_pin_mut() {
                Some(future) => future.poll(context),
                None => Poll::Pending,
            }
        }));
        let result = match polled {
            Ok(polled) => Ok(ready!(polled)),
            Err(payload) => Err(this.scope.report(&Origin::take(&*payload), *this.consequence)),
        };
        // If dropping it panics, its result is still returned.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
            this.scope.report(&Origin::take(&*payload), Consequence::GiveUp);
        }
        Poll::Ready(result)
    }
}
