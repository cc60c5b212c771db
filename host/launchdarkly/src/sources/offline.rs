//! Environments from an archive on disk, which may be replaced while they are served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::supervisor::blocking;
use yardarm_core::time::unix_ms;
use yardarm_core::{InternalError, Supervised};

use super::archive::{Archive, ArchiveError, Archived};
use super::assembly::EnvironmentAssembly;
use super::variant::Variant;
use crate::config::{CommonConfig, Config, EnvironmentConfig};
use crate::data::Items;

/// Serves the environments of an archive.
pub(crate) struct OfflineTask {
    file: PathBuf,
    monitoring_interval: Duration,
    cleanup_interval: Duration,
    common: CommonConfig,
    assembly: EnvironmentAssembly,
    served: BTreeMap<String, Served>,
    /// Metadata of the file when it was last read successfully.
    seen: Option<Look>,
    /// The last read error, until the next success.
    last_problem: Option<String>,
}

struct Served {
    config: EnvironmentConfig,
    version: i64,
    data_id: String,
}

/// Metadata that identifies the content of a file without reading it.
type Look = (SystemTime, u64);

impl OfflineTask {
    pub(crate) fn new(
        file: PathBuf,
        monitoring_interval: Duration,
        common: CommonConfig,
        config: &Config,
        assembly: EnvironmentAssembly,
    ) -> Self {
        let cleanup_interval = config.expired_credential_cleanup_interval;
        Self {
            file,
            monitoring_interval,
            cleanup_interval,
            common,
            assembly,
            served: BTreeMap::new(),
            seen: None,
            last_problem: None,
        }
    }

    /// Reads the archive for the first time.
    ///
    /// # Errors
    /// When it cannot be used, because without it there is nothing to serve.
    pub(crate) async fn start(&mut self) -> Result<(), ArchiveError> {
        let (look, archive) = self.read().await?;
        if archive.environments.is_empty() && archive.skipped.is_empty() {
            tracing::warn!("the data file does not contain any environments; check your configuration");
        }
        self.serve(archive).await;
        self.assembly.settle();
        self.seen = Some(look);
        Ok(())
    }

    /// A file that cannot be used may be incomplete, so it is read again at the next check.
    async fn reload(&mut self) {
        match self.read().await {
            Err(error) => {
                let problem = error.to_string();
                if self.last_problem.as_ref() != Some(&problem) {
                    tracing::warn!(file = %self.file.display(), %error, "data file reload failed, the file is invalid or incomplete; retrying");
                    self.last_problem = Some(problem);
                }
            }
            Ok((look, archive)) => {
                tracing::warn!(file = %self.file.display(), "reloaded data");
                self.last_problem = None;
                self.serve(archive).await;
                self.seen = Some(look);
            }
        }
    }

    /// Metadata is read before and after: a file that changes in between is read again.
    async fn read(&self) -> Result<(Look, Archive), ArchiveError> {
        let before = look(&self.file).await?;
        let file = self.file.clone();
        let archive =
            blocking("archive reader", move || Archive::read(&file)).await.map_err(std::io::Error::other)??;
        Ok((before, archive))
    }

    /// Applies the differences. Versions are compared by inequality, so an older archive is applied too.
    async fn serve(&mut self, archive: Archive) {
        for (id, problem) in &archive.skipped {
            tracing::error!(id, problem, "found invalid data for an environment; skipping this environment");
        }
        let mut before = std::mem::take(&mut self.served);
        let mut fresh: Vec<(String, Items)> = Vec::new();
        for Archived { id, representation, data_id, items } in archive.environments {
            let known = before.remove(&id);
            let has_new_data = known.as_ref().is_none_or(|it| it.data_id != data_id);
            let is_same = !has_new_data && known.as_ref().is_some_and(|it| it.version == representation.version);
            let settings = representation.settings(known.as_ref().map(|it| &it.config), &self.common, unix_ms());
            let config = match (settings, known) {
                (_, Some(known)) if is_same => known.config,
                (Ok(config), _) => config,
                (Err(error), Some(known)) => {
                    tracing::error!(id, %error, "keys in the archive contradict each other and are ignored");
                    known.config
                }
                (Err(error), None) => {
                    tracing::error!(id, %error, "found invalid data for an environment; skipping this environment");
                    continue;
                }
            };
            if has_new_data {
                fresh.push((id.clone(), items));
            }
            self.served.insert(id, Served { config, version: representation.version, data_id });
        }
        self.reconcile().await;
        for (id, items) in fresh {
            self.assembly.send_data(&id, items).await;
        }
    }

    async fn clean_up(&mut self) {
        let mut has_expired = false;
        for served in self.served.values_mut() {
            if let Some(credentials) = served.config.credentials.without_expired(unix_ms()) {
                served.config.credentials = credentials;
                has_expired = true;
            }
        }
        if has_expired {
            self.reconcile().await;
        }
    }

    async fn reconcile(&mut self) {
        let variants = self.served.values().map(|it| Variant { config: it.config.clone(), filter: "".into() });
        self.assembly.reconcile(variants.collect()).await;
    }
}

impl Supervised for OfflineTask {
    /// Watches the file until dropped. Data that was read stays if the file fails.
    async fn run(&mut self) {
        let every = |interval| {
            let mut timer = tokio::time::interval_at(Instant::now() + interval, interval);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        };
        let (mut looks, mut cleanups) = (every(self.monitoring_interval), every(self.cleanup_interval));
        let mut is_missing = false;
        loop {
            tokio::select! {
                _ = cleanups.tick() => self.clean_up().await,
                _ = looks.tick() => match look(&self.file).await {
                    Err(error) => {
                        if !std::mem::replace(&mut is_missing, true) {
                            tracing::error!(file = %self.file.display(), %error, "data file cannot be checked, serving the data that was read before");
                        }
                    }
                    Ok(look) => {
                        is_missing = false;
                        if Some(look) != self.seen {
                            self.reload().await;
                        }
                    }
                },
            }
        }
    }

    fn recover(&mut self, _: &InternalError) {
        // It may have been applied partly, so it is read again.
        self.seen = None;
        self.served.values_mut().for_each(|it| it.data_id.clear());
    }
}

async fn look(file: &std::path::Path) -> std::io::Result<Look> {
    let metadata = tokio::fs::metadata(file).await?;
    Ok((metadata.modified()?, metadata.len()))
}
