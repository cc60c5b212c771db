//! Targets that present themselves here are registered upstream, behind the answer (section 3.10).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use yardarm_core::{Lifecycle, Secret};

use super::{HttpClients, post_json, url};
use crate::model::Target;

/// How long upstream may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Registrations under way. Further targets are not registered this time; they will present themselves again.
const MAX_UNDER_WAY: usize = 64;
/// For how long the same target is not registered again.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Targets that are remembered; beyond, all are forgotten.
const MAX_REMEMBERED: usize = 50_000;

/// Registers targets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registrar(Arc<Shared>);

struct Shared {
    http: HttpClients,
    base: String,
    lifecycle: Lifecycle,
    places: Arc<Semaphore>,
    /// When a target was registered, by a digest of environment and what was said of it, which can be long.
    seen: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Registrar {
    pub(crate) fn new(http: HttpClients, base: String, lifecycle: Lifecycle) -> Self {
        let places = Arc::new(Semaphore::new(MAX_UNDER_WAY));
        Self(Arc::new(Shared { http, base, lifecycle, places, seen: Mutex::default() }))
    }

    /// Registers a target that presented `key`, unless the same was registered a moment ago.
    pub(crate) fn register(&self, environment: &str, key: Secret, target: &Target) {
        let target = json!(target);
        if !self.is_news(&format!("{environment} {target}")) {
            return;
        }
        let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() else {
            return tracing::warn!(environment, "too many targets at once, one is not registered");
        };
        let shared = Arc::clone(&self.0);
        self.0.lifecycle.spawn("target registration", async move {
            let body = json!({"apiKey": key.expose(), "target": target});
            let request = post_json(&shared.http, url(&shared.base, &["client", "auth"]), &body).timeout(PATIENCE);
            match yardarm_outbound::send(request).await {
                Ok(answer) if answer.status().is_success() => tracing::debug!("target registered"),
                Ok(answer) => tracing::warn!(status = %answer.status(), "target could not be registered"),
                Err(error) => tracing::warn!(%error, "target could not be registered"),
            }
            drop(place);
        });
    }

    fn is_news(&self, what: &str) -> bool {
        let what = Sha256::digest(what.as_bytes()).into();
        let now = Instant::now();
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&what).is_some_and(|at| now.duration_since(*at) < REMEMBERED) {
            return false;
        }
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(what, now);
        true
    }
}
