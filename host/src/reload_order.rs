//! Orders of operators to read the configuration again, and what became of them.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

/// What a reload has changed. Keys are those of the reference, such as `log.level`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReloadReport {
    /// Changed settings that are in effect.
    pub applied: Vec<String>,
    /// Changed settings that take effect after a restart.
    pub needs_restart: Vec<String>,
    /// Whether a new certificate is in use.
    pub has_new_certificate: bool,
    /// Problems that prevented nothing else.
    pub warnings: Vec<String>,
}

/// An order to reload.
#[derive(Debug)]
pub struct ReloadOrder {
    reply: oneshot::Sender<Result<ReloadReport, String>>,
}

/// Sends orders to the task that reloads.
pub(crate) type ReloadOrders = mpsc::Sender<ReloadOrder>;

impl ReloadOrder {
    /// Creates an order, and the receiver of its outcome.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Result<ReloadReport, String>>) {
        let (reply, outcome) = oneshot::channel();
        (Self { reply }, outcome)
    }

    /// Answers the order. An error means that nothing has changed.
    pub(crate) fn answer(self, outcome: Result<ReloadReport, String>) {
        // The operator may have gone.
        let _ = self.reply.send(outcome);
    }
}
