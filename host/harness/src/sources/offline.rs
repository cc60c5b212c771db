//! Environments from a folder, and the folder from environments: the files of the vendor's offline mode (F095 to F098).

mod export;
mod folder;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::{InternalError, Supervised, supervisor};

pub use self::export::ExportError;
pub(crate) use self::export::export;
pub use self::folder::OfflineError;
use self::folder::{Fingerprint, ReadEnvironment};
use crate::config::OfflineConfig;
use crate::environments::{EnvironmentFactory, EnvironmentHandle};
use crate::identity::{Identity, Session};

/// Serves the environments of the folder, and follows its changes.
pub(crate) struct OfflineTask {
    settings: OfflineConfig,
    factory: EnvironmentFactory,
    served: BTreeMap<String, EnvironmentHandle>,
    /// Fingerprint of the folder when it was last read successfully.
    seen: Option<Fingerprint>,
}

impl OfflineTask {
    pub(crate) fn new(settings: OfflineConfig, factory: EnvironmentFactory) -> Self {
        Self { settings, factory, served: BTreeMap::new(), seen: None }
    }

    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be used.
    pub(crate) async fn start(&mut self) -> Result<(), OfflineError> {
        self.reload().await?;
        if self.served.is_empty() {
            tracing::warn!(folder = %self.settings.dir.display(), "the offline folder contains no folder `env-…`, so there is nothing to serve");
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), OfflineError> {
        let (folder, seen) = (self.settings.dir.clone(), self.seen.clone());
        let Some((fingerprint, fresh)) =
            blocking(folder, move |folder| folder::read_if_changed(folder, seen.as_ref())).await?
        else {
            return Ok(());
        };
        let is_first = self.seen.replace(fingerprint).is_none();
        self.serve(fresh, is_first).await;
        if !is_first {
            tracing::info!(folder = %self.settings.dir.display(), environments = self.served.len(), "offline folder was read again");
        }
        Ok(())
    }

    async fn serve(&mut self, fresh: BTreeMap<String, ReadEnvironment>, is_first: bool) {
        let removed: Vec<_> = self.served.keys().filter(|id| !fresh.contains_key(*id)).cloned().collect();
        for it in removed.iter().filter_map(|id| self.served.remove(id)) {
            self.factory.remove(&it.environment, &it.lifecycle);
        }
        for (id, ReadEnvironment { mut persisted, received }) in fresh {
            if let Some(known) = self.served.get_mut(&id) {
                known.applier.put(received).await;
                known.environment.targets.replace_listed(&persisted.read_targets());
                self.factory.accept(&known.environment, &persisted.keys);
            } else {
                let session = Session::remembered(Identity { id: id.clone(), ..persisted.identity.clone() });
                let (items, unreadable) = received.complete(None);
                persisted.items = Some(items);
                if let Some(created) = self.factory.create(Some(&id), session, persisted).await {
                    created.environment.skip(unreadable);
                    created.hold_readiness(!is_first);
                    self.served.insert(id, created);
                }
            }
        }
    }
}

impl Supervised for OfflineTask {
    /// Polls the folder until dropped. If it cannot be used, the environments that were read stay.
    async fn run(&mut self) {
        let interval = self.settings.monitoring_interval;
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = None;
        loop {
            ticks.tick().await;
            // A folder that cannot be used may be incomplete for a moment, so it is read again at the next tick.
            match self.reload().await {
                Ok(()) => reported = None,
                Err(error) => {
                    let problem = error.to_string();
                    if reported.as_ref() != Some(&problem) {
                        tracing::error!(error = %problem, "offline folder cannot be used, serving what was read before");
                        reported = Some(problem);
                    }
                }
            }
        }
    }

    fn recover(&mut self, _: &InternalError) {
        // A part of it may have been served, so it is read again.
        self.seen = None;
    }
}

/// Checks whether a folder can be served. Blocks.
pub(crate) fn check(folder: &std::path::Path) -> Result<(), OfflineError> {
    folder::read_if_changed(folder, None).map(drop)
}

/// Reads files on a thread that may block.
async fn blocking<T: Send + 'static>(
    folder: PathBuf,
    read: impl FnOnce(&std::path::Path) -> Result<T, OfflineError> + Send + 'static,
) -> Result<T, OfflineError> {
    let path = folder.clone();
    let result = supervisor::blocking("folder reader", move || read(&folder)).await;
    result.unwrap_or_else(|error| Err(OfflineError::Unreadable { path, source: std::io::Error::other(error) }))
}
