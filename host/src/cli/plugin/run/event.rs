//! What is reported while a plugin runs: as a JSON object, or as lines for people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::table::{bytes, printable};
use super::calls::HookCalls;

/// An event.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum RunEvent {
    /// The gateway listens.
    Started {
        /// Name of the plugin.
        plugin: String,
        /// The component that is run.
        component: PathBuf,
        /// Its binding file, if there is one.
        binding: Option<PathBuf>,
        /// Address for SDKs.
        sdks: String,
        /// Address of the page and the API.
        admin: String,
        /// What is watched.
        watched: PathBuf,
    },
    /// The build command begins.
    Building {
        /// The command.
        command: String,
    },
    /// The build command has succeeded.
    Built {
        /// How long it took.
        ms: u64,
    },
    /// The build command has failed; the version before keeps running.
    BuildFailed {
        /// How it ended.
        reason: String,
        /// The end of its output.
        output: String,
    },
    /// New files were passed to the gateway.
    Copied {
        /// Whether the component is new.
        component: bool,
        /// Whether the binding file is new, changed or gone.
        binding: bool,
    },
    /// The files could not be passed to the gateway.
    CopyFailed {
        /// Why.
        text: String,
    },
    /// A version runs.
    Loaded(Loaded),
    /// The gateway does not use the files; the version before keeps running.
    Refused {
        /// Stable code, such as `L06`.
        code: &'static str,
        /// Class, such as `capability-denied`.
        class: &'static str,
        /// Reason and remedy.
        text: String,
        /// The generation that keeps running.
        running: Option<u64>,
    },
    /// Counters, whenever they have changed.
    Calls(Calls),
    /// A call of the plugin has failed.
    CallFailed {
        /// The hook.
        hook: &'static str,
        /// Stable code, such as `C01`.
        code: &'static str,
        /// Class, such as `trap`.
        class: &'static str,
        /// Message.
        text: String,
        /// How often in a row.
        times: u64,
        /// The generation that was called.
        generation: Option<u64>,
    },
    /// A line of the plugin's log, or of the gateway's.
    Log {
        /// Level.
        level: String,
        /// Text.
        message: String,
        /// The hook whose call has logged it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hook: Option<String>,
        /// Whether the plugin has logged it.
        guest: bool,
    },
    /// The command ends.
    Ended {
        /// Whether the newest version runs and none of its calls has failed.
        is_fine: bool,
        /// Versions that were loaded.
        loaded: u64,
    },
}

/// A version that runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Loaded {
    /// Version that the plugin declares.
    pub(super) version: String,
    /// Number of the version, counted from the start.
    pub(super) generation: u64,
    /// The generation that it has replaced.
    pub(super) replaced: Option<u64>,
    /// Digest of the component.
    pub(super) sha256: String,
    /// Hooks that it is bound to.
    pub(super) hooks: Vec<&'static str>,
    /// Whether it is bound to them because there is no binding file.
    pub(super) auto_bound: bool,
}

/// Counters of the running version, and responses of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Calls {
    /// The generation whose calls are counted.
    pub(super) generation: u64,
    /// Calls by hook.
    pub(super) hooks: Vec<HookCalls>,
    /// Largest memory of an instance so far.
    pub(super) memory_bytes: u64,
    /// Grants without which the plugin has read nothing.
    pub(super) grants_missing: Vec<String>,
    /// Responses to fake SDKs by status; `0` is no response.
    pub(super) responses: BTreeMap<u16, u64>,
}

impl RunEvent {
    /// Creates an event from a line of the log, in JSON.
    pub(super) fn of_log(line: &str) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_str(line).ok()?;
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let guest = text("target").is_some_and(|target| target == "yardarm::guest");
        let mut message = text("message")?;
        if !guest && let Some(error) = text("error") {
            message = format!("{message}: {error}");
        }
        Some(Self::Log { level: text("level")?.to_lowercase(), message, hook: text("hook"), guest })
    }

    /// Returns the event as lines without control characters, each with its end.
    pub(super) fn lines(&self) -> String {
        match self {
            Self::Started { plugin, sdks, admin, watched, .. } => format!(
                "running {plugin}: SDKs at http://{sdks}, page at http://{admin}/, watching {}; Ctrl-C ends it\n",
                watched.display()
            ),
            Self::Building { command } => format!("building: {}\n", printable(command)),
            Self::Built { ms } => format!("built in {}.{:01} s\n", ms / 1_000, ms % 1_000 / 100),
            Self::BuildFailed { reason, output } => {
                let output: String = output.lines().map(|line| format!("  {}\n", printable(line))).collect();
                format!("{output}the build {reason}; the version before keeps running\n")
            }
            Self::Copied { component, binding } => match (component, binding) {
                (false, false) => "nothing has changed\n".to_owned(),
                (true, false) => "new component\n".to_owned(),
                (false, true) => "new binding file\n".to_owned(),
                (true, true) => "new component and binding file\n".to_owned(),
            },
            Self::CopyFailed { text } => format!("{}; the version before keeps running\n", printable(text)),
            Self::Loaded(loaded) => format!("{}\n", loaded.text()),
            Self::Refused { code, class, text, running } => {
                let running = running.map(|generation| format!("; generation {generation} keeps running"));
                format!("refused: {code} {class}: {}{}\n", printable(text), running.unwrap_or_default())
            }
            Self::Calls(calls) => {
                calls.hooks.iter().map(|hook| format!("{} generation {}\n", hook.text(), calls.generation)).collect()
            }
            Self::CallFailed { hook, code, class, text, times, .. } => {
                let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
                format!("failed: {hook}: {code} {class}: {}{times}\n", printable(text))
            }
            Self::Log { level, message, hook, guest } => {
                let origin = if *guest { hook.as_deref().unwrap_or("plugin") } else { "gateway" };
                format!("log: {level} {origin}: {}\n", printable(message))
            }
            Self::Ended { is_fine, loaded } => {
                let end = if *is_fine { "fine" } else { "not fine: see above" };
                format!("ended, {end}; versions loaded: {loaded}\n")
            }
        }
    }
}

impl Loaded {
    /// Describes the version in one line.
    pub(super) fn text(&self) -> String {
        let Self { version, generation, replaced, sha256, hooks, auto_bound } = self;
        let replaced = replaced.map(|before| format!(", replaced generation {before}")).unwrap_or_default();
        let bound = if *auto_bound { ", without a binding file" } else { "" };
        let (version, digest) = (printable(version), sha256.get(..12).unwrap_or(sha256));
        format!(
            "loaded: version {version}, generation {generation}{replaced}, {digest}…, for {}{bound}",
            hooks.join(", ")
        )
    }
}

impl Calls {
    /// Describes what is not counted by hook, in one line.
    pub(super) fn text(&self) -> String {
        let status = |(status, count): (&u16, &u64)| match status {
            0 => format!("{count} without a response"),
            status => format!("{count} × {status}"),
        };
        let responses: Vec<String> = self.responses.iter().map(status).collect();
        format!("memory {}; responses to SDKs: {}", bytes(self.memory_bytes), responses.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_become_events() {
        let guest =
            r#"{"timestamp":"x","level":"INFO","target":"yardarm::guest","message":"hi\u001b","hook":"request-auth"}"#;
        assert_eq!(RunEvent::of_log(guest).unwrap().lines(), "log: info request-auth: hi \n");
        let host = r#"{"level":"WARN","target":"yardarm::x","message":"no disk","error":"full"}"#;
        assert_eq!(RunEvent::of_log(host).unwrap().lines(), "log: warn gateway: no disk: full\n");
        assert!(RunEvent::of_log("text").is_none());
    }

    #[test]
    fn events_are_json_objects_with_a_name() {
        let failed = RunEvent::BuildFailed { reason: "has failed".to_owned(), output: "x.rs:1\n".to_owned() };
        let expected = serde_json::json!({"event": "build-failed", "reason": "has failed", "output": "x.rs:1\n"});
        assert_eq!(serde_json::to_value(&failed).unwrap(), expected);
        assert_eq!(failed.lines(), "  x.rs:1\nthe build has failed; the version before keeps running\n");
    }
}
