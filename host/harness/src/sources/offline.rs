//! Environments from a folder, and the folder from environments: the files of the vendor's offline mode (section 4.14
//! of the compatibility page).

mod export;
mod folder;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::{InternalError, Supervised, supervisor};

pub use self::export::ExportError;
pub(crate) use self::export::export;
pub use self::folder::OfflineError;
use self::folder::{Look, Read};
use crate::config::OfflineConfig;
use crate::environments::{EnvironmentFactory, EnvironmentHandle};
use crate::identity::{Identity, Session};

/// Serves what the folder says, and what it says later.
pub(crate) struct OfflineTask {
    settings: OfflineConfig,
    factory: EnvironmentFactory,
    served: BTreeMap<String, EnvironmentHandle>,
    /// What the folder looked like when it was last read successfully.
    seen: Option<Look>,
}

impl OfflineTask {
    pub(crate) fn new(settings: OfflineConfig, factory: EnvironmentFactory) -> Self {
        Self { settings, factory, served: BTreeMap::new(), seen: None }
    }

    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be used: without it there is nothing to serve.
    pub(crate) async fn start(&mut self) -> Result<(), OfflineError> {
        self.reload().await?;
        if self.served.is_empty() {
            tracing::warn!(folder = %self.settings.dir.display(), "there is no folder `env-…` in it, so there is nothing to serve");
        }
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), OfflineError> {
        let (folder, seen) = (self.settings.dir.clone(), self.seen.clone());
        let Some((look, fresh)) =
            blocking(folder, move |folder| folder::read_if_changed(folder, seen.as_ref())).await?
        else {
            return Ok(());
        };
        let is_first = self.seen.replace(look).is_none();
        self.serve(fresh, is_first).await;
        if !is_first {
            tracing::info!(folder = %self.settings.dir.display(), environments = self.served.len(), "offline folder was read again");
        }
        Ok(())
    }

    async fn serve(&mut self, fresh: BTreeMap<String, Read>, is_first: bool) {
        let gone: Vec<_> = self.served.keys().filter(|id| !fresh.contains_key(*id)).cloned().collect();
        for it in gone.iter().filter_map(|id| self.served.remove(id)) {
            self.factory.remove(&it.environment, &it.lifecycle);
        }
        for (id, Read { mut persisted, received }) in fresh {
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
    /// Watches the folder until dropped. Whatever happens to it, what was read stays.
    async fn run(&mut self) {
        let interval = self.settings.monitoring_interval;
        let mut looks = tokio::time::interval_at(Instant::now() + interval, interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = None;
        loop {
            looks.tick().await;
            // One that cannot be used may be on its way still, so it is read again at the next look.
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
        // It may have been served in part, so it is read again.
        self.seen = None;
    }
}

/// Tries whether a folder can be served. Blocks.
pub(crate) fn check(folder: &std::path::Path) -> Result<(), OfflineError> {
    folder::read_if_changed(folder, None).map(drop)
}

/// Looks at files where that delays nobody.
async fn blocking<T: Send + 'static>(
    folder: PathBuf,
    look: impl FnOnce(&std::path::Path) -> Result<T, OfflineError> + Send + 'static,
) -> Result<T, OfflineError> {
    let path = folder.clone();
    let looked = supervisor::blocking("folder reader", move || look(&folder)).await;
    looked.unwrap_or_else(|error| Err(OfflineError::Unreadable { path, source: std::io::Error::other(error) }))
}
