//! Targets that SDKs present, for all gateways that share the database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use yardarm_core::Backoff;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::Target;
use yardarm_store::{RedisTexts, TextChange};

use super::SharedStore;
use super::layout::{EnvironmentKeys, target_text};

/// Targets that wait to be written. Further ones are not shared.
const MAX_WAITING: usize = 10_000;
/// Largest target that is shared, in bytes.
const MAX_SIZE: usize = 64 << 10;
/// Targets per write.
const BATCH: usize = 256;
/// Longest wait for a target, which the request of an SDK waits for.
const LOOK_UP: Duration = Duration::from_millis(500);
/// Delay after a failed write, and the longest one.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// The newest targets that wait to be written, by key.
#[derive(Default)]
pub(crate) struct SharedTargets {
    waiting: Mutex<BTreeMap<String, Bytes>>,
    added: Notify,
    is_full: AtomicBool,
}

impl SharedTargets {
    /// Queues a target of an environment.
    pub(crate) fn share(&self, environment: &str, target: &Target) {
        let text = target_text(target);
        if text.len() > MAX_SIZE {
            return tracing::debug!("a target is too large to be shared");
        }
        let key = EnvironmentKeys(environment).target(&target.identifier);
        let is_added = {
            let mut waiting = self.waiting.lock();
            let is_added = waiting.len() < MAX_WAITING || waiting.contains_key(&key);
            if is_added {
                waiting.insert(key, text);
            }
            is_added
        };
        if is_added {
            self.added.notify_one();
        } else if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(environment, "too many targets wait to be written to shared Redis, dropping further ones");
        }
    }

    /// Writes targets as they come; never returns.
    pub(super) async fn write(&self, texts: &RedisTexts) {
        let mut backoff = Backoff::new(RETRY, MAX_RETRY).expect("the first delay is the shorter one");
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                self.added.notified().await;
                continue;
            }
            if let Err(error) = texts.apply(&batch).await {
                tracing::debug!(%error, "targets could not be written to shared Redis, retrying");
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
            backoff.reset();
            self.is_full.store(false, Ordering::Relaxed);
            let mut waiting = self.waiting.lock();
            for change in &batch {
                // A newer version that came meanwhile stays.
                if let TextChange::Set(key, text) = change
                    && waiting.get(key) == Some(text)
                {
                    waiting.remove(key);
                }
            }
        }
    }

    fn batch(&self) -> Vec<TextChange> {
        let waiting = self.waiting.lock();
        waiting.iter().take(BATCH).map(|(key, text)| TextChange::Set(key.clone(), text.clone())).collect()
    }
}

impl SharedStore {
    /// Returns the target that any gateway was presented last; `None` if there is none, or the database does not respond
    /// soon.
    pub(crate) async fn find_target(&self, environment: &str, identifier: &str) -> Option<Target> {
        if !self.is_available() {
            return None;
        }
        let key = EnvironmentKeys(environment).target(identifier);
        match self.texts().get_one(&key, LOOK_UP).await {
            Ok(text) => lenient_json::from_slice(&text?).ok(),
            Err(error) => {
                tracing::debug!(%error, "a target could not be read from shared Redis");
                None
            }
        }
    }
}
