//! The binding file `NAME.toml` beside `NAME.wasm`, in which the operator configures a plugin.
//!
//! The plugin declares what it is, the operator where it applies. All errors of a file are reported at once, each with
//! its key path; for an unknown key the most similar known one is named.

mod document;
mod reader;
mod rollout;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use self::document::bindings_document;
use self::reader::{Faults, Section, read_grants, read_sha256};
pub use self::schema::binding_schema;
use crate::vocabulary::{
    Bind, Grants, Hook, Isolation, KvStorage, LARGEST_MEMORY_MB, LONGEST_DEADLINE_MS, Phase, Policy, Required,
    RolloutPolicy, SetLimits,
};

/// Maximum time between two calls of `background`, in seconds.
const LONGEST_INTERVAL_S: i64 = 24 * 3600;

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
    /// Where the values are that the plugin stores.
    pub(crate) kv: KvStorage,
    /// How a new version takes the place of the running one.
    pub(crate) rollout: RolloutPolicy,
    /// The plugin's configuration, a JSON object.
    pub(crate) config: serde_json::Map<String, serde_json::Value>,
    pub(crate) binds: Vec<Bind>,
    /// Which limits each binding sets.
    pub(crate) limits: Vec<SetLimits>,
    /// Digest of the file's text.
    pub(crate) digest: [u8; 32],
    /// The file's text.
    pub(crate) source: Arc<[u8]>,
}

/// An invalid binding file.
#[derive(Debug, Clone)]
pub(crate) struct BadManifest {
    /// Each error with its key path.
    pub(crate) faults: Vec<String>,
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
            kv: KvStorage::default(),
            rollout: RolloutPolicy::default(),
            config: serde_json::Map::new(),
            binds: Vec::new(),
            limits: Vec::new(),
            digest: [0; 32],
            source: Arc::default(),
        }
    }

    /// Parses the bytes of a binding file.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, BadManifest> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => Err(BadManifest::of(format!("byte {} is not valid UTF-8", error.valid_up_to()))),
        }
    }

    /// Parses a binding file.
    pub(crate) fn parse(text: &str) -> Result<Self, BadManifest> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| BadManifest::of(syntax_fault(text, &error)))?;
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
        let storage = [("memory", KvStorage::Memory), ("disk", KvStorage::Disk), ("redis", KvStorage::Redis)];
        let kv = section.choice("kv", &storage).unwrap_or_default();
        let rollout = section.any("rollout").cloned();
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
        let (binds, limits): (Vec<Bind>, Vec<SetLimits>) = entries
            .iter()
            .enumerate()
            .filter_map(|(index, table)| read_bind(&format!("bind[{index}]"), table, large, &mut faults))
            .unzip();
        let rollout = rollout.map(|value| rollout::read(&value, &binds, &mut faults)).unwrap_or_default();
        if !faults.is_empty() {
            return Err(BadManifest { faults: faults.into_inner() });
        }
        Ok(Self {
            name,
            sha256,
            grants,
            large,
            kv,
            rollout,
            config,
            binds,
            limits,
            digest: Sha256::digest(text).into(),
            source: text.as_bytes().into(),
        })
    }
}

impl BadManifest {
    fn of(fault: String) -> Self {
        Self { faults: vec![fault] }
    }
}

/// Returns line, column and reason, without the line itself, which may contain a token.
pub(crate) fn syntax_fault(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|it| *it != '\n').count() + 1);
    format!("line {line}, column {column}: {message}")
}

fn read_bind(path: &str, table: &toml::Table, large: bool, faults: &mut Faults) -> Option<(Bind, SetLimits)> {
    let before = faults.count();
    let mut section = Section::new(path, table, faults);
    let hooks = Hook::ALL.map(|hook| (hook.name(), hook));
    let hook = section.required_choice("hook", &hooks);
    let environments = section.patterns("environments");
    let sdk = section.choices("sdk", &["server", "mobile", "client"]);
    let routes = section.patterns("routes");
    let phases = [("early", Phase::Early), ("normal", Phase::Normal), ("late", Phase::Late)];
    let phase = section.choice("phase", &phases).unwrap_or(Phase::Normal);
    let priority = section.integer("priority", i64::MIN, i64::MAX).unwrap_or(100);
    let accept_open = section.boolean("i_accept_unauthenticated").unwrap_or(false);
    let required = section.required("required");
    let interval = section.integer("interval_s", 1, LONGEST_INTERVAL_S);
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
    let has_requests = !matches!(hook, Hook::PayloadTransform | Hook::Background | Hook::ChangeListener);
    for (key, is_set, applies) in [
        ("environments", !environments.is_empty(), hook != Hook::Background),
        ("sdk", !sdk.is_empty(), has_requests),
        ("routes", !routes.is_empty(), has_requests && hook != Hook::EvaluationTransform),
        ("interval_s", interval.is_some(), hook == Hook::Background),
        ("required", required.is_some_and(|it| it != Required::No), !hook.is_apart()),
    ] {
        if is_set && !applies {
            faults.add(&format!("{path}.{key}"), format!("has no effect for `{hook}`"));
        }
    }
    let memory_mb = memory_mb.and_then(|mb| u32::try_from(mb).ok());
    let usual_memory_mb = if large { LARGEST_MEMORY_MB } else { default.memory_mb };
    let set = SetLimits { deadline: deadline_ms.is_some(), memory: memory_mb.is_some() };
    let bind = Bind {
        environments: if environments.is_empty() { default.environments } else { environments },
        sdk,
        routes,
        phase,
        priority,
        on_failure,
        required: required
            .unwrap_or_else(|| matches!(hook, Hook::RequestAuth | Hook::EventFilter | Hook::RouteResolver).into()),
        deadline: deadline_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(default.deadline, Duration::from_millis),
        memory_mb: memory_mb.unwrap_or(usual_memory_mb),
        isolation,
        interval: interval.and_then(|it| u64::try_from(it).ok()).map_or(default.interval, Duration::from_secs),
        ..default
    };
    (faults.count() == before).then_some((bind, set))
}

#[cfg(test)]
mod tests;
