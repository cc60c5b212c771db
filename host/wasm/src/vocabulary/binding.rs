//! Words of binding files: which hook a plugin answers, where, in which order, and within which limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use yardarm_core::EnvironmentLabel;

/// Linear memory that a binding may allow at most, in MiB.
pub(crate) const LARGEST_MEMORY_MB: u32 = 256;
/// Time that a binding may allow at most.
pub(crate) const LONGEST_DEADLINE_MS: i64 = 60_000;

/// A place in the host where plugins are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// May this request or stream proceed, and as whom?
    RequestAuth,
    /// What happens to each analytics event of a batch?
    EventFilter,
    /// What do SDKs get to see of the flag data?
    PayloadTransform,
    /// What does a client-side SDK get to see of its results?
    EvaluationTransform,
}

/// What a chain does when a plugin cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing passes: 503.
    Closed,
    /// As if the plugin were not there. `request-auth` only.
    Open,
    /// Events wait, bounded, and are tried again.
    Hold,
    /// Events are lost, counted.
    Drop,
    /// Data goes on as it came to this plugin.
    Pass,
    /// What was served before stays.
    LastGood,
}

/// Whether a call gets an instance of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A fresh instance per call.
    Call,
    /// Warm instances, used one call at a time.
    Pool,
}

/// First key of the order within a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the others.
    Early,
    /// The default.
    Normal,
    /// After the others.
    Late,
}

/// Where a plugin applies and under which limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bind {
    /// The hook it answers.
    pub hook: Hook,
    /// Patterns over environment names (or `vendor/name`), `*` and `?` allowed; any may match.
    pub environments: Vec<Arc<str>>,
    /// Kinds of callers; empty means all.
    pub sdk: Vec<Arc<str>>,
    /// Patterns over route identifiers; empty means all.
    pub routes: Vec<Arc<str>>,
    /// First key of the order.
    pub phase: Phase,
    /// Second key of the order, lower runs first.
    pub priority: i64,
    /// What happens when the plugin cannot answer.
    pub on_failure: Policy,
    /// Whether a missing plugin counts as failing.
    pub required: bool,
    /// Time for one call.
    #[serde(serialize_with = "as_millis")]
    pub deadline: Duration,
    /// Linear memory of one instance, in MiB.
    pub memory_mb: u32,
    /// Whether a call gets an instance of its own; decided by measurement if absent.
    pub isolation: Option<Isolation>,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] =
        [Self::RequestAuth, Self::EventFilter, Self::PayloadTransform, Self::EvaluationTransform];

    /// The name in bindings, metrics and the interface.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestAuth => "request-auth",
            Self::EventFilter => "event-filter",
            Self::PayloadTransform => "payload-transform",
            Self::EvaluationTransform => "evaluation-transform",
        }
    }

    /// Position in arrays with one field per hook.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Failure policies on offer, the default first.
    pub(crate) fn policies(self) -> &'static [Policy] {
        match self {
            Self::RequestAuth => &[Policy::Closed, Policy::Open],
            Self::EventFilter => &[Policy::Hold, Policy::Drop, Policy::Pass],
            Self::PayloadTransform => &[Policy::LastGood, Policy::Pass],
            Self::EvaluationTransform => &[Policy::Closed, Policy::Pass],
        }
    }

    fn default_deadline(self) -> Duration {
        Duration::from_millis(match self {
            Self::RequestAuth | Self::EvaluationTransform => 5,
            Self::EventFilter => 20,
            Self::PayloadTransform => 2_000,
        })
    }

    fn default_memory_mb(self) -> u32 {
        match self {
            Self::RequestAuth => 16,
            Self::EventFilter | Self::EvaluationTransform => 32,
            Self::PayloadTransform => 128,
        }
    }
}

impl Policy {
    /// The name in bindings.
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
    /// A binding to all environments with the defaults of `hook`, as a component without a binding file gets it.
    ///
    /// Nobody asked for such a plugin by name, so its removal is not a failure.
    pub(crate) fn automatic(hook: Hook) -> Self {
        Self {
            hook,
            environments: vec!["*".into()],
            sdk: Vec::new(),
            routes: Vec::new(),
            phase: Phase::Normal,
            priority: 100,
            on_failure: hook.policies()[0],
            required: false,
            deadline: hook.default_deadline(),
            memory_mb: hook.default_memory_mb(),
            isolation: None,
        }
    }

    /// Whether the binding speaks of an environment.
    pub(crate) fn covers(&self, label: &EnvironmentLabel) -> bool {
        let full = label.to_string();
        self.environments.iter().any(|pattern| matches(pattern, label.name()) || matches(pattern, &full))
    }

    /// Whether the binding speaks of a kind of caller.
    pub(crate) fn covers_sdk(&self, sdk: &str) -> bool {
        self.sdk.is_empty() || self.sdk.iter().any(|known| **known == *sdk)
    }

    /// Whether the binding speaks of a route.
    pub(crate) fn covers_route(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|pattern| matches(pattern, route))
    }
}

/// What must not be missing.
pub(crate) fn only_required(binds: Vec<Bind>) -> Vec<Bind> {
    binds.into_iter().filter(|bind| bind.required).collect()
}

/// Matches `*` (any text) and `?` (any one character).
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
