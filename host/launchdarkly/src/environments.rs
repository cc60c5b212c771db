//! Which environments exist, what state each is in, and how a credential finds its environment.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use yardarm_core::status::{Connection, Status};
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, EnvironmentLabel};

use crate::config::EnvironmentConfig;
use crate::dataset::FlagData;
use crate::upstream::events::EventPort;

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "launchdarkly";

/// One environment, or one payload-filtered variant of it.
pub(crate) struct LdEnvironment {
    pub(crate) label: EnvironmentLabel,
    pub(crate) config: EnvironmentConfig,
    /// Key of the payload filter; empty for the unfiltered environment.
    pub(crate) filter: Arc<str>,
    pub(crate) data: Environment<FlagData>,
    pub(crate) status: Status,
    /// `None` when events are switched off.
    pub(crate) events: Option<EventPort>,
    /// What is served lacks something that upstream said, because a payload plugin failed.
    pub(crate) is_behind: AtomicBool,
    recent: Mutex<VecDeque<RecentChange>>,
    has_started: AtomicBool,
}

/// A change that was served, for people who want to see what happened.
#[derive(Debug, Clone)]
pub(crate) struct RecentChange {
    pub(crate) at_ms: u64,
    /// Number of the change.
    pub(crate) seq: u64,
    pub(crate) text: String,
}

/// Changes that are remembered per environment.
const RECENT: usize = 32;

/// What an environment can answer (section 1.5 of the compatibility page).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first connection is under way.
    Starting,
    /// The first connection takes too long: streams may wait, everything else is answered 503.
    Empty,
    /// Upstream refused the key and there is no data.
    Rejected,
    /// There is data, fresh or from disk.
    Ready,
}

/// Kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SdkKind {
    Server,
    Mobile,
    Browser,
}

/// What a credential and a filter lead to.
pub(crate) enum Lookup {
    Found(Arc<LdEnvironment>),
    UnknownCredential,
    UnknownFilter,
}

/// All environments, found by credential. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Environments(Arc<ArcSwap<Index>>);

#[derive(Default)]
struct Index {
    all: Vec<Arc<LdEnvironment>>,
    by_credential: HashMap<SdkKind, HashMap<Box<str>, Variants>>,
}

/// The unfiltered environment and its filtered variants, by filter key.
type Variants = HashMap<Arc<str>, Arc<LdEnvironment>>;

impl LdEnvironment {
    pub(crate) fn new(
        config: EnvironmentConfig,
        filter: Arc<str>,
        data: Environment<FlagData>,
        events: Option<EventPort>,
    ) -> Self {
        Self {
            label: label(&config, &filter),
            config,
            filter,
            data,
            status: Status::new(),
            events,
            is_behind: AtomicBool::new(false),
            recent: Mutex::default(),
            has_started: AtomicBool::new(false),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.data.has_data() {
            Phase::Ready
        } else if self.status.report().connection == Connection::Off {
            Phase::Rejected
        } else if self.has_started.load(Ordering::Relaxed) {
            Phase::Empty
        } else {
            Phase::Starting
        }
    }

    /// Remembers a change for people; the oldest is forgotten.
    pub(crate) fn remember(&self, text: String) {
        let seq = self.data.snapshot().map_or(0, |it| it.seq());
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(RecentChange { at_ms: unix_ms(), seq, text });
    }

    /// The newest changes, newest first.
    pub(crate) fn recent(&self) -> Vec<RecentChange> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The time in which the first connection should have succeeded is over.
    pub(crate) fn start_timed_out(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }
}

/// `NAME` or `NAME/FILTER`.
pub(crate) fn label(config: &EnvironmentConfig, filter: &str) -> EnvironmentLabel {
    if filter.is_empty() {
        EnvironmentLabel::new(VENDOR, config.name.as_str())
    } else {
        EnvironmentLabel::new(VENDOR, format!("{}/{filter}", config.name))
    }
}

impl SdkKind {
    /// As plugins and metrics call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Mobile => "mobile",
            Self::Browser => "client",
        }
    }
}

impl Environments {
    /// Replaces the list as a whole.
    pub(crate) fn replace(&self, all: Vec<Arc<LdEnvironment>>) {
        let mut by_credential: HashMap<SdkKind, HashMap<Box<str>, Variants>> = HashMap::new();
        for environment in &all {
            let config = &environment.config;
            let credentials = [
                (SdkKind::Server, Some(config.sdk_key.expose())),
                (SdkKind::Mobile, config.mobile_key.as_ref().map(|it| it.expose())),
                (SdkKind::Browser, config.env_id.as_ref().map(|it| it.as_str())),
            ];
            for (kind, credential) in credentials {
                let Some(credential) = credential else { continue };
                let variants = by_credential.entry(kind).or_default().entry(credential.into()).or_default();
                variants.insert(Arc::clone(&environment.filter), Arc::clone(environment));
            }
        }
        self.0.store(Arc::new(Index { all, by_credential }));
    }

    /// Every environment, in configured order.
    pub(crate) fn all(&self) -> Vec<Arc<LdEnvironment>> {
        self.0.load().all.clone()
    }

    /// The environment for a credential of `kind` and a filter key, which is empty for the unfiltered one.
    pub(crate) fn find(&self, kind: SdkKind, credential: &str, filter: &str) -> Lookup {
        let index = self.0.load();
        let Some(variants) = index.by_credential.get(&kind).and_then(|it| it.get(credential)) else {
            return Lookup::UnknownCredential;
        };
        variants.get(filter).map_or(Lookup::UnknownFilter, |it| Lookup::Found(Arc::clone(it)))
    }
}
