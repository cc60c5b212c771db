//! The served environments, the state of each, and the index from credentials to environments.

mod index;
mod initialization;
mod report;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::seq::IndexedRandom;
use tokio::sync::watch;
use yardarm_core::Environment;
use yardarm_core::change_log::UpdateSource;
use yardarm_core::status::Connection;
use yardarm_fleet::Role;
use yardarm_vendor::environment::EnvironmentBase;

pub(crate) use self::index::{Environments, Lookup};
pub(crate) use self::initialization::initialized;
pub use self::initialization::{InitializationError, InitializationPolicy};
pub(crate) use self::report::report;
use crate::config::{EnvironmentConfig, LiveConfig};
use crate::data::FlagData;
use crate::data::fdv2::Fdv2Data;
use crate::evaluated_streams::EvaluatedStreams;
use crate::events::EventPort;
use crate::store::EnvironmentStore;

/// One environment, or one payload-filtered variant of it.
///
/// It dereferences to its base: label, data, status and recent changes.
pub(crate) struct LdEnvironment {
    pub(crate) base: EnvironmentBase<FlagData>,
    pub(crate) settings: LiveConfig,
    /// Key of the payload filter; empty for the unfiltered environment.
    pub(crate) filter: Arc<str>,
    /// The data for the second version of the delivery protocol, if it is enabled.
    pub(crate) fdv2: Option<Environment<Fdv2Data>>,
    pub(crate) events: EventMode,
    /// `None` without a database.
    pub(crate) store: Option<Arc<EnvironmentStore>>,
    /// Jittered sources for mobile and browser streams; empty for no delay.
    pub(crate) ping_sources: Vec<Arc<dyn UpdateSource>>,
    /// Evaluated results for streams with a context, if that is configured.
    pub(crate) evaluated_streams: Option<EvaluatedStreams>,
    /// The role of this gateway for the environment; `None` without a fleet.
    pub(crate) role: Option<watch::Receiver<Role>>,
    pub(crate) has_started: AtomicBool,
}

/// How events of an environment are handled.
pub(crate) enum EventMode {
    /// They are rejected.
    Off,
    /// They are accepted and dropped: nothing is sent in offline mode.
    Discarded,
    /// They are forwarded.
    Forwarded(EventPort),
}

/// What an environment can answer (L038 to L051).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first connection is being established.
    Starting,
    /// The first connection takes too long: streams may wait, everything else is answered 503.
    Empty,
    /// Upstream rejects the key and there is no data: all requests are answered 503 until it accepts the key.
    Rejected,
    /// There is data, fresh or from disk.
    Ready,
}

impl Deref for LdEnvironment {
    type Target = EnvironmentBase<FlagData>;

    fn deref(&self) -> &EnvironmentBase<FlagData> {
        &self.base
    }
}

impl LdEnvironment {
    /// The current settings. Load them once per request and keep them to its end.
    pub(crate) fn config(&self) -> Arc<EnvironmentConfig> {
        self.settings.get()
    }

    /// The settings, for tasks that watch them.
    pub(crate) fn settings(&self) -> &LiveConfig {
        &self.settings
    }

    /// The source of `ping` events for a mobile or browser stream.
    pub(crate) fn ping_source(&self) -> Arc<dyn UpdateSource> {
        match self.ping_sources.choose(&mut rand::rng()) {
            Some(delayed) => Arc::clone(delayed),
            None => self.data.update_source(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        // The data for the second version of the protocol is updated a moment after the data itself.
        if self.data.has_data() && self.fdv2.as_ref().is_none_or(Environment::has_data) {
            Phase::Ready
        } else if self.status.current().connection == Connection::Off {
            // The database may still hold data.
            if self.store.as_ref().is_some_and(|it| it.is_unread()) { Phase::Starting } else { Phase::Rejected }
        } else if self.has_started.load(Ordering::Relaxed) {
            Phase::Empty
        } else {
            Phase::Starting
        }
    }

    /// Records that the first connection did not succeed in time.
    pub(crate) fn start_timed_out(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }
}

impl EventMode {
    /// The port for events, if they are forwarded.
    pub(crate) fn port(&self) -> Option<&EventPort> {
        match self {
            Self::Forwarded(port) => Some(port),
            Self::Off | Self::Discarded => None,
        }
    }
}
