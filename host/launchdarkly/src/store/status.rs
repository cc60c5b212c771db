//! State of the database, and advice for operators.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use yardarm_core::time::unix_ms;
use yardarm_store::{StoreError, Trouble};

/// State of one environment's database.
pub(crate) struct StoreStatus(Mutex<StoreReport>);

/// The state at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreReport {
    /// Why its last operation failed; `None` while it works.
    pub(crate) outage: Option<Outage>,
    /// Unix milliseconds of the last change of state.
    pub(crate) since_ms: u64,
    /// Writes that succeeded.
    pub(crate) writes: u64,
    /// Operations that failed.
    pub(crate) failures: u64,
}

/// Why a database does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) trouble: Trouble,
    /// The last answer of the database, shortened.
    pub(crate) answer: Arc<str>,
}

impl StoreReport {
    /// Whether the last operation succeeded.
    pub(crate) fn is_available(&self) -> bool {
        self.outage.is_none()
    }
}

impl StoreStatus {
    /// Available until the first failure.
    pub(super) fn new() -> Self {
        Self(Mutex::new(StoreReport { outage: None, since_ms: unix_ms(), writes: 0, failures: 0 }))
    }

    pub(crate) fn report(&self) -> StoreReport {
        self.lock().clone()
    }

    /// Records a success; returns whether it is the first one after a failure.
    pub(super) fn recovered(&self) -> bool {
        let mut report = self.lock();
        let is_news = report.outage.take().is_some();
        if is_news {
            report.since_ms = unix_ms();
        }
        is_news
    }

    /// Counts a write that succeeded.
    pub(super) fn record_write(&self) {
        self.lock().writes += 1;
    }

    /// Records a failure; returns whether it is the first one, or of another class than the last one.
    pub(super) fn failed(&self, error: &StoreError) -> bool {
        let mut report = self.lock();
        report.failures += 1;
        let trouble = error.trouble();
        let is_news = report.outage.as_ref().is_none_or(|it| it.trouble != trouble);
        if is_news {
            report.since_ms = unix_ms();
        }
        report.outage = Some(Outage { trouble, answer: error.to_string().into() });
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, StoreReport> {
        self.0.lock()
    }
}

/// Advice for operators about a failure of this class of a database.
pub(crate) fn advice(database: &str, trouble: Trouble) -> &'static str {
    match database {
        "consul" => consul_advice(trouble),
        "dynamodb" => dynamodb_advice(trouble),
        _ => redis_advice(trouble),
    }
}

fn consul_advice(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable => "Consul cannot be reached: check `launchdarkly.consul.host`, the network and the agent",
        Trouble::Denied => {
            "Consul refuses the token: check `launchdarkly.consul.token` or `launchdarkly.consul.token_file`, and whether \
             its policy has `key_prefix` with `write` for the prefix of the environment"
        }
        Trouble::Busy => "Consul has no leader at the moment, or limits the rate of requests",
        trouble => redis_advice(trouble),
    }
}

fn dynamodb_advice(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable => {
            "DynamoDB cannot be reached: check `launchdarkly.dynamodb.url`, `launchdarkly.dynamodb.region` and the network"
        }
        Trouble::Denied => {
            "DynamoDB refuses the credentials, or there are none: check the variables, profile or role of AWS, and whether \
             the role may get, put, update, delete, query and batch-write items of the table"
        }
        Trouble::Full => "the table has reached a size limit",
        Trouble::Busy => "the capacity of the table is exceeded: raise it, or use on-demand capacity",
        Trouble::Missing => {
            "check `launchdarkly.dynamodb.table_name` and the region: the table must exist, with the partition key \
             `namespace` and the sort key `key`, both strings"
        }
        trouble => redis_advice(trouble),
    }
}

fn redis_advice(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Unreachable => {
            "the database cannot be reached: check `launchdarkly.redis.url`, the network and the server"
        }
        Trouble::Denied => {
            "the database refuses the login or a command: check `launchdarkly.redis.username`, \
             `launchdarkly.redis.password` and what the user may do"
        }
        Trouble::ReadOnly => "the database is read-only: point `launchdarkly.redis.url` at the primary",
        Trouble::Cluster => {
            "the database runs in cluster mode, which is not supported: point `launchdarkly.redis.url` at a server \
             without it"
        }
        Trouble::Full => "the database is full: raise its `maxmemory`, or point `launchdarkly.redis.url` at another",
        Trouble::Unsaved => {
            "the database takes no writes because it cannot save to its disk: see its log, and \
             `stop-writes-on-bgsave-error` in its configuration"
        }
        Trouble::WrongType => {
            "keys of another program are in the way: set another `prefix` for the environment, or remove them"
        }
        Trouble::Busy => "the database is loading its data or waits for its primary",
        Trouble::Missing => "a part of the database that operators create is missing",
        Trouble::Refused => "the database rejects requests; see its last answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_state_is_reported_once() {
        let status = StoreStatus::new();
        assert!(!status.recovered() && status.report().is_available());
        assert!(status.failed(&StoreError::TimedOut));
        assert!(!status.failed(&StoreError::TimedOut));
        let outage = status.report().outage.expect("an outage");
        assert_eq!((outage.trouble, &*outage.answer), (Trouble::Unreachable, "database did not answer in time"));
        assert!(status.recovered() && !status.recovered());
        status.record_write();
        assert_eq!((status.report().writes, status.report().failures), (1, 2));
    }

    #[test]
    fn every_trouble_has_its_own_advice() {
        let events: std::collections::BTreeSet<_> = Trouble::ALL.map(Trouble::as_str).into();
        assert_eq!(events.len(), Trouble::ALL.len());
        for database in ["redis", "consul", "dynamodb"] {
            let advice: std::collections::BTreeSet<_> = Trouble::ALL.map(|it| advice(database, it)).into();
            assert_eq!(advice.len(), Trouble::ALL.len(), "{database}");
        }
        for (database, key) in [("consul", "launchdarkly.consul."), ("dynamodb", "launchdarkly.dynamodb.")] {
            assert!(advice(database, Trouble::Unreachable).contains(key));
        }
    }
}
