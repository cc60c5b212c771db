//! The outcome of a start: which environments have data, and which have failed (U043 to U046).

use std::time::Duration;

use yardarm_core::status::LastError;

use super::{Environments, LdEnvironment, Phase};

/// Time between two looks at environments that are starting.
const LOOK: Duration = Duration::from_millis(50);

/// How failures of environments at the start are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitializationPolicy {
    /// Whether the first failure ends the wait.
    pub fails_fast: bool,
    /// Whether failures are expected, so that they are logged as warnings and do not count.
    pub ignores_failures: bool,
}

/// At least one environment has neither data from upstream nor older data to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("one or more environments failed to initialize: {}", .0.join(", "))]
pub struct InitializationError(Vec<String>);

/// Waits until the list of environments is known and each of them has data or has failed, and logs the outcome of each.
///
/// # Errors
/// When environments have failed, unless failures are ignored.
pub(crate) async fn initialized(
    environments: &Environments,
    policy: InitializationPolicy,
) -> Result<(), InitializationError> {
    let mut settled: Vec<String> = Vec::new();
    let mut failed = Vec::new();
    loop {
        let all = environments.all();
        let mut is_complete = environments.are_listed();
        for environment in &all {
            let name = environment.label.name().to_string();
            match environment.phase() {
                Phase::Starting => is_complete = false,
                _ if settled.contains(&name) => (),
                Phase::Ready => {
                    log_success(environment);
                    settled.push(name);
                }
                Phase::Empty | Phase::Rejected => {
                    log_failure(environment, policy.ignores_failures);
                    settled.push(name.clone());
                    failed.push(name);
                }
            }
        }
        let ends_now = policy.fails_fast && !policy.ignores_failures && !failed.is_empty();
        if is_complete || ends_now {
            let counts = !policy.ignores_failures && !failed.is_empty();
            return if counts { Err(InitializationError(failed)) } else { Ok(()) };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn log_success(environment: &LdEnvironment) {
    let config = environment.config();
    let key = config.credentials.sdk_key().suffix();
    let _span = environment.label.span().entered();
    tracing::info!("Initialized LaunchDarkly client for {:?} (SDK key ...{key})", environment.label.name());
}

fn log_failure(environment: &LdEnvironment, is_ignored: bool) {
    let name = environment.label.name();
    let error = match environment.status.current().last_error {
        Some(LastError { message, .. }) => message.to_string(),
        None => "timeout encountered waiting for LaunchDarkly client initialization".to_owned(),
    };
    let _span = environment.label.span().entered();
    if is_ignored {
        tracing::warn!("Ignoring error initializing LaunchDarkly client for {name:?}: {error}");
    } else {
        tracing::error!("Error initializing LaunchDarkly client for {name:?}: {error}");
    }
}
