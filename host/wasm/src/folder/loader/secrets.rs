//! Secrets that change while plugins run.

use std::sync::Arc;

use yardarm_core::supervisor;

use super::super::rollout::Rollout;
use super::Loader;
use crate::vocabulary::Grants;

/// A plugin whose configuration refers to secrets.
struct User {
    stem: Arc<str>,
    config: serde_json::Map<String, serde_json::Value>,
    grants: Grants,
    digest: [u8; 32],
}

impl Loader {
    /// Has plugins loaded again whose secrets have changed. A secret that cannot be read now changes nothing.
    pub(in super::super) async fn compare_secrets(&mut self) {
        let users = self.entries.iter().flat_map(|(stem, entry)| {
            let newer = entry.rollout.as_ref().map(Rollout::plugin);
            let plugins = entry.active.iter().chain(newer).filter(|plugin| plugin.guest.context.grants.has_secrets());
            plugins.map(|plugin| {
                let (config, grants) = (plugin.config.clone(), plugin.guest.context.grants.clone());
                User { stem: Arc::clone(stem), config, grants, digest: plugin.secrets }
            })
        });
        let users: Vec<_> = users.collect();
        if users.is_empty() {
            return;
        }
        let secrets = self.stager.services.secrets.clone();
        let changed = supervisor::blocking("plugin secrets", move || {
            let differs = |user: &User| {
                secrets.resolve(&user.config, &user.grants).is_ok_and(|resolved| resolved.digest != user.digest)
            };
            users.into_iter().filter(differs).map(|user| user.stem).collect::<Vec<_>>()
        });
        for stem in changed.await.unwrap_or_default() {
            tracing::info!(file = %stem, "a secret of the plugin has changed, loading it again");
            let entry = self.entry(&stem);
            entry.running = None;
            entry.reconsider();
            self.is_scan_due = true;
        }
    }
}
