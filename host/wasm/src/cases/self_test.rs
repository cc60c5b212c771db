//! The cases in the manifest of a plugin, which are run whenever it is loaded.

use std::time::Duration;

use tokio::time::Instant;

use super::format::{Case, CaseLimits};
use super::run::Runner;
use crate::vocabulary::{LoadError, clean};

/// Maximum number of cases that are run.
const MOST: usize = 64;
/// Time limit of all cases together.
const LONGEST: Duration = Duration::from_secs(2);

/// Runs the cases in a manifest, without their limits: the machine may be busy, and those are for the author's.
///
/// # Errors
/// The first case whose reply differs from the expected one, with the difference.
pub(crate) async fn self_test(runner: &Runner, cases: &[Case]) -> Result<(), LoadError> {
    if cases.len() > MOST {
        let text = format!("it has {} cases, {MOST} are allowed", cases.len());
        return Err(LoadError::ComponentManifestInvalid { text });
    }
    let end = Instant::now() + LONGEST;
    for case in cases {
        let case = Case { limits: CaseLimits::default(), ..case.clone() };
        let failed = |difference: String| LoadError::SelfTestFailed { case: clean(&case.name), difference };
        let outcome = match tokio::time::timeout_at(end, runner.run(&case)).await {
            Ok(outcome) => outcome.map_err(|error| failed(clean(&error.text)))?,
            Err(_) => {
                return Err(failed(format!("the cases together took longer than {} s", LONGEST.as_secs())));
            }
        };
        let reused = outcome.reused.iter().map(|it| (" on a reused instance", it));
        if let Some((place, difference)) = outcome.fresh.iter().map(|it| ("", it)).chain(reused).next() {
            let field = clean(&difference.field);
            let [expected, actual] = [&difference.expected, &difference.actual].map(|it| clean(&it.to_string()));
            return Err(failed(format!("`{field}` is {actual}{place}, expected {expected}")));
        }
    }
    Ok(())
}
