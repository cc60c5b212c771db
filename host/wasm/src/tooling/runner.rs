//! A component file that was compiled, with all that its cases need to be run.

use std::path::Path;

use super::TestError;
use super::component_file::ComponentFile;
use crate::cases::{Case, Runner};
use crate::check::{OperatorFiles, read_manifest};
use crate::services::secrets::Secrets;
use crate::staging::compilation::Source;
use crate::staging::manifest::Manifest;
use crate::staging::{Stager, imports};
use crate::vocabulary::{LoadError, Progress, apply_wanted_limits};

/// Compiles a component file. Its configuration, grants and limits are those of a binding file, if there is one.
pub(super) async fn load(stager: &Stager, file: &ComponentFile, operator: &OperatorFiles) -> Result<Runner, LoadError> {
    let manifest = operator.binding.as_deref().map(read_manifest).transpose()?;
    let all = file.all_grants();
    // Each case has its own grants.
    imports::check_offered(&file.inspection.imports)?;
    let source = Source {
        bytes: file.bytes.clone(),
        sha256: file.sha256,
        complexity: file.inspection.complexity,
        kind: file.inspection.engine_kind(),
    };
    let (component, _) = stager.compilation.compile(source, &Progress::default()).await?;
    let (config, grants, binds) = match manifest {
        Some(Manifest { config, grants, binds, limits, .. }) => {
            let name = operator.binding.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let binds = apply_wanted_limits(binds, &limits, &file.declared.limits, &name)?;
            (config, file.declared.effective(&grants), binds)
        }
        None => (serde_json::Map::new(), all, Vec::new()),
    };
    Ok(Runner {
        engine: stager.engine.clone(),
        component,
        name: file.name.clone(),
        state: file.declared.state,
        schema: file.declared.config.clone(),
        config,
        grants,
        needed: imports::needed(&file.inspection.imports),
        secrets: Secrets::new(operator.secrets_dir.clone()),
        binds,
        limits: file.declared.limits.clone(),
        is_muted: false,
    })
}

/// Returns the cases in the manifest of a component, independent of any binding file, and then `cases`, those of them
/// whose names are not taken.
pub(super) fn all_cases(file: &ComponentFile, cases: &[Case]) -> Result<Vec<Case>, TestError> {
    let mut all = file.declared.cases.clone();
    for case in &mut all {
        case.config.get_or_insert_default();
        case.grants.get_or_insert_with(|| file.all_grants().names());
    }
    for case in cases {
        if !all.iter().any(|it| it.name == case.name) {
            all.push(case.clone());
        }
    }
    if all.is_empty() { Err(TestError::NoCases) } else { Ok(all) }
}
