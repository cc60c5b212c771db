//! The task that reads the metrics of read replicas, for this gateway to sum up and post.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use yardarm_core::{Backoff, Supervised};
use yardarm_store::StoreError;
use yardarm_vendor::upstream::LogThrottle;

use crate::environments::Environments;
use crate::shared_store::{METRICS, SharedStore};

/// Name of the group of readers, which is the same for all primaries, so that each post is read once.
const GROUP: &str = "yardarm";
/// Time that the server waits for posts.
const WAIT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Limits log lines about posts that are dropped.
static DROPPED: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// Reads the metrics of read replicas.
pub(crate) struct ReplicaMetrics {
    pub(crate) store: SharedStore,
    pub(crate) environments: Environments,
}

/// The property of a post that names its environment.
#[derive(Deserialize)]
struct Envelope {
    environment_id: String,
}

impl ReplicaMetrics {
    /// Reads until the database fails. A group that is new begins at the end of the stream: what is there has been read by
    /// the vendor's relay. In an emptied database, everything is new.
    async fn read(&self, is_emptied: bool, backoff: &mut Backoff) -> StoreError {
        let mut member = match self.store.texts().join(METRICS, GROUP, is_emptied).await {
            Ok(member) => member,
            Err(error) => return error,
        };
        loop {
            let messages = match member.next(WAIT).await {
                Ok(messages) => messages,
                Err(error) => return error,
            };
            backoff.reset();
            for message in messages {
                match &message.text {
                    Some(text) => self.absorb(text).await,
                    None => drop_post("it was removed before it was read"),
                }
                if let Err(error) = member.confirm(&message).await {
                    return error;
                }
            }
        }
    }

    async fn absorb(&self, text: &Bytes) {
        let Ok(Envelope { environment_id }) = serde_json::from_slice(text) else {
            return drop_post("it names no environment");
        };
        let Some(environment) = self.environments.by_id(&environment_id) else {
            return drop_post("its environment is not served");
        };
        match environment.metrics.read(text.clone()).await {
            Ok(post) => environment.metrics.absorb(post),
            Err(_) => drop_post("it cannot be read"),
        }
    }
}

fn drop_post(reason: &'static str) {
    if let Some(suppressed) = DROPPED.next_line() {
        tracing::warn!(reason, suppressed, "metrics of a read replica are dropped");
    }
}

impl Supervised for ReplicaMetrics {
    /// Runs until dropped.
    async fn run(&mut self) {
        let mut backoff = Backoff::new(RETRY, MAX_RETRY).expect("the first delay is the shorter one");
        let mut is_emptied = false;
        loop {
            let error = self.read(is_emptied, &mut backoff).await;
            is_emptied = error.is_missing_group();
            if !is_emptied {
                tracing::debug!(%error, "metrics of read replicas cannot be read, retrying");
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}
