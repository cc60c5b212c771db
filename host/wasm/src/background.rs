//! The background task of a plugin: calls `refresh` at an interval and publishes what it returns.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use yardarm_core::EnvironmentLabel;
use yardarm_core::backoff::Backoff;

use crate::call::BindingInstance;
use crate::runtime::interface::Refresh;
use crate::services::snapshot::{LONGEST_KEY, MOST_BYTES, MOST_VALUES};
use crate::vocabulary::CallError;

/// Time until a call that failed is repeated the first time.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Calls `refresh` once; returns whether what it published differs from before.
pub(crate) async fn refresh(binding: &Arc<BindingInstance>) -> Result<bool, CallError> {
    let check = |values: Option<Vec<(String, Vec<u8>)>>| values.map(check).transpose();
    let environment = EnvironmentLabel::new("none", "background");
    let values = binding.call(&environment, &Refresh, binding.bind.deadline, check).await?;
    Ok(values.is_some_and(|values| binding.guest.context.services.snapshot.publish(values)))
}

/// Starts the task. It ends once the returned guard is dropped. `is_fresh` tells whether the call in staging was
/// successful; `published` is notified whenever something new is published.
pub(crate) fn start(binding: &Arc<BindingInstance>, is_fresh: bool, published: Arc<Notify>) -> DropGuard {
    let token = CancellationToken::new();
    let task = run(Arc::downgrade(binding), binding.bind.interval, is_fresh, published);
    let ended = token.clone();
    binding.lifecycle.spawn("plugin background", async move {
        ended.run_until_cancelled(Box::pin(task)).await;
    });
    token.drop_guard()
}

async fn run(binding: Weak<BindingInstance>, interval: Duration, is_fresh: bool, published: Arc<Notify>) {
    let ceiling = interval.max(FIRST_RETRY);
    let Ok(mut backoff) = Backoff::new(FIRST_RETRY, ceiling) else { return };
    let mut wait = if is_fresh { interval } else { backoff.next_delay() };
    loop {
        tokio::time::sleep(wait).await;
        let Some(binding) = binding.upgrade() else { return };
        wait = match refresh(&binding).await {
            Ok(is_new) => {
                backoff.reset();
                if is_new {
                    published.notify_one();
                }
                interval
            }
            Err(_) => backoff.next_delay(),
        };
    }
}

/// Requires distinct keys, and no more than a publication may have.
pub(crate) fn check(values: Vec<(String, Vec<u8>)>) -> Result<BTreeMap<String, Bytes>, CallError> {
    let invalid = |text: String| Err(CallError::OutputInvalid(text));
    let count = values.len();
    if count > MOST_VALUES {
        return invalid(format!("{count} values are published, {MOST_VALUES} are allowed"));
    }
    let size: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MOST_BYTES {
        return Err(CallError::OutputTooLarge { size, limit: MOST_BYTES });
    }
    if values.iter().any(|(key, _)| key.is_empty() || key.len() > LONGEST_KEY) {
        return invalid(format!("a key has 1 to {LONGEST_KEY} bytes"));
    }
    let values: BTreeMap<_, _> = values.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
    if values.len() == count { Ok(values) } else { invalid("a key is published twice".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_checked() {
        let value = |key: &str, size: usize| (key.to_owned(), vec![0; size]);
        assert_eq!(check(vec![value("a", 1), value("b", 0)]).unwrap().len(), 2);
        for (values, expected) in [
            (vec![value("", 0)], "a key has"),
            (vec![value(&"k".repeat(LONGEST_KEY + 1), 0)], "a key has"),
            (vec![value("a", 0), value("a", 0)], "twice"),
            (vec![value("a", MOST_BYTES)], "allowed"),
            ((0..=MOST_VALUES).map(|n| value(&n.to_string(), 0)).collect(), "10001 values"),
        ] {
            let error = check(values).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
