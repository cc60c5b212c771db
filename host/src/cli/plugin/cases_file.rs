//! Files of cases, as arguments of commands.

use std::path::{Path, PathBuf};

use yardarm_wasm::{Case, TestError, parse_cases};

use super::outcome::{ToolError, read};

/// Reads a file of cases: the given one, or `NAME.cases.jsonl` beside the component, which need not exist.
pub(super) fn read_cases(component: &Path, given: Option<&Path>) -> Result<Vec<Case>, ToolError> {
    let usual = usual_file(component);
    let file = match given {
        Some(file) => file,
        None if usual.exists() => &usual,
        None => return Ok(Vec::new()),
    };
    let bytes = read(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| ToolError::of_file(file, error))?;
    parse_cases(text).map_err(|error| ToolError::of_file(file, error))
}

/// Converts the error of a tool that runs cases.
pub(super) fn of_test(component: &Path, given: Option<&Path>, error: &TestError) -> ToolError {
    let usual = usual_file(component);
    let cases = given.unwrap_or(&usual);
    match error {
        TestError::Load(error) => ToolError::refused(component, error),
        TestError::Cases(error) => ToolError::of_file(cases, error),
        TestError::NoCases => ToolError::of_file(component, format!("{error}; write `{}`", cases.display())),
    }
}

fn usual_file(component: &Path) -> PathBuf {
    component.with_extension("cases.jsonl")
}
