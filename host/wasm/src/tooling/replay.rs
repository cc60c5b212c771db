//! `yardarm plugin replay`: repeats calls that failed in a gateway.

use std::path::Path;

use serde::Serialize;

use super::TestError;
use super::component_file::ComponentFile;
use super::runner::load;
use crate::cases::{Capture, Reply};
use crate::check::{OperatorFiles, new_stager, on_own_runtime};
use crate::staging::compilation::Compiler;
use crate::vocabulary::{Bind, Hook};

/// How a component answers calls that failed before.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// Name of the plugin.
    pub name: String,
    /// Version that it declares.
    pub version: String,
    /// Digest of the file.
    pub sha256: String,
    /// The calls in order.
    pub calls: Vec<ReplayedCall>,
}

/// A repeated call.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayedCall {
    /// Number of the capture.
    pub number: u64,
    /// The hook.
    pub hook: Hook,
    /// Version that failed.
    pub version: String,
    /// Class of its failure.
    pub class: String,
    /// Message of its failure.
    pub text: String,
    /// Whether the call fails in the same way.
    pub is_reproduced: bool,
    /// The reply now.
    pub reply: Reply,
}

impl ReplayedCall {
    /// Returns whether the call does not fail at all any more.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        !matches!(self.reply, Reply::Failure(_))
    }
}

/// Repeats calls on a component, each on a fresh instance. Time is that of the failed call, random numbers are the same for
/// each instance unless they are granted.
///
/// # Errors
/// If the component cannot be loaded, a case is invalid, or there is none.
pub fn replay_file(
    path: &Path,
    operator: &OperatorFiles,
    captures: &[Capture],
    compiler: Compiler,
) -> Result<ReplayReport, TestError> {
    if captures.is_empty() {
        return Err(TestError::NoCases);
    }
    on_own_runtime(async {
        let file = ComponentFile::read(path)?;
        let mut runner = load(&new_stager(compiler, operator)?, &file, operator).await?;
        let mut calls = Vec::with_capacity(captures.len());
        for capture in captures {
            let mut case = capture.case.clone();
            if operator.binding.is_some() {
                case.grants = None;
            } else {
                // A call that was too slow is too slow again only within the same limits.
                let is_slow = capture.class == "deadline";
                runner.binds = if is_slow { vec![Bind::automatic(case.hook)] } else { Vec::new() };
            }
            let outcome = runner.run(&case).await?;
            calls.push(ReplayedCall {
                number: capture.number,
                hook: case.hook,
                version: capture.version.clone(),
                class: capture.class.clone(),
                text: capture.text.clone(),
                is_reproduced: outcome.fresh.is_empty(),
                reply: outcome.reply,
            });
        }
        Ok(ReplayReport {
            name: file.name.to_string(),
            version: file.declared.version.clone(),
            sha256: hex::encode(file.sha256),
            calls,
        })
    })?
}
