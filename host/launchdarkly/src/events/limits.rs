//! Limits for all environments together: bodies, events and work off the serving threads that are in flight at once.
//!
//! Each kind of credential has its own limits, so that callers with a public environment ID displace only each other.

use std::sync::Arc;

use yardarm_core::budget::{Account, Budget, ByTrust, Trust};
use yardarm_core::workers::ThreadError;
use yardarm_core::{Evaluators, Workers};
use yardarm_vendor::events::outbox::SharedLimits;

use crate::config::Config;

/// Fewest bytes of posts of events that may be read at once, per kind of credential.
const MIN_POST_BYTES: usize = 8 << 20;
/// Fewest bytes of `REPORT` requests that may be read at once, per kind of credential.
const MIN_REQUEST_BYTES: usize = 16 << 20;
/// Bytes of diagnostic posts that may be in flight at once, per kind of credential.
const DIAGNOSTIC_BYTES: usize = 4 << 20;

/// The limits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Limits {
    /// For events that wait for upstream.
    pub(crate) outbox: SharedLimits,
    /// Bytes of posts of events, from the first byte that is read until the events are in a queue.
    posts: ByTrust<Budget>,
    /// The same for diagnostic posts, until upstream has them.
    diagnostics: ByTrust<Budget>,
    /// Bytes of large bodies of `REPORT` requests, until they are answered.
    requests: ByTrust<Arc<Account>>,
    readers: ByTrust<Workers>,
    /// Evaluators of flags for SDKs.
    pub(crate) evaluators: ByTrust<Evaluators>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Result<Self, ThreadError> {
        Self::of(config.events_memory, config.events_max_payload, config.max_client_request_body)
    }

    /// Limits for `events_memory` bytes of waiting events, the largest post of events and the largest `REPORT` body.
    pub(crate) fn of(events_memory: usize, largest_post: u64, largest_request: u64) -> Result<Self, ThreadError> {
        let twice = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).saturating_mul(2);
        // While a body is split, parts of it and of the resulting events are held at the same time.
        let posts = twice(largest_post).max(MIN_POST_BYTES);
        let requests = twice(largest_request).max(MIN_REQUEST_BYTES);
        let workers = Workers::by_trust("yardarm-work")?;
        Ok(Self {
            outbox: SharedLimits::new(events_memory, &workers)?,
            posts: ByTrust::from_fn(|_| Budget::new(posts)),
            diagnostics: ByTrust::from_fn(|_| Budget::new(DIAGNOSTIC_BYTES)),
            requests: ByTrust::from_fn(|_| Budget::new(requests).account()),
            readers: ByTrust::from_fn(|trust| workers.get(trust).queue()),
            evaluators: ByTrust::from_fn(|trust| Evaluators::on(workers.get(trust).queue())),
        })
    }

    /// Opens the accounts of one environment for posts of events.
    pub(crate) fn post_accounts(&self) -> ByTrust<Arc<Account>> {
        ByTrust::from_fn(|trust| self.posts.get(trust).account())
    }

    /// Opens the accounts of one environment for diagnostic posts.
    pub(crate) fn diagnostic_accounts(&self) -> ByTrust<Arc<Account>> {
        ByTrust::from_fn(|trust| self.diagnostics.get(trust).account())
    }

    /// The account for large bodies of `REPORT` requests.
    pub(crate) fn requests(&self, trust: Trust) -> &Arc<Account> {
        self.requests.get(trust)
    }

    /// Runs `work` off the serving threads, queued with that of callers with such a credential. `None` after a panic.
    pub(crate) async fn offload<T: Send + 'static>(
        &self,
        trust: Trust,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.readers.get(trust).run("event work", work).await.ok()
    }

    /// The threads that [`Self::offload`] uses.
    pub(crate) fn readers(&self, trust: Trust) -> &Workers {
        self.readers.get(trust)
    }
}
