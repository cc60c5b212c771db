//! `yardarm plugin list`: the plugins of a running gateway and their states.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::gateway::GatewayArgs;
use super::outcome::{Format, Report, conclude};
use super::table::{columns, printable};

/// Arguments of `plugin list`.
#[derive(Debug, Args)]
#[command(after_help = "No token is needed.\n\nExample:\n  yardarm plugin list --admin 127.0.0.1:8040")]
pub(super) struct ListArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// The document of `/api/plugins`.
#[derive(Serialize)]
#[serde(transparent)]
struct Listed(Value);

pub(super) async fn run(args: ListArgs, format: Format) -> ExitCode {
    let list = async { args.gateway.find()?.get("/api/plugins").await.map(Listed) };
    conclude(format, list.await)
}

impl Report for Listed {
    fn text(&self) -> String {
        let folder = &self.0;
        let mut text = String::new();
        if let Some(trouble) = reason(&folder["trouble"]) {
            text.push_str(&format!("the folder cannot be used: {trouble}\n\n"));
        }
        let plugins = items(&folder["plugins"]);
        if plugins.is_empty() {
            return text + &format!("no plugins in {}\n", shown(&folder["folder"]));
        }
        let mut rows = vec![(["PLUGIN", "STATE", "VERSION", "HOOKS", "ENVIRONMENTS"].map(str::to_owned), Vec::new())];
        rows.extend(plugins.iter().map(|plugin| (row(plugin), notes(plugin))));
        text.push_str(&columns(&rows));
        for set in items(&folder["sets"]) {
            let members = items(&set["plugins"]).iter().map(shown).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("\nset {}: {}, of {members}\n", shown(&set["file"]), shown(&set["state"])));
            let lines = [reason(&set["refused"]), Some(shown(&set["advice"])).filter(|advice| !advice.is_empty())];
            lines.into_iter().flatten().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        text
    }
}

fn row(plugin: &Value) -> [String; 5] {
    let (file, name) = (shown(&plugin["file"]), shown(&plugin["name"]));
    let title = if name == file || name.is_empty() { file } else { format!("{name} ({file})") };
    let active = &plugin["active"];
    let bindings = items(&active["bindings"]).iter().map(|binding| &binding["bind"]);
    let hooks = unique(bindings.clone().map(|bind| shown(&bind["hook"])));
    let environments = unique(bindings.flat_map(|bind| items(&bind["environments"]).iter().map(shown)));
    [title, shown(&plugin["state"]), shown(&active["version"]), hooks, environments]
}

/// Returns what an operator has to know of a plugin, a line each.
fn notes(plugin: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    let probation = &plugin["probation"];
    let previous = shown(&plugin["previous_version"]);
    if let Some(left) = probation["remaining_ms"].as_u64() {
        let (seconds, calls) = (left.div_ceil(1_000), shown(&probation["remaining_calls"]));
        notes.push(format!("on probation for {seconds} s or {calls} calls; may return to {previous}"));
    } else if !previous.is_empty() {
        notes.push(format!("can be rolled back to {previous}"));
    }
    notes.extend(rollout(&plugin["rollout"]));
    if plugin["pinned"] == true {
        notes.push("pinned".to_owned());
    }
    if plugin["fails_closed"] == true {
        notes.push("required, its hooks fail closed".to_owned());
    }
    if let Some(step) = plugin["staging_step"].as_str() {
        notes.push(format!("a new version is being loaded: {step}"));
    }
    notes.extend(reason(&plugin["refused"]).map(|reason| format!("refused: {reason}")));
    notes.extend(Some(shown(&plugin["advice"])).filter(|advice| !advice.is_empty()));
    for version in items(&plugin["quarantined"]) {
        notes.push(format!("in quarantine: {}, because {}", shown(&version["version"]), shown(&version["reason"])));
    }
    if let Some(error) = items(&plugin["last_errors"]).iter().max_by_key(|error| error["at_ms"].as_u64()) {
        let (code, hook, text) = (shown(&error["code"]), shown(&error["hook"]), shown(&error["text"]));
        notes.push(format!("last error: {code} in {hook}: {text}"));
    }
    notes
}

/// Returns what is known of a version that is being rolled out.
fn rollout(rollout: &Value) -> Option<String> {
    let version = rollout["version"].as_str().map(printable)?;
    let mut text = match rollout["mode"]["canary"]["percent"].as_u64() {
        Some(percent) => format!("{version} is called for {percent} % of the callers"),
        None => format!("{version} runs in shadow"),
    };
    if let Some(compared) = rollout["shadow"]["compared"].as_u64() {
        text.push_str(&format!(": {} of {compared} replies differ", shown(&rollout["shadow"]["different"])));
    }
    if let Some(left) = rollout["promotion_in_ms"].as_u64() {
        text.push_str(&format!("; promoted in {} s if it is not worse", left.div_ceil(1_000)));
    }
    Some(text)
}

fn reason(refusal: &Value) -> Option<String> {
    let [code, class, text] = ["code", "class", "text"].map(|key| shown(&refusal[key]));
    (!text.is_empty()).then(|| format!("{code} {class}: {text}"))
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

fn unique(texts: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_plugin_has_a_row_and_what_has_to_be_known_below_it() {
        let bind = json!({"bind": {"hook": "request-auth", "environments": ["prod-*"]}});
        let plugin = json!({
            "file": "front", "name": "gate", "state": "active", "previous_version": "1.0.0", "pinned": true,
            "probation": {"remaining_ms": 41_200, "remaining_calls": 812},
            "rollout": {"mode": {"canary": {"percent": 5}}, "version": "2.1.0", "promotion_in_ms": 1_500},
            "refused": {"code": "S02", "class": "rolled-back", "text": "bad\u{1b}[2J"},
            "active": {"version": "2.0.0", "bindings": [bind, bind]},
        });
        let text = Listed(json!({"plugins": [plugin, {"file": "other", "state": "missing"}]})).text();
        let expected = [
            "PLUGIN        STATE    VERSION  HOOKS         ENVIRONMENTS",
            "gate (front)  active   2.0.0    request-auth  prod-*",
            "    on probation for 42 s or 812 calls; may return to 1.0.0",
            "    2.1.0 is called for 5 % of the callers; promoted in 2 s if it is not worse",
            "    pinned",
            "    refused: S02 rolled-back: bad [2J",
            "other         missing",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let shadow = json!({"mode": "shadow", "version": "2", "shadow": {"compared": 9, "different": 1}});
        assert_eq!(rollout(&shadow).as_deref(), Some("2 runs in shadow: 1 of 9 replies differ"));
        assert_eq!(Listed(json!({"folder": "plugins.d", "plugins": []})).text(), "no plugins in plugins.d\n");
    }
}
