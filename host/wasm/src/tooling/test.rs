//! `yardarm plugin test`: runs the cases of a plugin.

use std::path::Path;

use serde::Serialize;

use super::component_file::ComponentFile;
use super::runner::{all_cases, load};
use crate::cases::{Case, CaseOutcome, CasesError};
use crate::check::{OperatorFiles, new_stager, on_own_runtime};
use crate::staging::compilation::Compiler;
use crate::vocabulary::LoadError;

/// How the cases of a plugin ended.
#[derive(Debug, Clone, Serialize)]
pub struct TestReport {
    /// Name of the plugin.
    pub name: String,
    /// Version that it declares.
    pub version: String,
    /// Digest of the file.
    pub sha256: String,
    /// Number of cases that failed.
    pub failed: usize,
    /// All cases in order, those of the manifest first.
    pub cases: Vec<CaseOutcome>,
}

/// Why cases cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The component cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A case is not valid.
    #[error(transparent)]
    Cases(#[from] CasesError),
    /// There is nothing to run.
    #[error("there are no cases, neither in the manifest of the component nor in a file beside it")]
    NoCases,
}

/// Runs `cases`, and those in the manifest of a component.
///
/// # Errors
/// If the component cannot be loaded, a case is invalid, or there is none. Cases that fail are not an error.
pub fn test_file(
    path: &Path,
    operator: &OperatorFiles,
    cases: &[Case],
    compiler: Compiler,
) -> Result<TestReport, TestError> {
    on_own_runtime(async {
        let file = ComponentFile::read(path)?;
        let cases = all_cases(&file, cases)?;
        let runner = load(&new_stager(compiler, operator)?, &file, operator).await?;
        let mut outcomes = Vec::with_capacity(cases.len());
        for case in &cases {
            outcomes.push(runner.run(case).await?);
        }
        Ok(TestReport {
            name: file.name.to_string(),
            version: file.declared.version.clone(),
            sha256: hex::encode(file.sha256),
            failed: outcomes.iter().filter(|it| !it.is_passed).count(),
            cases: outcomes,
        })
    })?
}
