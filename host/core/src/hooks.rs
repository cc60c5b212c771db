//! The hooks of the host, the places where plugins are called, as traits that are independent of WebAssembly.
//!
//! A vendor pins one [`Plan`] at the start of a request or change and keeps it to the end, so that no request mixes two
//! generations of plugins. Callers cannot tell whether a hook is implemented by a plugin, by a test's closure or by
//! nothing.

mod call_log;
mod changes;
mod evaluation;
mod events;
mod payload;
mod request;
mod resolver;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::call_log::{CallLog, LoggedCall};
pub use self::changes::{ChangeListener, ChangeNotice};
pub use self::evaluation::{
    ContextAttribute, ContextEnrichment, ContextView, EnrichmentFacts, EvaluationFacts, EvaluationTransform,
    ReplacedResult, ResultChange, ResultEdits, ResultView, SortedResults, ViewedResult,
};
pub use self::events::{BatchFacts, Event, EventFilter, Filtered, Filtering, Verdict};
pub use self::payload::{ItemHead, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView};
pub use self::request::{
    Admission, AdmittedRequest, Denial, DenialClass, Identity, RequestAuth, RequestFacts, RequestHead, RequestId,
    RequestOrigin,
};
pub use self::resolver::{Resolution, RouteResolver};
use crate::label::EnvironmentLabel;

/// A future that a hook returns; hooks are trait objects, so their futures are boxed.
pub type HookFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A hook could not decide, and its binding's policy does not allow continuing without it.
///
/// The caller answers 503 or keeps its previous result; it never lets the request through and never answers 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{plugin}` could not decide ({class})")]
pub struct HookFailure {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Class of the failure, such as `deadline` (see "Error codes" in `plugins/README.md`).
    pub class: &'static str,
}

/// All chains of one environment in one plan; `None` where no plugin is bound, which costs nothing.
#[derive(Clone, Default)]
pub struct EnvironmentHooks {
    /// Called once per request or stream.
    pub request_auth: Option<Arc<dyn RequestAuth>>,
    /// Called once per batch of events.
    pub event_filter: Option<Arc<dyn EventFilter>>,
    /// Called once per data change.
    pub payload_transform: Option<Arc<dyn PayloadTransform>>,
    /// Called once per context of a client-side SDK.
    pub context_enrichment: Option<Arc<dyn ContextEnrichment>>,
    /// Called once per evaluation for a client-side SDK.
    pub evaluation_transform: Option<Arc<dyn EvaluationTransform>>,
    /// Called after each change is served.
    pub change_listener: Option<Arc<dyn ChangeListener>>,
}

/// An immutable set of chains for all environments.
pub trait Plan: Send + Sync {
    /// Returns the number of the plan, which grows by one with each plan that is installed.
    fn generation(&self) -> u64;

    /// Returns the chains of one environment.
    fn environment(&self, label: &EnvironmentLabel) -> Arc<EnvironmentHooks>;

    /// Returns the resolvers of one vendor; `None` if there are none.
    fn route_resolver(&self, vendor: &'static str) -> Option<Arc<dyn RouteResolver>> {
        let _ = vendor;
        None
    }
}

/// The current plan. Cheap to clone; all clones see the same plan.
#[derive(Clone)]
pub struct Hooks(Arc<Shared>);

struct Shared {
    plan: ArcSwap<PlanCell>,
    changed: watch::Sender<u64>,
}

/// `ArcSwap` holds sized values only.
struct PlanCell(Arc<dyn Plan>);

/// The plan of a gateway without plugins.
struct NoPlugins(Arc<EnvironmentHooks>);

impl Hooks {
    /// Creates hooks that call no plugin until a plan is installed.
    #[must_use]
    pub fn none() -> Self {
        let plan: Arc<dyn Plan> = Arc::new(NoPlugins(Arc::default()));
        Self(Arc::new(Shared { plan: ArcSwap::from_pointee(PlanCell(plan)), changed: watch::Sender::new(0) }))
    }

    /// Returns the current plan. Keep it for the whole request.
    #[must_use]
    pub fn pin(&self) -> Arc<dyn Plan> {
        Arc::clone(&self.0.plan.load().0)
    }

    /// Returns the chains of one environment in the current plan, for work that calls one hook only.
    #[must_use]
    pub fn of(&self, label: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        self.0.plan.load().0.environment(label)
    }

    /// Installs `plan` with one atomic store and wakes the receivers of [`Self::changed`].
    pub fn replace(&self, plan: Arc<dyn Plan>) {
        let generation = plan.generation();
        self.0.plan.store(Arc::new(PlanCell(plan)));
        self.0.changed.send_replace(generation);
    }

    /// Returns a receiver that wakes after each change of the plan; the value is the plan's generation.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

impl Plan for NoPlugins {
    fn generation(&self) -> u64 {
        0
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.0)
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hooks").field(&self.pin().generation()).finish()
    }
}
