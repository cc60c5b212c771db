//! Which environments exist, what state each is in, and how a credential finds its environment.

mod index;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::seq::IndexedRandom;
use yardarm_core::change_log::UpdateSource;
use yardarm_core::report::RecentChanges;
use yardarm_core::status::{Connection, Status};
use yardarm_core::{Environment, EnvironmentLabel};

pub(crate) use self::index::{Environments, Lookup};
pub(crate) use self::report::report;
use crate::config::{EnvironmentConfig, LiveConfig};
use crate::data::FlagData;
use crate::data::fdv2::Fdv2Data;
use crate::evaluated_streams::EvaluatedStreams;
use crate::events::EventPort;
use crate::store::EnvironmentStore;

/// One environment, or one payload-filtered variant of it.
pub(crate) struct LdEnvironment {
    pub(crate) label: EnvironmentLabel,
    pub(crate) settings: LiveConfig,
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
    pub(crate) ping_sources: Vec<Arc<dyn UpdateSource>>,
    /// Where those of them that know their context hear of their results, if they are to.
    pub(crate) evaluated_streams: Option<EvaluatedStreams>,
    /// What is served lacks something that upstream said, because a payload plugin failed.
    pub(crate) is_behind: AtomicBool,
    pub(crate) recent: RecentChanges,
    pub(crate) has_started: AtomicBool,
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
