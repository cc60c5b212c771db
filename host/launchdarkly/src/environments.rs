//! Which environments exist, what state each is in, and how a credential finds its environment.

pub(crate) mod archive;
mod assembly;
pub(crate) mod auto_config_state;
pub(crate) mod autoconfig;
mod index;
pub(crate) mod offline;
pub(crate) mod persisted_list;
pub(crate) mod representation;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rand::seq::IndexedRandom;
use tokio::sync::watch;
use yardarm_core::budget::Trust;
use yardarm_core::change_log::UpdateSource;
use yardarm_core::report::RecentChanges;
use yardarm_core::status::{Connection, Status};
use yardarm_core::{Environment, EnvironmentLabel};

pub(crate) use self::assembly::{EnvironmentAssembly, Variant};
pub(crate) use self::index::{Environments, Lookup};
use crate::config::EnvironmentConfig;
use crate::dataset::FlagData;
use crate::evaluated_streams::EvaluatedStreams;
use crate::fdv2::Fdv2Data;
use crate::store::EnvironmentStore;
use crate::upstream::events::EventPort;

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "launchdarkly";

/// One environment, or one payload-filtered variant of it.
pub(crate) struct LdEnvironment {
    pub(crate) label: EnvironmentLabel,
    settings: LiveConfig,
    /// Key of the payload filter; empty for the unfiltered environment.
    pub(crate) filter: Arc<str>,
    pub(crate) data: Environment<FlagData>,
    /// The same for the second version of the delivery protocol, where it is spoken.
    pub(crate) fdv2: Option<Environment<Fdv2Data>>,
    pub(crate) status: Status,
    pub(crate) events: Events,
    /// `None` without a database.
    pub(crate) store: Option<Arc<EnvironmentStore>>,
    /// Where mobile and browser streams hear of changes, each a little later in its own way; empty for no delay.
    ping_sources: Vec<Arc<dyn UpdateSource>>,
    /// Where those of them that know their context hear of their results, if they are to.
    pub(crate) evaluated_streams: Option<EvaluatedStreams>,
    /// What is served lacks something that upstream said, because a payload plugin failed.
    pub(crate) is_behind: AtomicBool,
    pub(crate) recent: RecentChanges,
    has_started: AtomicBool,
}

/// What becomes of events.
pub(crate) enum Events {
    /// They are not wanted, and SDKs are told so.
    Off,
    /// They are accepted and forgotten: nothing leaves in offline mode.
    Discarded,
    /// They are forwarded.
    Forwarded(EventPort),
}

/// Settings that may change while the environment is served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LiveConfig(Arc<(ArcSwap<EnvironmentConfig>, watch::Sender<()>)>);

/// What an environment can answer (section 1.5 of the compatibility page).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first connection is under way.
    Starting,
    /// The first connection takes too long: streams may wait, everything else is answered 503.
    Empty,
    /// Upstream refuses the key and there is no data: everything is answered 503 until it accepts the key.
    Rejected,
    /// There is data, fresh or from disk.
    Ready,
}

/// Kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SdkKind {
    Server,
    Mobile,
    Browser,
}

impl LdEnvironment {
    /// The settings of this moment. Load them once per request and keep them to its end.
    pub(crate) fn config(&self) -> Arc<EnvironmentConfig> {
        self.settings.get()
    }

    /// The settings as something to watch.
    pub(crate) fn settings(&self) -> &LiveConfig {
        &self.settings
    }

    /// Where a mobile or browser stream hears that something has changed.
    pub(crate) fn ping_source(&self) -> Arc<dyn UpdateSource> {
        match self.ping_sources.choose(&mut rand::rng()) {
            Some(delayed) => Arc::clone(delayed),
            None => self.data.update_source(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        // The view for the second version of the protocol follows a moment after the data itself.
        if self.data.has_data() && self.fdv2.as_ref().is_none_or(Environment::has_data) {
            Phase::Ready
        } else if self.status.current().connection == Connection::Off {
            // The database may hold data still.
            if self.store.as_ref().is_some_and(|it| it.is_unread()) { Phase::Starting } else { Phase::Rejected }
        } else if self.has_started.load(Ordering::Relaxed) {
            Phase::Empty
        } else {
            Phase::Starting
        }
    }

    /// Remembers a change for people.
    pub(crate) fn remember(&self, text: String) {
        self.recent.remember(self.data.snapshot().map_or(0, |it| it.seq()), text);
    }

    /// The time in which the first connection should have succeeded is over.
    pub(crate) fn start_timed_out(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }
}

impl Events {
    /// The way out, if there is one.
    pub(crate) fn port(&self) -> Option<&EventPort> {
        match self {
            Self::Forwarded(port) => Some(port),
            Self::Off | Self::Discarded => None,
        }
    }
}

impl LiveConfig {
    pub(crate) fn new(config: EnvironmentConfig) -> Self {
        Self(Arc::new((ArcSwap::from_pointee(config), watch::Sender::new(()))))
    }

    pub(crate) fn get(&self) -> Arc<EnvironmentConfig> {
        self.0.0.load_full()
    }

    pub(crate) fn set(&self, config: EnvironmentConfig) {
        self.0.0.store(Arc::new(config));
        self.0.1.send_replace(());
    }

    /// Wakes after each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.1.subscribe()
    }
}

/// `NAME` or `NAME/FILTER`.
pub(crate) fn label(name: &str, filter: &str) -> EnvironmentLabel {
    if filter.is_empty() {
        EnvironmentLabel::new(VENDOR, name)
    } else {
        EnvironmentLabel::new(VENDOR, format!("{name}/{filter}"))
    }
}

impl SdkKind {
    /// How well the credential of such a caller is guarded. Mobile keys are shipped within apps.
    pub(crate) fn trust(self) -> Trust {
        match self {
            Self::Server => Trust::Secret,
            Self::Mobile => Trust::Embedded,
            Self::Browser => Trust::Public,
        }
    }

    /// As plugins and metrics call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Mobile => "mobile",
            Self::Browser => "client",
        }
    }
}
