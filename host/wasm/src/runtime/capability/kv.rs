//! The import `kv`: values that outlive calls.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;
use crate::runtime::interface::v0_1::host::kv::{Entry, KvError};
use crate::services::kv::{self, KvSpace};

/// The longest life of a value; longer ones are shortened.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The outer error is one of Wasmtime, the inner one is for the guest.
type Answer<T> = wasmtime::Result<Result<T, KvError>>;

impl GuestState {
    /// Returns the values of the plugin, if the current call may use them.
    fn kv(&self) -> Result<Arc<KvSpace>, KvError> {
        let unavailable = |text: &str| Err(KvError::Unavailable(text.to_owned()));
        match self.hook {
            None => unavailable("stored values are not available during `init`"),
            Some(hook) if !hook.may_use_kv() => unavailable(&format!("stored values are not available in `{hook}`")),
            Some(_) if self.is_warm_up && self.plugin.services.is_live => unavailable("this call is a warm-up"),
            Some(_) => Ok(Arc::clone(&self.plugin.services.kv)),
        }
    }
}

impl v0_1::host::kv::Host for GuestState {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        let found = self.kv().and_then(|kv| Ok(kv.get(&key)?));
        if let Ok(Some(entry)) = &found {
            self.count_lent(entry.value.len())?;
        }
        Ok(found.map(|entry| entry.map(|entry| Entry { value: entry.value.to_vec(), version: entry.version })))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        Ok(self.kv().and_then(|kv| Ok(kv.set(&key, value, life(ttl_ms))?)))
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        version: Option<u64>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        Ok(self.kv().and_then(|kv| Ok(kv.compare_and_set(&key, version, value, life(ttl_ms))?)))
    }

    async fn increment(&mut self, key: String, delta: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        Ok(self.kv().and_then(|kv| Ok(kv.increment(&key, delta, life(ttl_ms))?)))
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        Ok(self.kv().map(|kv| kv.delete(&key)))
    }
}

fn life(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(|ttl| Duration::from_millis(ttl).min(LONGEST_LIFE))
}

impl From<kv::KvError> for KvError {
    fn from(error: kv::KvError) -> Self {
        match error {
            kv::KvError::Invalid(text) => Self::Invalid(text),
            kv::KvError::Full => Self::Full,
        }
    }
}
