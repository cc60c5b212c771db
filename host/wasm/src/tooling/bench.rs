//! `yardarm plugin bench`: what the calls of a plugin cost, in time, memory and instructions.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::TestError;
use super::component_file::ComponentFile;
use super::runner::{all_cases, load};
use crate::cases::{Case, CasesError, PreparedCase, Reply, Runner};
use crate::check::{OperatorFiles, new_metered_stager, new_stager, on_own_runtime};
use crate::runtime::guest::Instance;
use crate::staging::compilation::Compiler;
use crate::vocabulary::Hook;

/// Calls of one kind and case: this many, or as many as fit into this time.
const MOST_CALLS: usize = 1_000;
const LONGEST: Duration = Duration::from_secs(1);
/// Calls of which the first instructions are not counted: interpreters prepare themselves in the first calls.
const FIRST_CALLS: usize = 2;

/// What the calls of a plugin cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Name of the plugin.
    pub name: String,
    /// Version that it declares.
    pub version: String,
    /// Digest of the file.
    pub sha256: String,
    /// Size of the file in bytes.
    pub bytes: usize,
    /// The cases in order.
    pub cases: Vec<CaseCost>,
}

/// What the calls of one case cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseCost {
    /// Name of the case.
    pub name: String,
    /// The hook.
    pub hook: Hook,
    /// Creation of an instance, with `init`.
    pub instance: Times,
    /// The first call of an instance, without its creation.
    pub fresh: Times,
    /// Further calls of one instance.
    pub reused: Times,
    /// Largest linear memory of an instance in bytes.
    pub memory: u64,
    /// Instructions of the creation of an instance; the same on each machine, unless the plugin reads clocks or random
    /// numbers.
    pub instance_instructions: u64,
    /// Instructions of a call of an instance that was called before.
    pub instructions: u64,
    /// Limits of the binding, or the default ones.
    pub limits: CostLimits,
}

/// Times of calls in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Half of the calls take at most this long.
    pub p50_us: u64,
    /// 99 % of the calls take at most this long.
    pub p99_us: u64,
    /// Number of measured calls.
    pub calls: usize,
}

/// The limits of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostLimits {
    /// Deadline of a call in milliseconds.
    pub deadline_ms: u64,
    /// Linear memory of an instance in MiB.
    pub memory_mb: u32,
}

/// Measures the calls of `cases`, and of those in the manifest of a component, except for those that expect a failure. Takes
/// some seconds per case.
///
/// # Errors
/// If the component cannot be loaded, there is no case, or a call fails.
pub fn bench_file(
    path: &Path,
    operator: &OperatorFiles,
    cases: &[Case],
    compiler: Compiler,
) -> Result<BenchReport, TestError> {
    on_own_runtime(async {
        let file = ComponentFile::read(path)?;
        let cases = all_cases(&file, cases)?;
        let runner = load(&new_stager(compiler, operator)?, &file, operator).await?;
        let metered = load(&new_metered_stager()?, &file, operator).await?;
        let mut costs = Vec::with_capacity(cases.len());
        // A call that fails is not what a plugin is for.
        for case in cases.iter().filter(|case| !matches!(case.expect, Reply::Failure(_))) {
            costs.push(measure(&runner, &metered, case).await?);
        }
        Ok(BenchReport {
            name: file.name.to_string(),
            version: file.declared.version.clone(),
            sha256: hex::encode(file.sha256),
            bytes: file.bytes.len(),
            cases: costs,
        })
    })?
}

async fn measure(runner: &Runner, metered: &Runner, case: &Case) -> Result<CaseCost, TestError> {
    let _ticking = runner.engine.enter();
    let prepared = runner.prepare(case)??;
    let (mut instances, mut fresh, mut memory) = (Vec::new(), Vec::new(), 0);
    let end = Instant::now() + LONGEST;
    while instances.is_empty() || (instances.len() < MOST_CALLS && Instant::now() < end) {
        let began = Instant::now();
        let mut instance = prepared.instance().await.map_err(|error| failed(case, &error))?;
        instances.push(began.elapsed());
        fresh.push(call(&prepared, &mut instance, case).await?);
        memory = memory.max(instance.store.data().memory.used);
    }
    let mut instance = prepared.instance().await.map_err(|error| failed(case, &error))?;
    let mut reused = Vec::new();
    let end = Instant::now() + LONGEST;
    while reused.is_empty() || (reused.len() < MOST_CALLS && Instant::now() < end) {
        reused.push(call(&prepared, &mut instance, case).await?);
        memory = memory.max(instance.store.data().memory.used);
    }
    let (instance_instructions, instructions) = count(metered, case).await?;
    let bind = runner.bind(case.hook);
    Ok(CaseCost {
        name: case.name.clone(),
        hook: case.hook,
        instance: Times::of(instances),
        fresh: Times::of(fresh),
        reused: Times::of(reused),
        memory: memory as u64,
        instance_instructions,
        instructions,
        limits: CostLimits {
            deadline_ms: u64::try_from(bind.deadline.as_millis()).unwrap_or(u64::MAX),
            memory_mb: bind.memory_mb,
        },
    })
}

/// Returns the instructions of the creation of an instance, and of a later call.
async fn count(metered: &Runner, case: &Case) -> Result<(u64, u64), TestError> {
    let _ticking = metered.engine.enter();
    let prepared = metered.prepare(case)??;
    let mut instance = prepared.instance().await.map_err(|error| failed(case, &error))?;
    let left = |instance: &Instance| instance.store.get_fuel().unwrap_or_default();
    let created = u64::MAX - left(&instance);
    let mut instructions = 0;
    for _ in 0..=FIRST_CALLS {
        let before = left(&instance);
        call(&prepared, &mut instance, case).await?;
        instructions = before - left(&instance);
    }
    Ok((created, instructions))
}

/// Calls the plugin; returns the time of the call.
async fn call(prepared: &PreparedCase, instance: &mut Instance, case: &Case) -> Result<Duration, TestError> {
    match prepared.reply(instance).await {
        (Reply::Failure(failure), _) => {
            let text = failure.text.unwrap_or_default();
            Err(failed(case, &format_args!("{}: {text}", failure.class)))
        }
        (_, time) => Ok(time),
    }
}

fn failed(case: &Case, error: &impl std::fmt::Display) -> TestError {
    CasesError { place: format!("case `{}`", case.name), text: format!("the call failed: {error}") }.into()
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
            time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        Self { p50_us: at(50), p99_us: at(99), calls: times.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_of_calls() {
        let times = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(Times::of(times), Times { p50_us: 101, p99_us: 199, calls: 200 });
        assert_eq!(Times::of(Vec::new()), Times { p50_us: 0, p99_us: 0, calls: 0 });
    }
}
