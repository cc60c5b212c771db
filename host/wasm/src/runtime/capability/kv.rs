//! The import `kv`: values that outlive calls.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;
use crate::runtime::interface::v0_1::host::kv::{Entry, KvError};
use crate::services::kv::{self, KvSpace};

/// The longest life of a value; longer ones are shortened.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Maximum time of an operation in a database.
const LONGEST_OPERATION: Duration = Duration::from_secs(1);

/// The outer error is one of Wasmtime, the inner one is for the guest.
type Answer<T> = wasmtime::Result<Result<T, KvError>>;

impl GuestState {
    /// Returns the values of the plugin, if the current call may use them, and the time that an operation may take.
    ///
    /// That is half of what is left of the call, so that the guest can still act on a database that does not answer.
    fn kv(&self) -> Result<(Arc<KvSpace>, Duration), KvError> {
        let unavailable = |text: &str| Err(KvError::Unavailable(text.to_owned()));
        match self.hook {
            None => unavailable("stored values are not available during `init`"),
            Some(hook) if !hook.may_use_kv() => unavailable(&format!("stored values are not available in `{hook}`")),
            Some(_) if self.is_warm_up && self.plugin.services.is_live => unavailable("this call is a warm-up"),
            Some(_) => Ok((Arc::clone(&self.plugin.services.kv), LONGEST_OPERATION.min(self.time_left() / 2))),
        }
    }

    /// Returns the error of an operation for the guest. One of the database is counted, and logged within the limit for
    /// the host's reports about the plugin.
    fn kv_error(&self, error: kv::KvError) -> KvError {
        match error {
            kv::KvError::Invalid(text) => KvError::Invalid(text),
            kv::KvError::Full => KvError::Full,
            kv::KvError::Unavailable(error) => {
                self.plugin.counters.count_kv_unavailable();
                if let Some(suppressed) = self.plugin.counters.reports.admit() {
                    let (plugin, hook) = (&self.plugin.name, self.hook_name());
                    tracing::warn!(%plugin, hook, suppressed, error, "stored values of the plugin are not available");
                }
                KvError::Unavailable(error)
            }
        }
    }
}

impl v0_1::host::kv::Host for GuestState {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        let (kv, limit) = match self.kv() {
            Ok(kv) => kv,
            Err(error) => return Ok(Err(error)),
        };
        let found = kv.get(&key, limit).await.map_err(|error| self.kv_error(error));
        if let Ok(Some(entry)) = &found {
            self.count_lent(entry.value.len())?;
        }
        Ok(found.map(|entry| entry.map(|entry| Entry { value: entry.value.to_vec(), version: entry.version })))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        Ok(match self.kv() {
            Ok((kv, limit)) => kv.set(&key, value, life(ttl_ms), limit).await.map_err(|error| self.kv_error(error)),
            Err(error) => Err(error),
        })
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        version: Option<u64>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        Ok(match self.kv() {
            Ok((kv, limit)) => {
                let written = kv.compare_and_set(&key, version, (value, life(ttl_ms)), limit).await;
                written.map_err(|error| self.kv_error(error))
            }
            Err(error) => Err(error),
        })
    }

    async fn increment(&mut self, key: String, delta: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        Ok(match self.kv() {
            Ok((kv, limit)) => {
                kv.increment(&key, delta, life(ttl_ms), limit).await.map_err(|error| self.kv_error(error))
            }
            Err(error) => Err(error),
        })
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        Ok(match self.kv() {
            Ok((kv, limit)) => kv.delete(&key, limit).await.map_err(|error| self.kv_error(error)),
            Err(error) => Err(error),
        })
    }
}

fn life(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(|ttl| Duration::from_millis(ttl).min(LONGEST_LIFE))
}
