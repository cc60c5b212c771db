//! Orders of operators about plugins, carried out by the task that watches the folder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::PluginFolder;
use crate::status::PluginStatus;

/// Maximum number of orders that wait.
pub(super) const MOST_ORDERS: usize = 16;
/// Time limit for carrying out an order, on a file system that does not respond.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for writing the result to disk.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// What an operator can order about a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PluginAction {
    /// Returns to the version before the running one, whose files are then in quarantine until they change or are cleared.
    /// After the probation, this needs a data folder, and has an effect once that version is loaded.
    Rollback,
    /// Pins the plugin to the version that runs: neither newer files nor failures replace it. Removing its files, or
    /// retiring it, takes it out of service all the same.
    Pin,
    /// Ends that: newer files are loaded.
    Unpin,
    /// Ends the probation of the running version, which is kept. The plugins of a set are promoted together.
    Promote,
    /// Retires the plugin: it is no longer called, its required hooks no longer fail closed, and its files are ignored
    /// until it is reinstated.
    Retire,
    /// Reinstates a plugin that was retired by an order. Its files are loaded as if they were new.
    Reinstate,
    /// Releases the plugin's versions from quarantine; if the files in the folder are among them, they are loaded again.
    Clear,
}

/// There is no plugin with this file stem or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no plugin `{name}`; `/api/plugins` and `yardarm plugin list` have all of them")]
pub struct UnknownPlugin {
    /// The name that was given.
    pub name: String,
}

/// Why an order about a plugin is not possible now, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// No version runs.
    #[error("no version of the plugin runs; `yardarm plugin list` has the reason")]
    NotRunning,
    /// It is retired by an order.
    #[error("the plugin is retired; reinstate it first")]
    Retired,
    /// It is retired by a file.
    #[error("the plugin is retired by the file `{stem}.retired`; remove this file instead")]
    Tombstone {
        /// File stem of the plugin.
        stem: String,
    },
    /// No other version has run.
    #[error("there is no version of the plugin to return to; copy an older file into the folder instead")]
    NothingToReturnTo,
    /// The files of the version before are not kept.
    #[error("the files of version `{version}` are not kept, which needs `data.dir`; copy them into the folder instead")]
    NotKept {
        /// The version before.
        version: String,
    },
    /// There is no probation to end.
    #[error("the plugin is not on probation; the version that runs is kept as it is")]
    NotOnProbation,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such plugin.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// It is not possible now.
    #[error(transparent)]
    Impossible(#[from] Impossible),
    /// The task that watches the folder is busy for too long, or has failed meanwhile.
    #[error("the plugin folder does not respond; see `/api/plugins` and try again")]
    NoResponse,
    /// The gateway is shutting down.
    #[error("the plugin folder is no longer watched, because the gateway is shutting down")]
    Stopped,
}

/// An order that was carried out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OrderReport {
    /// The order.
    pub action: PluginAction,
    /// Whether it has changed anything; `false` if everything was as ordered.
    pub changed: bool,
    /// Whether the result is on disk and outlives the process.
    pub durable: bool,
    /// What has happened, and what follows.
    pub text: String,
    /// The plugin after the order; `null` if nothing is left of it.
    pub plugin: Option<PluginStatus>,
}

/// What became of an order.
pub(super) struct Carried {
    pub(super) stem: Arc<str>,
    pub(super) is_changed: bool,
    /// Whether the data folder remembers the result, or nothing has to be remembered.
    pub(super) is_remembered: bool,
    pub(super) text: String,
}

pub(super) type OrderResult = Result<Carried, OrderError>;

/// An order about one plugin.
pub(super) struct Order {
    /// File stem or name of the plugin.
    pub(super) name: String,
    pub(super) action: PluginAction,
    pub(super) done: oneshot::Sender<OrderResult>,
}

/// The receiver of orders.
pub(super) type Orders = mpsc::Receiver<Order>;

impl PluginAction {
    /// All actions.
    pub const ALL: [Self; 7] =
        [Self::Rollback, Self::Pin, Self::Unpin, Self::Promote, Self::Retire, Self::Reinstate, Self::Clear];

    /// Returns the word for the action.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Promote => "promote",
            Self::Retire => "retire",
            Self::Reinstate => "reinstate",
            Self::Clear => "clear",
        }
    }
}

impl fmt::Display for PluginAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PluginFolder {
    /// Carries out an order about a plugin, by its file stem or its name. Returns once the plan is in place that follows
    /// from it, and its result is on disk, if there is a data folder. An order whose caller stops waiting before it is
    /// begun is not carried out.
    ///
    /// # Errors
    /// If there is no such plugin, the order is not possible now, or the folder does not respond.
    pub async fn order(&self, name: &str, action: PluginAction) -> Result<OrderReport, OrderError> {
        let (done, result) = oneshot::channel();
        let order = Order { name: name.to_owned(), action, done };
        let carried = async {
            self.orders.send(order).await.map_err(|_| OrderError::Stopped)?;
            // The task has failed and begins anew, or ends.
            result.await.map_err(|_| OrderError::NoResponse)?
        };
        let carried = timeout(ORDER_TIMEOUT, carried).await.map_err(|_| OrderError::NoResponse)??;
        let Carried { stem, is_changed, is_remembered, mut text } = carried;
        let is_committed = match &self.store {
            Some(store) => timeout(COMMIT_TIMEOUT, store.committed()).await.is_ok(),
            None => true,
        };
        if !is_remembered {
            text.push_str("; this ends with the process, because there is no data folder (`data.dir`)");
        } else if !is_committed {
            text.push_str("; this is not on disk yet, because `data.dir` cannot be written");
        }
        let plugin = self.status().plugins.into_iter().find(|row| *row.file == *stem);
        Ok(OrderReport { action, changed: is_changed, durable: is_remembered && is_committed, text, plugin })
    }
}
