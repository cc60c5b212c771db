//! `yardarm check`: reports everything that would prevent a start, without starting.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use http::Method;
use serde::{Deserialize, Serialize};
use yardarm_core::supervisor;
use yardarm_wasm::{FolderStatus, PluginStatus, RowState, SetRow, SetState};

use super::admin_client::AdminAddress;
use super::{health, load_of_relay, output, variables};
use crate::config::{self, Config, Overrides};
use crate::exit::Exit;
use crate::logging;
use crate::process::failed;
use crate::startup::{self, Problem};

/// What a check has found, in the form of `yardarm check --json`.
#[derive(Serialize)]
struct Findings {
    /// Whether a start would succeed, and every plugin and set in the folder would be used.
    is_fine: bool,
    /// What would prevent a start.
    problems: Vec<String>,
    warnings: Vec<String>,
    /// The plugin folder as a gateway would show it in `/api/plugins`.
    plugins: FolderStatus,
}

/// Checks the file, or the configuration that flags of another relay select.
pub(super) async fn check(file: Option<&Path>, relay: &[String], print_effective: bool, is_json: bool) -> ExitCode {
    let loaded = match relay {
        [] => config::load(file, &Overrides::of_program(variables())),
        relay => load_of_relay(relay),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into()),
    };
    if print_effective {
        for value in &loaded.effective {
            output(&format!("{} = {}  # {}\n", value.key, value.value, value.source));
        }
    }
    let machine = check_machine(&loaded.config).await;
    let settings = loaded.config.plugins.folder(None);
    let plugins = match supervisor::blocking("plugin check", move || yardarm_wasm::check_folder(&settings)).await {
        Ok(Ok(plugins)) => plugins,
        Ok(Err(error)) => return failed(&error.into()),
        Err(error) => return failed(&error.into()),
    };
    let findings = Findings {
        is_fine: machine.problems.is_empty() && is_fine(&plugins),
        problems: machine.problems.iter().map(ToString::to_string).collect(),
        warnings: loaded.warnings.iter().map(ToString::to_string).chain(machine.warnings).collect(),
        plugins,
    };
    if is_json {
        match serde_json::to_string_pretty(&findings) {
            Ok(text) => output(&format!("{text}\n")),
            Err(error) => return failed(&error.into()),
        }
    } else {
        print(&findings);
    }
    match (&machine.problems[..], findings.is_fine) {
        ([], true) => ExitCode::SUCCESS,
        ([], false) => Exit::Config.into(),
        (problems, _) => startup::worst(problems).into(),
    }
}

fn print(findings: &Findings) {
    for warning in &findings.warnings {
        output(&format!("warning: {warning}\n"));
    }
    for problem in &findings.problems {
        logging::print_error(&format!("error: {problem}"));
    }
    let plugins = &findings.plugins;
    for line in lines(plugins) {
        output(&format!("{line}\n"));
    }
    let configuration = match findings.problems.len() {
        0 => "configuration is fine".to_owned(),
        1 => "one problem would prevent a start".to_owned(),
        count => format!("{count} problems would prevent a start"),
    };
    let total = plugins.plugins.len();
    if is_fine(plugins) {
        output(&format!("{configuration}, {total} plugins are fine\n"));
    } else {
        let unused = plugins.plugins.iter().filter(|it| !is_used(it)).count();
        output(&format!("{configuration}, {unused} of {total} plugins would not be used\n"));
    }
}

/// Findings about the machine: addresses, files, folders.
struct Machine {
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// The part of `/api/status` that identifies a running gateway.
#[derive(Deserialize)]
struct Running {
    pid: u32,
    listeners: Vec<SocketAddr>,
}

/// Opens everything that a start would open. Resources that a running gateway holds are only warnings, because its
/// successor will get them.
async fn check_machine(config: &Config) -> Machine {
    // Blocks while an archive is read; nothing else runs in this process.
    let (found, mut warnings) = tokio::task::block_in_place(|| startup::probe(config));
    let is_anything_taken = found.iter().any(|it| it.taken.is_some());
    let running = if is_anything_taken { running(config.admin).await } else { None };
    let mut problems = Vec::new();
    for problem in found {
        let taken_by = running.as_ref().filter(|running| {
            let is_it = |it: &SocketAddr| problem.taken.is_some_and(|taken| taken.port() == it.port());
            running.listeners.iter().any(is_it)
        });
        match (taken_by, problem.taken) {
            (Some(Running { pid, .. }), Some(address)) => {
                warnings.push(format!("{address} is in use by the gateway that runs as process {pid}"));
            }
            _ if problem.is_locked => warnings.push(format!("a gateway is running: {problem}")),
            _ => problems.push(problem),
        }
    }
    Machine { problems, warnings }
}

async fn running(admin: SocketAddr) -> Option<Running> {
    let answer = AdminAddress::from(admin).send(&Method::GET, "/api/status", None, health::TIMEOUT).await.ok()?;
    serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)
}

/// Returns whether everything in the folder would be used, or is left out on purpose.
fn is_fine(folder: &FolderStatus) -> bool {
    let is_applied = |set: &SetRow| set.state == SetState::Applied;
    folder.trouble.is_none() && folder.plugins.iter().all(is_used) && folder.sets.iter().all(is_applied)
}

fn is_used(plugin: &PluginStatus) -> bool {
    let is_wanted = matches!(plugin.state, RowState::Active | RowState::Unbound | RowState::Retired);
    is_wanted && plugin.refused.is_none()
}

/// Returns a line for each part of the folder.
fn lines(folder: &FolderStatus) -> Vec<String> {
    let trouble = folder.trouble.iter().map(|trouble| format!("refused: plugin folder: {}", trouble.text));
    let plugins = folder.plugins.iter().map(|plugin| {
        let (file, advice) = (&plugin.file, plugin.advice.iter().map(|it| format!("; {it}")).collect::<String>());
        match (&plugin.refused, &plugin.active, &folder.trouble) {
            (Some(refused), _, Some(trouble)) if refused.text == trouble.text => {
                format!("refused: {file}: with its folder{advice}")
            }
            (Some(refused), ..) => format!("refused: {file}: {}{advice}", refused.text),
            (None, Some(active), _) => {
                let hooks: Vec<_> = active.exports.iter().map(|it| it.name()).collect();
                let name = plugin.name.as_deref().unwrap_or(file);
                format!("ok: {name} {} serves {}", active.version, hooks.join(", "))
            }
            (None, None, _) => {
                format!("{}: {file}: {}", plugin.state.name(), plugin.advice.as_deref().unwrap_or_default())
            }
        }
    });
    let sets = folder.sets.iter().map(|set| {
        let (file, plugins) = (&set.file, set.plugins.join(", "));
        match &set.refused {
            Some(refused) => format!("refused: {file}.set: {}", refused.text),
            None if set.state == SetState::Applied => format!("ok: {file}.set has {plugins}"),
            None => format!("{}: {file}.set: {}", set.state.name(), set.advice.as_deref().unwrap_or_default()),
        }
    });
    trouble.chain(plugins).chain(sets).collect()
}
