//! `yardarm plugin diff`: what a new version of a plugin wants, offers and does differently.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{Case, Compiler, InspectReport, OperatorFiles, Reply, TestError, TestReport};

use super::cases_file::{of_test, read_cases};
use super::outcome::{Format, Report, ToolError, finish};
use super::table::{Table, bytes};

/// Arguments of `plugin diff`.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 whether there are differences or not.\n\n\
    Example:\n  yardarm plugin diff gate-1.0.wasm gate-1.1.wasm --cases gate.cases.jsonl")]
pub(super) struct DiffArgs {
    /// The old component
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The new component
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Cases whose replies are compared [default: NAME.cases.jsonl beside the new component, if it is there]
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The binding file, whose configuration and grants apply to cases that have none themselves
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// The folder with a file per secret, for references that a case has no secret for
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// The differences between two components.
#[derive(Serialize)]
struct Differences {
    version: (String, String),
    bytes: (usize, usize),
    hooks: Changed,
    grants: Changed,
    limits: Changed,
    imports: Changed,
    exports: Changed,
    is_state_changed: bool,
    is_config_changed: bool,
    /// Cases whose replies differ.
    replies: Vec<ChangedReply>,
    /// Number of cases that were compared.
    compared: usize,
}

/// What is new and what is gone.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Changed {
    new: Vec<String>,
    dropped: Vec<String>,
}

#[derive(Serialize)]
struct ChangedReply {
    case: String,
    old: Reply,
    new: Reply,
}

pub(super) async fn run(args: DiffArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let [old, new] = [inspect(&args.old)?, inspect(&args.new)?];
        let cases = read_cases(&args.new, args.cases.as_deref())?;
        let before = replies(&args, &args.old, &cases)?;
        let after = replies(&args, &args.new, &cases)?;
        let mut changed = Vec::new();
        let mut compared = 0;
        for case in after.iter().flat_map(|report| &report.cases) {
            let of_old = before.iter().flat_map(|report| &report.cases).find(|it| it.name == case.name);
            let Some(of_old) = of_old else { continue };
            compared += 1;
            if of_old.reply != case.reply {
                let (old, new) = (of_old.reply.clone(), case.reply.clone());
                changed.push(ChangedReply { case: case.name.clone(), old, new });
            }
        }
        let names = |report: &InspectReport| report.grants.iter().map(|it| it.grant.clone()).collect::<Vec<_>>();
        let limits = |report: &InspectReport| {
            report.limits.iter().map(|(hook, it)| format!("{hook}: {}", it.describe())).collect::<Vec<_>>()
        };
        let hooks = |report: &InspectReport| report.hooks.iter().map(ToString::to_string).collect::<Vec<_>>();
        let imports = |report: &InspectReport| report.imports.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        Ok(Differences {
            hooks: Changed::between(hooks(&old), hooks(&new)),
            grants: Changed::between(names(&old), names(&new)),
            limits: Changed::between(limits(&old), limits(&new)),
            imports: Changed::between(imports(&old), imports(&new)),
            exports: Changed::between(old.exports, new.exports),
            is_state_changed: old.state != new.state,
            is_config_changed: old.config != new.config,
            bytes: (old.bytes, new.bytes),
            version: (old.version, new.version),
            replies: changed,
            compared,
        })
    })
    .await
}

fn inspect(file: &Path) -> Result<InspectReport, ToolError> {
    yardarm_wasm::inspect_file(file).map_err(|error| ToolError::refused(file, &error))
}

/// Runs the cases on one of the components; `None` without cases.
fn replies(args: &DiffArgs, file: &Path, cases: &[Case]) -> Result<Option<TestReport>, ToolError> {
    let operator = OperatorFiles { binding: args.binding.clone(), secrets_dir: args.secrets.clone() };
    match yardarm_wasm::test_file(file, &operator, cases, Compiler::this_program()) {
        Ok(report) => Ok(Some(report)),
        Err(TestError::NoCases) => Ok(None),
        Err(error) => Err(of_test(file, args.cases.as_deref(), &error)),
    }
}

impl Changed {
    fn between(old: Vec<String>, new: Vec<String>) -> Self {
        let [old, new]: [BTreeSet<String>; 2] = [old, new].map(|names| names.into_iter().collect());
        Self { new: new.difference(&old).cloned().collect(), dropped: old.difference(&new).cloned().collect() }
    }
}

impl Report for Differences {
    fn text(&self) -> String {
        let mut table = Table::default();
        table.row("version", format!("{} -> {}", self.version.0, self.version.1));
        table.row("size", format!("{} -> {}", bytes(self.bytes.0 as u64), bytes(self.bytes.1 as u64)));
        for (title, changed) in [
            ("hooks", &self.hooks),
            ("grants", &self.grants),
            ("limits", &self.limits),
            ("imports", &self.imports),
            ("exports", &self.exports),
        ] {
            let new = changed.new.iter().map(|name| format!("+ {name}"));
            table.rows(title, new.chain(changed.dropped.iter().map(|name| format!("- {name}"))));
        }
        for (title, is_changed) in [("state", self.is_state_changed), ("config", self.is_config_changed)] {
            if is_changed {
                table.row(title, "changed");
            }
        }
        table.row("replies", format!("{} of {} cases differ", self.replies.len(), self.compared));
        let mut text = table.text();
        for ChangedReply { case, old, new } in &self.replies {
            let [old, new] = [old, new].map(|reply| serde_json::to_string(reply).unwrap_or_default());
            // Writing to a `String` cannot fail.
            let _ = write!(text, "  {case}\n    - {old}\n    + {new}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_what_one_side_has() {
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let changed = Changed::between(names(&["a", "b"]), names(&["b", "c"]));
        assert_eq!(changed, Changed { new: names(&["c"]), dropped: names(&["a"]) });
    }
}
