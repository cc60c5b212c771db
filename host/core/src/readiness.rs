//! Readiness: whether the process can take traffic, and which environments it waits for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::status::{Connection, Status};

/// How much must be served before the process counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyPolicy {
    /// Every environment that was known at the start, except those that upstream rejects while others are served.
    #[default]
    All,
    /// One environment.
    Any,
    /// Nothing: the process is ready once started.
    Started,
}

/// The conditions of readiness. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Entries>,
    /// Environments that have served data since the start.
    served: AtomicUsize,
    /// Once ready, the process stays ready: last good data is served whatever happens upstream.
    was_ready: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    by_id: BTreeMap<u64, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    /// `None` for a condition that applies under every policy.
    status: Option<Status>,
    /// Whether it was added after the start, so that it is not required while others are served.
    is_late: bool,
}

/// Delays readiness until it is dropped, or its environment is served.
#[derive(Debug)]
pub struct ReadyLatch {
    id: u64,
    readiness: Readiness,
}

/// The result of a readiness check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyReport {
    /// Whether traffic may come.
    pub is_ready: bool,
    /// The conditions that delay readiness.
    pub waiting: Vec<WaitingFor>,
    /// Environments that are not served and do not delay readiness.
    pub excused: Vec<WaitingFor>,
}

/// An environment or component that is not ready yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingFor {
    /// `vendor/environment`, or the name of another component.
    pub name: String,
    /// State of its upstream connection, if it has one.
    pub state: Option<&'static str>,
    /// The last failure.
    pub last_error: Option<String>,
}

impl Readiness {
    /// Delays readiness under every policy.
    #[must_use]
    pub fn latch(&self, name: impl Into<String>) -> ReadyLatch {
        self.add(Entry { name: name.into(), status: None, is_late: false })
    }

    /// Delays readiness until data is served, if the policy requires it. `status` is that of the data's source.
    #[must_use]
    pub fn latch_data(&self, name: impl Into<String>, status: &Status) -> ReadyLatch {
        self.add(Entry { name: name.into(), status: Some(status.clone()), is_late: false })
    }

    /// Like [`Self::latch_data`], for an environment added after the start: it is required only while no environment is
    /// served.
    #[must_use]
    pub fn latch_late_data(&self, name: impl Into<String>, status: &Status) -> ReadyLatch {
        self.add(Entry { name: name.into(), status: Some(status.clone()), is_late: true })
    }

    /// Returns whether the process is ready, and why not. Once it was ready, only [`Self::latch`] can make it unready.
    #[must_use]
    pub fn report(&self, policy: ReadyPolicy) -> ReadyReport {
        let entries: Vec<_> = self.lock().by_id.values().cloned().collect();
        let (data, absolute): (Vec<_>, Vec<_>) = entries.into_iter().partition(|it| it.status.is_some());
        let is_any_served = self.0.served.load(Ordering::Acquire) > 0;
        let (excusable, mut missing): (Vec<_>, Vec<_>) = data.into_iter().partition(Entry::is_excusable);
        let (mut excused, mut waiting) = match policy {
            _ if self.0.was_ready.load(Ordering::Acquire) => ([excusable, missing].concat(), Vec::new()),
            ReadyPolicy::Started => ([excusable, missing].concat(), Vec::new()),
            ReadyPolicy::Any if is_any_served => ([excusable, missing].concat(), Vec::new()),
            ReadyPolicy::All if is_any_served => (excusable, missing),
            ReadyPolicy::All | ReadyPolicy::Any => {
                missing.extend(excusable);
                if missing.is_empty() {
                    let name = "any environment: none is known".to_owned();
                    missing.push(Entry { name, status: None, is_late: false });
                }
                (Vec::new(), missing)
            }
        };
        if waiting.is_empty() && absolute.is_empty() {
            self.0.was_ready.store(true, Ordering::Release);
        }
        waiting.extend(absolute);
        let is_ready = waiting.is_empty();
        let describe = |entries: &mut Vec<Entry>| {
            let mut all: Vec<_> = entries.drain(..).map(WaitingFor::from).collect();
            all.sort();
            all
        };
        ReadyReport { is_ready, waiting: describe(&mut waiting), excused: describe(&mut excused) }
    }

    fn add(&self, entry: Entry) -> ReadyLatch {
        let mut entries = self.lock();
        let id = entries.next;
        entries.next += 1;
        entries.by_id.insert(id, entry);
        ReadyLatch { id, readiness: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.waiting.lock()
    }
}

impl ReadyLatch {
    /// Waits for `name` in place of the previous name and status.
    pub fn follow(&self, name: impl Into<String>, status: &Status) {
        if let Some(entry) = self.readiness.lock().by_id.get_mut(&self.id) {
            (entry.name, entry.status) = (name.into(), Some(status.clone()));
        }
    }

    /// Marks the data as served.
    pub fn release(&self) {
        if self.readiness.lock().by_id.remove(&self.id).is_some() {
            self.readiness.0.served.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for ReadyLatch {
    fn drop(&mut self) {
        self.readiness.lock().by_id.remove(&self.id);
    }
}

impl Entry {
    /// Returns whether it does not delay readiness while others are served.
    fn is_excusable(&self) -> bool {
        self.is_late || self.status.as_ref().is_some_and(|it| it.current().connection == Connection::Off)
    }
}

impl From<Entry> for WaitingFor {
    fn from(Entry { name, status, .. }: Entry) -> Self {
        let report = status.map(|it| it.current());
        Self {
            name,
            state: report.as_ref().map(|it| it.connection.as_str()),
            last_error: report.and_then(|it| it.last_error).map(|it| it.message.to_string()),
        }
    }
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (self.state, &self.last_error) {
            (Some(state), Some(error)) => write!(f, " ({state}; last error: {error})"),
            (Some(state), None) => write!(f, " ({state})"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorKind;

    const ALL: ReadyPolicy = ReadyPolicy::All;

    fn waiting(readiness: &Readiness, policy: ReadyPolicy) -> Vec<String> {
        let report = readiness.report(policy);
        assert_eq!(report.is_ready, report.waiting.is_empty());
        report.waiting.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn readiness_waits_for_every_environment() {
        let readiness = Readiness::default();
        assert_eq!(waiting(&readiness, ALL), ["any environment: none is known"]);
        let (first, second) = (Status::new(), Status::new());
        let (one, two) = (readiness.latch_data("v/a", &first), readiness.latch_data("v/b", &second));
        second.interrupted(ErrorKind::Network, "no route");
        assert_eq!(waiting(&readiness, ALL), ["v/a (initializing)", "v/b (initializing; last error: no route)"]);
        one.release();
        assert_eq!(waiting(&readiness, ALL), ["v/b (initializing; last error: no route)"]);
        two.release();
        assert!(readiness.report(ALL).is_ready);
    }

    #[test]
    fn a_rejected_environment_is_excused_while_others_are_served() {
        let readiness = Readiness::default();
        let (bad, good) = (Status::new(), Status::new());
        let (_bad, latch) = (readiness.latch_data("v/bad", &bad), readiness.latch_data("v/good", &good));
        bad.refused(ErrorKind::Response(401), "answered 401");
        assert_eq!(waiting(&readiness, ALL).len(), 2);
        latch.release();
        let report = readiness.report(ALL);
        assert!(report.is_ready);
        assert_eq!(report.excused[0].to_string(), "v/bad (off; last error: answered 401)");
    }

    #[test]
    fn readiness_is_not_reached_by_rejections_only() {
        let readiness = Readiness::default();
        let status = Status::new();
        let _latch = readiness.latch_data("v/a", &status);
        status.refused(ErrorKind::Response(401), "answered 401");
        for policy in [ALL, ReadyPolicy::Any] {
            assert_eq!(waiting(&readiness, policy), ["v/a (off; last error: answered 401)"]);
        }
        assert!(readiness.report(ReadyPolicy::Started).is_ready);
    }

    #[test]
    fn removed_environments_are_not_waited_for() {
        let readiness = Readiness::default();
        let latch = readiness.latch_data("list", &Status::new());
        latch.follow("v/a", &Status::new());
        assert_eq!(waiting(&readiness, ALL), ["v/a (initializing)"]);
        readiness.latch_data("v/b", &Status::new()).release();
        drop(latch);
        assert!(readiness.report(ALL).is_ready);
    }

    #[test]
    fn late_environments_count_and_are_not_waited_for() {
        let readiness = Readiness::default();
        let (first, second) = (Status::new(), Status::new());
        let late = readiness.latch_late_data("v/a", &first);
        assert_eq!(waiting(&readiness, ALL), ["v/a (initializing)"], "nothing else is served");
        let _later = readiness.latch_late_data("v/b", &second);
        late.release();
        assert!(readiness.report(ALL).is_ready);
    }

    #[test]
    fn a_ready_process_stays_ready_until_it_ends() {
        let readiness = Readiness::default();
        readiness.latch_data("v/a", &Status::new()).release();
        let ending = readiness.latch("shutting down");
        assert_eq!(waiting(&readiness, ReadyPolicy::Started), ["shutting down"]);
        drop(ending);
        assert!(readiness.report(ALL).is_ready);
        let _later = readiness.latch_data("v/b", &Status::new());
        assert!(readiness.report(ALL).is_ready, "an environment that comes later takes nothing away");
        let _ending = readiness.latch("shutting down");
        assert_eq!(waiting(&readiness, ALL), ["shutting down"]);
    }
}
