//! The binding file `NAME.toml` beside `NAME.wasm`, in which the operator configures a plugin.
//!
//! The plugin declares what it is, the operator where it applies. All errors of a file are reported at once, each with
//! its key path; for an unknown key the most similar known one is named.

mod reader;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;

use self::reader::{Faults, Section, read_grants, read_sha256};
use crate::capability::Grants;

/// Maximum linear memory that a binding may allow, in MiB.
pub(crate) const LARGEST_MEMORY_MB: u32 = 256;
/// Maximum deadline that a binding may set.
const LONGEST_DEADLINE_MS: i64 = 60_000;

/// A place in the host where plugins are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Decides whether a request or stream may proceed, and under which identity.
    RequestAuth,
    /// Decides on each analytics event of a batch.
    EventFilter,
    /// Edits the flag data that SDKs receive.
    PayloadTransform,
    /// Edits the results that a client-side SDK receives.
    EvaluationTransform,
}

/// What a chain does when a plugin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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

/// Whether each call gets its own instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A fresh instance per call.
    Call,
    /// Warm instances, used one call at a time.
    Pool,
}

/// The primary sort key within a chain.
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

/// The place where a plugin applies, with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bind {
    /// The hook.
    pub hook: Hook,
    /// Patterns for environment names (or `vendor/name`), `*` and `?` allowed; any may match.
    pub environments: Vec<Arc<str>>,
    /// Kinds of callers; empty means all.
    pub sdk: Vec<Arc<str>>,
    /// Patterns for route identifiers; empty means all.
    pub routes: Vec<Arc<str>>,
    /// Primary sort key.
    pub phase: Phase,
    /// Secondary sort key; lower values run first.
    pub priority: i64,
    /// What happens when the plugin fails.
    pub on_failure: Policy,
    /// Whether a missing plugin counts as a failure.
    pub required: bool,
    /// Deadline of one call.
    #[serde(serialize_with = "as_millis")]
    pub deadline: Duration,
    /// Linear memory of one instance, in MiB.
    pub memory_mb: u32,
    /// Whether each call gets its own instance; decided by measurement if absent.
    pub isolation: Option<Isolation>,
}

/// A validated binding file.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// The name that the component must declare.
    pub(crate) name: Option<Arc<str>>,
    /// The digest that the component file must have.
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) grants: Grants,
    /// Whether the component file may be larger than usual.
    pub(crate) large: bool,
    /// The plugin's configuration, a JSON object.
    pub(crate) config: serde_json::Map<String, serde_json::Value>,
    pub(crate) binds: Vec<Bind>,
    /// Digest of the file's text.
    pub(crate) digest: [u8; 32],
}

/// An invalid binding file.
#[derive(Debug, Clone)]
pub(crate) struct BadManifest {
    /// Each error with its key path.
    pub(crate) faults: Vec<String>,
    /// Bindings that fail closed as long as the file is invalid and no earlier version runs.
    pub(crate) required_bindings: Vec<Bind>,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] =
        [Self::RequestAuth, Self::EventFilter, Self::PayloadTransform, Self::EvaluationTransform];

    /// Returns the name in bindings, metrics and the interface.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestAuth => "request-auth",
            Self::EventFilter => "event-filter",
            Self::PayloadTransform => "payload-transform",
            Self::EvaluationTransform => "evaluation-transform",
        }
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
            required: false,
            deadline: hook.default_deadline(),
            memory_mb: hook.default_memory_mb(),
            isolation: None,
        }
    }

    /// Returns whether the binding applies to an environment.
    pub(crate) fn covers(&self, label: &EnvironmentLabel) -> bool {
        let full = label.to_string();
        self.environments.iter().any(|pattern| matches(pattern, label.name()) || matches(pattern, &full))
    }

    /// Returns whether the binding applies to a kind of caller.
    pub(crate) fn covers_sdk(&self, sdk: &str) -> bool {
        self.sdk.is_empty() || self.sdk.iter().any(|known| **known == *sdk)
    }

    /// Returns whether the binding applies to a route.
    pub(crate) fn covers_route(&self, route: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|pattern| matches(pattern, route))
    }
}

impl Manifest {
    /// Creates the manifest of a component without a binding file: no grants, no configuration; its hooks are bound
    /// later.
    pub(crate) fn automatic() -> Self {
        Self {
            name: None,
            sha256: None,
            grants: Grants::default(),
            large: false,
            config: serde_json::Map::new(),
            binds: Vec::new(),
            digest: [0; 32],
        }
    }

    /// Parses the bytes of a binding file.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, BadManifest> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => Err(BadManifest {
                faults: vec![format!("byte {} is not valid UTF-8", error.valid_up_to())],
                required_bindings: required_bindings(&String::from_utf8_lossy(bytes), &[]),
            }),
        }
    }

    /// Parses a binding file.
    pub(crate) fn parse(text: &str) -> Result<Self, BadManifest> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| BadManifest {
            faults: vec![syntax_fault(text, &error)],
            required_bindings: required_bindings(text, &[]),
        })?;
        let mut faults = Faults::default();
        let mut root = Section::new("", &table, &mut faults);
        let plugin = root.table("plugin").cloned().unwrap_or_default();
        let entries = root.tables("bind").into_iter().cloned().collect::<Vec<_>>();
        root.end();

        let mut section = Section::new("plugin", &plugin, &mut faults);
        let name = section.text("name").map(Arc::from);
        let sha256 = section.text("sha256").map(str::to_owned);
        let grants = section.texts("grants");
        let large = section.choice("profile", &[("standard", false), ("large", true)]).unwrap_or(false);
        let config = section.table("config").cloned().unwrap_or_default();
        section.end();
        let sha256 = sha256.and_then(|text| read_sha256(&text, &mut faults));
        let grants = read_grants(&grants, &mut faults);
        let config = match serde_json::to_value(&config) {
            Ok(serde_json::Value::Object(config)) => config,
            _ => {
                faults.add("plugin.config", "cannot be written as JSON");
                serde_json::Map::new()
            }
        };
        let binds: Vec<Bind> = entries
            .iter()
            .enumerate()
            .filter_map(|(index, table)| read_bind(&format!("bind[{index}]"), table, large, &mut faults))
            .collect();
        if !faults.is_empty() {
            return Err(BadManifest {
                faults: faults.into_inner(),
                required_bindings: required_bindings(text, &binds),
            });
        }
        Ok(Self { name, sha256, grants, large, config, binds, digest: Sha256::digest(text).into() })
    }
}

/// Returns line, column and reason, without the line itself, which may contain a token.
fn syntax_fault(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|it| *it != '\n').count() + 1);
    format!("line {line}, column {column}: {message}")
}

/// Returns the bindings that an invalid binding file closes: its required bindings as far as they can be parsed, and,
/// for all environments, each hook that is required by default, occurs in the text and could not be parsed.
fn required_bindings(text: &str, binds: &[Bind]) -> Vec<Bind> {
    let mut required_bindings: Vec<Bind> = binds.iter().filter(|bind| bind.required).cloned().collect();
    for hook in [Hook::RequestAuth, Hook::EventFilter] {
        if text.matches(hook.name()).count() > binds.iter().filter(|bind| bind.hook == hook).count() {
            required_bindings.push(Bind { required: true, ..Bind::automatic(hook) });
        }
    }
    required_bindings
}

fn read_bind(path: &str, table: &toml::Table, large: bool, faults: &mut Faults) -> Option<Bind> {
    let before = faults.count();
    let mut section = Section::new(path, table, faults);
    let hooks = Hook::ALL.map(|hook| (hook.name(), hook));
    let hook = section.required_choice("hook", &hooks);
    let environments = section.texts("environments");
    let sdk = section.choices("sdk", &["server", "mobile", "client"]);
    let routes = section.texts("routes");
    let phases = [("early", Phase::Early), ("normal", Phase::Normal), ("late", Phase::Late)];
    let phase = section.choice("phase", &phases).unwrap_or(Phase::Normal);
    let priority = section.integer("priority", i64::MIN, i64::MAX).unwrap_or(100);
    let accept_open = section.boolean("i_accept_unauthenticated").unwrap_or(false);
    let required = section.boolean("required");
    let isolation = section.choice("isolation", &[("call", Isolation::Call), ("pool", Isolation::Pool)]);
    let policies: Vec<(&str, Policy)> =
        hook.map_or(&[][..], Hook::policies).iter().map(|policy| (policy.name(), *policy)).collect();
    let on_failure = if hook.is_some() { section.choice("on_failure", &policies) } else { section.skip("on_failure") };
    let limits = section.table("limits").cloned().unwrap_or_default();
    section.end();
    let limits_path = format!("{path}.limits");
    let mut section = Section::new(&limits_path, &limits, faults);
    let deadline_ms = section.integer("deadline_ms", 1, LONGEST_DEADLINE_MS);
    let memory_mb = section.integer("memory_mb", 1, i64::from(LARGEST_MEMORY_MB));
    section.end();

    let hook = hook?;
    let default = Bind::automatic(hook);
    let on_failure = on_failure.unwrap_or(default.on_failure);
    if on_failure == Policy::Open && !accept_open {
        let text =
            "`open` admits every request while the plugin fails; add `i_accept_unauthenticated = true` to accept this";
        faults.add(&format!("{path}.on_failure"), text);
    }
    for (key, is_set, applies) in [
        ("sdk", !sdk.is_empty(), hook != Hook::PayloadTransform),
        ("routes", !routes.is_empty(), matches!(hook, Hook::RequestAuth | Hook::EventFilter)),
    ] {
        if is_set && !applies {
            faults.add(&format!("{path}.{key}"), format!("has no effect for `{hook}`"));
        }
    }
    let memory_mb = memory_mb.and_then(|mb| u32::try_from(mb).ok());
    let usual_memory_mb = if large { LARGEST_MEMORY_MB } else { default.memory_mb };
    (faults.count() == before).then(|| Bind {
        environments: if environments.is_empty() { default.environments } else { environments },
        sdk,
        routes,
        phase,
        priority,
        on_failure,
        required: required.unwrap_or(matches!(hook, Hook::RequestAuth | Hook::EventFilter)),
        deadline: deadline_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(default.deadline, Duration::from_millis),
        memory_mb: memory_mb.unwrap_or(usual_memory_mb),
        isolation,
        ..default
    })
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

#[cfg(test)]
mod tests;
