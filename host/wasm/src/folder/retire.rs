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

/// Why a plugin was not retired or reinstated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    /// There is no such plugin.
    #[error(transparent)]
    Unknown(#[from] UnknownPlugin),
    /// The gateway is shutting down.
    #[error("the plugin folder is no longer watched")]
    Stopped,
}

/// An order about one plugin.
pub(super) struct Order {
    /// File stem or name of the plugin.
    pub(super) name: String,
    pub(super) wish: Wish,
    pub(super) done: oneshot::Sender<Result<(), UnknownPlugin>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Retire,
    Reinstate,
}

/// The receiver of orders.
pub(super) type Orders = mpsc::Receiver<Order>;

impl PluginFolder {
    /// Retires a plugin, by its file stem or its name: it is no longer called, its required hooks no longer fail closed,
    /// and its files are ignored until [`Self::reinstate`]. With a data folder, this outlives the process.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn retire(&self, name: &str) -> Result<(), RetireError> {
        self.order(name, Wish::Retire).await
    }

    /// Reinstates a plugin that was retired by [`Self::retire`]. Its files are loaded as if they were new. A plugin that
    /// is not retired is left alone.
    ///
    /// # Errors
    /// If there is no such plugin, or the gateway is shutting down.
    pub async fn reinstate(&self, name: &str) -> Result<(), RetireError> {
        self.order(name, Wish::Reinstate).await
    }

    async fn order(&self, name: &str, wish: Wish) -> Result<(), RetireError> {
        let (done, result) = oneshot::channel();
        let order = Order { name: name.to_owned(), wish, done };
        self.orders.send(order).await.map_err(|_| RetireError::Stopped)?;
        Ok(result.await.map_err(|_| RetireError::Stopped)??)
    }
}
