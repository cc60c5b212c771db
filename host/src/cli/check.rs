//! `yardarm check`: reports everything that would prevent a start, without starting.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use yardarm_core::supervisor;
use yardarm_wasm::CheckedFolder;

use super::{health, output, variables};
use crate::config::{self, Config, Overrides};
use crate::exit::Exit;
use crate::logging;
use crate::process::failed;
use crate::startup::{self, Problem};

pub(super) async fn check(file: Option<&Path>, print_effective: bool) -> ExitCode {
    let overrides = Overrides::of_program(variables());
    let loaded = match config::load(file, &overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into()),
    };
    if print_effective {
        for value in &loaded.effective {
            output(&format!("{} = {}  # {}\n", value.key, value.value, value.source));
        }
    }
    let machine = check_machine(&loaded.config).await;
    for warning in loaded.warnings.iter().chain(&machine.warnings) {
        output(&format!("warning: {warning}\n"));
    }
    for problem in &machine.problems {
        logging::print_error(&format!("error: {problem}"));
    }
    let settings = loaded.config.plugins.folder(None);
    let plugins = match supervisor::blocking("plugin check", move || yardarm_wasm::check_folder(&settings)).await {
        Ok(checked) => Checked::of(checked),
        Err(error) => return failed(&error.into()),
    };
    for line in &plugins.lines {
        output(&format!("{line}\n"));
    }
    let configuration = match machine.problems.len() {
        0 => "configuration is fine".to_owned(),
        1 => "one problem would prevent a start".to_owned(),
        count => format!("{count} problems would prevent a start"),
    };
    if plugins.is_refused {
        output(&format!("{configuration}, {} of {} plugins would be refused\n", plugins.refused, plugins.total));
    } else {
        output(&format!("{configuration}, {} plugins are fine\n", plugins.total));
    }
    match (&machine.problems[..], plugins.is_refused) {
        ([], false) => ExitCode::SUCCESS,
        ([], true) => Exit::Config.into(),
        (problems, _) => startup::worst(problems).into(),
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
    let (is_fine, body) = health::get(admin, "/api/status").await.ok()?;
    serde_json::from_str(&body).ok().filter(|_| is_fine)
}

/// Findings about the plugin folder.
struct Checked {
    lines: Vec<String>,
    total: usize,
    refused: usize,
    /// Returns whether the folder or any plugin would be refused.
    is_refused: bool,
}

impl Checked {
    fn of(CheckedFolder { trouble, plugins }: CheckedFolder) -> Self {
        let mut lines: Vec<String> = trouble.iter().map(|error| format!("refused: plugin folder: {error}")).collect();
        let refused = plugins.iter().filter(|(_, outcome)| outcome.is_err()).count();
        lines.extend(plugins.iter().map(|(file, outcome)| match outcome {
            Ok(report) => {
                let hooks: Vec<_> = report.exports.iter().map(|it| it.name()).collect();
                format!("ok: {} {} serves {}", report.name, report.version, hooks.join(", "))
            }
            Err(error) if Some(error) == trouble.as_ref() => format!("refused: {file}: with its folder"),
            Err(error) => format!("refused: {file}: {error}"),
        }));
        Self { lines, total: plugins.len(), refused, is_refused: refused > 0 || trouble.is_some() }
    }
}
