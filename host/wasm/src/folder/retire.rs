//! Orders of operators about plugins, carried out by the task that watches the folder.

use tokio::sync::{mpsc, oneshot};

use super::PluginFolder;

/// Maximum number of orders that wait.
pub(super) const MOST_ORDERS: usize = 16;

/// There is no plugin with this file stem or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no plugin `{name}`")]
pub struct UnknownPlugin {
    /// The name that was given.
    pub name: String,
}

/// There is no version of the plugin to return to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no version of the plugin to return to")]
pub struct NothingToReturnTo;

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such plugin.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// It cannot be rolled back.
    #[error(transparent)]
    Nothing(#[from] NothingToReturnTo),
    /// The gateway is shutting down.
    #[error("the plugin folder is no longer watched")]
    Stopped,
}

/// An order about one plugin.
pub(super) struct Order {
    /// File stem or name of the plugin.
    pub(super) name: String,
    pub(super) wish: Wish,
    pub(super) done: oneshot::Sender<Result<(), OrderError>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Retire,
    Reinstate,
    RollBack,
    /// Releases its versions from quarantine.
    Clear,
    Pin(bool),
}

/// The receiver of orders.
pub(super) type Orders = mpsc::Receiver<Order>;

impl PluginFolder {
    /// Retires a plugin, by its file stem or its name: it is no longer called, its required hooks no longer fail closed,
    /// and its files are ignored until [`Self::reinstate`]. With a data folder, this outlives the process.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn retire(&self, name: &str) -> Result<(), OrderError> {
        self.order(name, Wish::Retire).await
    }

    /// Reinstates a plugin that was retired by [`Self::retire`]. Its files are loaded as if they were new. A plugin that
    /// is not retired is left alone.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn reinstate(&self, name: &str) -> Result<(), OrderError> {
        self.order(name, Wish::Reinstate).await
    }

    /// Returns to the version before the running one, whose files are then in quarantine until they change or
    /// [`Self::clear`]. After the probation, this needs a data folder, and has an effect once that version is staged.
    ///
    /// # Errors
    /// If there is no such plugin, no version to return to, or the gateway is shutting down.
    pub async fn rollback(&self, name: &str) -> Result<(), OrderError> {
        self.order(name, Wish::RollBack).await
    }

    /// Releases the versions of a plugin that were rolled back from quarantine; if the files in the folder are among them,
    /// they are loaded again.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn clear(&self, name: &str) -> Result<(), OrderError> {
        self.order(name, Wish::Clear).await
    }

    /// Pins a plugin to the version that runs, or ends that: while it is pinned, neither newer files nor failures replace
    /// it. Removing its files, or retiring it, takes it out of service all the same.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn pin(&self, name: &str, on: bool) -> Result<(), OrderError> {
        self.order(name, Wish::Pin(on)).await
    }

    async fn order(&self, name: &str, wish: Wish) -> Result<(), OrderError> {
        let (done, result) = oneshot::channel();
        let order = Order { name: name.to_owned(), wish, done };
        self.orders.send(order).await.map_err(|_| OrderError::Stopped)?;
        result.await.map_err(|_| OrderError::Stopped)?
    }
}
