//! `yardarm check`: everything that can be wrong before a start, without starting.

use std::path::Path;
use std::process::ExitCode;

use yardarm_core::supervisor;
use yardarm_wasm::CheckedFolder;

use super::EXIT_CONFIG;
use super::run::{EXIT_INTERNAL, failed};
use crate::config::{self, Overrides};

pub(super) async fn check(file: Option<&Path>, print_effective: bool) -> ExitCode {
    let overrides = Overrides { variables: std::env::vars().collect(), ..Overrides::default() };
    let loaded = match config::load(file, &overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into(), EXIT_CONFIG),
    };
    if print_effective {
        for value in &loaded.effective {
            super::output(&format!("{} = {}  # {}\n", value.key, value.value, value.source));
        }
    }
    for warning in &loaded.warnings {
        super::output(&format!("warning: {warning}\n"));
    }
    let settings = loaded.config.plugins.folder(None);
    let checked = supervisor::blocking("plugin check", move || yardarm_wasm::check_folder(&settings)).await;
    let checked = match checked {
        Ok(checked) => Checked::of(checked),
        Err(error) => return failed(&error.into(), EXIT_INTERNAL),
    };
    for line in &checked.lines {
        super::output(&format!("{line}\n"));
    }
    if checked.is_refused {
        super::output(&format!(
            "configuration is fine, {} of {} plugins would be refused\n",
            checked.refused, checked.plugins
        ));
        return ExitCode::from(EXIT_CONFIG);
    }
    super::output(&format!("configuration is fine, {} plugins are fine\n", checked.plugins));
    ExitCode::SUCCESS
}

/// What is printed of the plugin folder.
struct Checked {
    lines: Vec<String>,
    plugins: usize,
    refused: usize,
    /// Whether the folder or any plugin would be refused.
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
        Self { lines, plugins: plugins.len(), refused, is_refused: refused > 0 || trouble.is_some() }
    }
}
