//! Words of binding files: which hook a plugin answers, where, in which order, and within which limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use yardarm_core::EnvironmentLabel;

use super::{Pattern, Required};

/// Maximum linear memory that a binding may allow, in MiB.
pub(crate) const LARGEST_MEMORY_MB: u32 = 256;
/// Maximum deadline that a binding may set.
pub(crate) const LONGEST_DEADLINE_MS: i64 = 60_000;

/// A place in the host where plugins are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Decides whether a request or stream may proceed, and under which identity.
    RequestAuth,
    /// Decides on each analytics event of a batch.
    EventFilter,
    /// Edits the flag data that SDKs receive.
    PayloadTransform,
    /// Adds attributes to contexts before an evaluation.
    ContextEnrichment,
    /// Edits the results that a client-side SDK receives.
    EvaluationTransform,
    /// Fetches or computes what other hooks of the plugin read, apart from calls.
    Background,
    /// Receives changes of flag data, after they are served.
    ChangeListener,
    /// Chooses the environment of a request.
    RouteResolver,
}

/// What a chain does when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The request is rejected with 503.
    Closed,
    /// The plugin is skipped. `request-auth` only.
    Open,
    /// Events are held, bounded, and retried.
    Hold,
    /// Events are dropped and counted.
    Drop,
    /// Data continues as this plugin received it.
    Pass,
    /// The previous data is served.
    LastGood,
}

/// What happens to a request when every plugin of its `request-auth` chain abstains. Never "unauthorized", after which SDKs
/// stop for good: that no plugin knows a caller is not a decision about the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllAbstain {
    /// It is rejected with 503, and SDKs retry.
    #[default]
    Unavailable,
    /// It is rejected with 403.
    Forbidden,
    /// It is admitted.
    Allow,
}

/// Rules for the decisions of `request-auth` chains.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmissionRules {
    /// What happens to a request when every plugin abstains.
    pub all_abstain: AllAbstain,
    /// Beginnings of names of response headers that belong to vendors' protocols, so that plugins may not add them.
    pub vendor_headers: &'static [&'static str],
}

/// Environments that a `route-resolver` may choose for a request without a credential of them, if they have request plugins:
/// patterns for names (or `vendor/name`).
pub type DelegatedEnvironments = Arc<[Pattern]>;

/// Whether instances of a plugin may keep state between calls, as its manifest declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StatePolicy {
    /// Calls never depend on earlier ones.
    None,
    /// Instances are reused and keep what they like; any of them may be replaced at any time.
    Cache,
}

/// Where the values are that a plugin stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum KvStorage {
    /// In memory, as long as the plugin runs.
    #[default]
    Memory,
    /// In the data folder too, for the next start.
    Disk,
    /// In the database of the gateway's settings, which other gateways share.
    Redis,
}

/// Whether each call gets its own instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A fresh instance per call.
    Call,
    /// Warm instances, used one call at a time.
    Pool,
}

/// The primary sort key within a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the others.
    Early,
    /// The default.
    Normal,
    /// After the others.
    Late,
}

/// The place where a plugin applies, with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bind {
    /// The hook.
    pub hook: Hook,
    /// Patterns for environment names (or `vendor/name`), `*` and `?` allowed; any may match.
    #[schema(value_type = Vec<String>)]
    pub environments: Vec<Pattern>,
    /// Kinds of callers; empty means all.
    #[schema(value_type = Vec<String>)]
    pub sdk: Vec<Arc<str>>,
    /// Patterns for route identifiers; empty means all.
    #[schema(value_type = Vec<String>)]
    pub routes: Vec<Pattern>,
    /// Primary sort key.
    pub phase: Phase,
    /// Secondary sort key; lower values run first.
    pub priority: i64,
    /// What happens when the plugin fails.
    pub on_failure: Policy,
    /// Whether a plugin that does not run counts as a failure: `true`, `false` or `"always"`.
    #[schema(value_type = serde_json::Value)]
    pub required: Required,
    /// Deadline of one call.
    #[serde(serialize_with = "as_millis", deserialize_with = "of_millis")]
    #[schema(value_type = u64)]
    pub deadline: Duration,
    /// Linear memory of one instance, in MiB.
    pub memory_mb: u32,
    /// Whether each call gets its own instance; decided by measurement if absent.
    pub isolation: Option<Isolation>,
    /// Time between two calls of `background`.
    #[serde(default = "usual_interval", serialize_with = "as_millis", deserialize_with = "of_millis")]
    #[schema(value_type = u64)]
    pub interval: Duration,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 8] = [
        Self::RequestAuth,
        Self::EventFilter,
        Self::PayloadTransform,
        Self::ContextEnrichment,
        Self::EvaluationTransform,
        Self::Background,
        Self::ChangeListener,
        Self::RouteResolver,
    ];

    /// Returns the name in bindings, metrics and the interface.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestAuth => "request-auth",
            Self::EventFilter => "event-filter",
            Self::PayloadTransform => "payload-transform",
            Self::ContextEnrichment => "context-enrichment",
            Self::EvaluationTransform => "evaluation-transform",
            Self::Background => "background",
            Self::ChangeListener => "change-listener",
            Self::RouteResolver => "route-resolver",
        }
    }

    /// Returns whether the same input must have the same output, so that results can be shared and calls repeated.
    pub(crate) fn is_pure(self) -> bool {
        match self {
            Self::RequestAuth | Self::Background | Self::ChangeListener | Self::RouteResolver => false,
            Self::EventFilter | Self::PayloadTransform | Self::ContextEnrichment | Self::EvaluationTransform => true,
        }
    }

    /// Returns whether calls may read and write stored values: not where replies are shared between clients or repeated.
    pub(crate) fn may_use_kv(self) -> bool {
        !matches!(self, Self::PayloadTransform | Self::EvaluationTransform)
    }

    /// Returns whether calls may read the time and random numbers: not where replies are shared between clients or
    /// repeated, because nothing asks again when time has passed.
    pub(crate) fn may_read_clock(self) -> bool {
        !matches!(self, Self::PayloadTransform | Self::EvaluationTransform)
    }

    /// Returns whether calls may send requests: not where the time of a call matters or the same input must have the same
    /// output.
    pub(crate) fn may_send_requests(self) -> bool {
        matches!(self, Self::RequestAuth | Self::Background | Self::ChangeListener)
    }

    /// Returns whether calls are apart from requests and from data, so that nothing depends on their success.
    pub(crate) fn is_apart(self) -> bool {
        matches!(self, Self::Background | Self::ChangeListener)
    }

    /// Returns the index in arrays with one element per hook.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Returns the failure policies that are allowed, the default first.
    pub(crate) fn policies(self) -> &'static [Policy] {
        match self {
            Self::RequestAuth => &[Policy::Closed, Policy::Open],
            Self::EventFilter => &[Policy::Hold, Policy::Drop, Policy::Pass],
            Self::PayloadTransform => &[Policy::LastGood, Policy::Pass],
            Self::ContextEnrichment => &[Policy::Pass, Policy::Closed],
            Self::EvaluationTransform => &[Policy::Closed, Policy::Pass],
            Self::RouteResolver => &[Policy::Closed, Policy::Pass],
            Self::Background | Self::ChangeListener => &[Policy::Pass],
        }
    }

    fn default_deadline(self) -> Duration {
        Duration::from_millis(match self {
            Self::ContextEnrichment | Self::RouteResolver => 2,
            Self::RequestAuth | Self::EvaluationTransform => 5,
            Self::EventFilter => 20,
            Self::PayloadTransform => 2_000,
            Self::Background | Self::ChangeListener => 5_000,
        })
    }

    fn default_memory_mb(self) -> u32 {
        match self {
            Self::PayloadTransform => 128,
            _ => 32,
        }
    }
}

impl Policy {
    /// Returns the name in bindings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Hold => "hold",
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::LastGood => "last-good",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Bind {
    /// Creates a binding to all environments with the defaults of `hook`, for a component without a binding file.
    ///
    /// Such a plugin is not required, so its removal is not a failure.
    pub(crate) fn automatic(hook: Hook) -> Self {
        Self {
            hook,
            environments: vec!["*".into()],
            sdk: Vec::new(),
            routes: Vec::new(),
            phase: Phase::Normal,
            priority: 100,
            on_failure: hook.policies()[0],
            required: Required::No,
            deadline: hook.default_deadline(),
            memory_mb: hook.default_memory_mb(),
            isolation: None,
            interval: usual_interval(),
        }
    }

    /// Returns whether the binding applies to an environment.
    pub(crate) fn covers(&self, label: &EnvironmentLabel) -> bool {
        self.environments.iter().any(|pattern| pattern.matches_environment(label))
    }

    /// Returns whether the binding applies to a kind of caller.
    pub(crate) fn covers_sdk(&self, sdk: &str) -> bool {
        self.sdk.is_empty() || self.sdk.iter().any(|known| **known == *sdk)
    }

    /// Returns whether the binding applies to a route.
    pub(crate) fn covers_route(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|pattern| pattern.matches(route))
    }
}

/// Returns the required bindings.
pub(crate) fn only_required(binds: Vec<Bind>) -> Vec<Bind> {
    binds.into_iter().filter(|bind| bind.required != Required::No).collect()
}

fn usual_interval() -> Duration {
    Duration::from_secs(60)
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn of_millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
