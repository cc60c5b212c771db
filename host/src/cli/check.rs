//! `yardarm check`: everything that can be wrong before a start, without starting.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::EXIT_CONFIG;
use super::run::failed;
use crate::config::{self, Overrides};

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
pub(super) async fn check(file: Option<&Path>, print_effective: bool) -> ExitCode {
    let overrides = Overrides { variables: std::env::vars().collect(), ..Overrides::default() };
    let loaded = match config::load(file, &overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into(), EXIT_CONFIG),
    };
    if print_effective {
        for value in &loaded.effective {
            println!("{} = {}  # {}", value.key, value.value, value.source);
        }
    }
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    let dir = loaded.config.plugins.dir;
    let checked = tokio::task::spawn_blocking(move || check_plugins(&dir)).await.unwrap_or_default();
    for line in &checked.lines {
        println!("{line}");
    }
    if checked.refused > 0 {
        println!("configuration is fine, {} of {} plugins would be refused", checked.refused, checked.lines.len());
        return ExitCode::from(EXIT_CONFIG);
    }
    println!("configuration is fine, {} plugins are fine", checked.lines.len());
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Checked {
    lines: Vec<String>,
    refused: usize,
}

fn check_plugins(dir: &Path) -> Checked {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| entries.filter_map(|it| Some(it.ok()?.path())).collect())
        .unwrap_or_default();
    files.retain(|path| path.extension().is_some_and(|it| it == "wasm"));
    files.sort();
    let mut checked = Checked::default();
    for file in files {
        let binding = file.with_extension("toml");
        let binding = binding.exists().then_some(binding);
        checked.lines.push(match yardarm_wasm::check_file(&file, binding.as_deref()) {
            Ok(report) => {
                let hooks: Vec<_> = report.exports.iter().map(|it| it.name()).collect();
                format!("ok: {} {} serves {}", report.name, report.version, hooks.join(", "))
            }
            Err(error) => {
                checked.refused += 1;
                format!("refused: {}: {error}", file.display())
            }
        });
    }
    checked
}
