//! Running of cases: each on a fresh instance and once more on the same one.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use wasmtime::component::Component;

use super::format::{Case, CasesError};
use super::reply::{Difference, Reply};
use super::services::{self, CaseServices};
use crate::background;
use crate::chain::check;
use crate::runtime::cpu_share::{CpuLimits, CpuShares};
use crate::runtime::engine::Engine;
use crate::runtime::guest::{Guest, INIT_DEADLINE, Instance, PluginContext};
use crate::runtime::interface::{AnyCall, HookCall};
use crate::runtime::processor_time::ProcessorTime;
use crate::services::secrets::Secrets;
use crate::vocabulary::{
    Bind, CallError, CalledVersion, GrantPlace, Grants, Hook, LimitsByHook, LoadError, NeededGrant, StatePolicy,
    bind_as_wanted, clean, config_schema, require,
};

/// Time limit of a call without a binding file. Time is not what most cases are about, and machines of continuous
/// integration are slow.
const USUAL_DEADLINE: Duration = Duration::from_secs(1);

/// A compiled component whose cases are run.
pub(crate) struct Runner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) component: Component,
    pub(crate) name: Arc<str>,
    pub(crate) state: Option<StatePolicy>,
    /// JSON Schema of the configuration.
    pub(crate) schema: Option<Value>,
    /// For cases without a configuration.
    pub(crate) config: Map<String, Value>,
    /// For cases without grants.
    pub(crate) grants: Grants,
    /// Grants that the imports need, without which the component cannot be linked.
    pub(crate) needed: Vec<NeededGrant>,
    /// For references to secrets that a case does not have itself.
    pub(crate) secrets: Secrets,
    /// The bindings of the binding file, if there is one, whose limits apply.
    pub(crate) binds: Vec<Bind>,
    /// Limits that the manifest wants, for cases without a binding file.
    pub(crate) limits: LimitsByHook,
    /// Whether log lines and metrics of the plugin are discarded, and missing grants not recorded.
    pub(crate) is_muted: bool,
}

/// A case with its plugin, ready to be called.
pub(crate) struct PreparedCase {
    hook: Hook,
    guest: Arc<Guest>,
    input: AnyCall,
    services: CaseServices,
    memory_mb: u32,
    deadline: Duration,
    is_muted: bool,
}

/// How a case ended.
#[derive(Debug, Clone, Serialize)]
pub struct CaseOutcome {
    /// Name of the case.
    pub name: String,
    /// The hook that was called.
    pub hook: Hook,
    /// Whether both replies are as expected and within the limits.
    pub is_passed: bool,
    /// Differences on a fresh instance, and exceeded limits.
    pub fresh: Vec<Difference>,
    /// Differences on an instance that was used before; they are the sign of state between calls.
    pub reused: Vec<Difference>,
    /// The actual reply of the fresh instance.
    pub reply: Reply,
    /// What the calls took; absent if there was no instance.
    pub figures: Option<CaseFigures>,
    /// Grants without which the plugin got nothing when it read something.
    pub missing_grants: Vec<String>,
}

/// What the calls of a case took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CaseFigures {
    /// Creation of the instance, with `init`, in microseconds.
    pub instance_us: u64,
    /// Shorter one of the calls, in microseconds.
    pub call_us: u64,
    /// Linear memory after the calls, in bytes.
    pub memory: u64,
}

impl Runner {
    /// Prepares a case.
    ///
    /// # Errors
    /// The outer error if the case itself is invalid; the inner one if a gateway would refuse the plugin with this
    /// configuration.
    pub(crate) fn prepare(&self, case: &Case) -> Result<Result<PreparedCase, LoadError>, CasesError> {
        let input = AnyCall::of_case(case)?;
        let fault = |text: String| CasesError { place: format!("case `{}`", clean(&case.name)), text };
        let mut grants = self.grants.clone();
        if let Some(given) = &case.grants {
            grants = Grants::default();
            if let Some(unknown) = given.iter().find(|grant| !grants.add_wanted(grant)) {
                return Err(fault(format!("`grants`: `{}` is not a grant", clean(unknown))));
            }
        }
        let place = if case.grants.is_some() { GrantPlace::Case } else { GrantPlace::Binding("the binding file") };
        if let Err(error) = require(&self.needed, &[], &grants, place) {
            return Ok(Err(error));
        }
        let config = case.config.as_ref().unwrap_or(&self.config);
        let secrets = self.secrets.with_case(case.services.secrets.clone());
        Ok(secrets.resolve(config, &grants).and_then(|resolved| {
            config_schema::check(self.schema.as_ref(), &resolved.config)?;
            let context = PluginContext::new(
                Arc::clone(&self.name),
                CalledVersion { version: Arc::default(), generation: 0 },
                grants,
                &resolved.config,
                Arc::clone(&self.engine.fingerprints),
                (
                    Arc::default(),
                    CpuShares::new(CpuLimits::default()).of(&self.name),
                    case.services.services(resolved.redactor),
                ),
            );
            let bind = self.bind(case.hook);
            Ok(PreparedCase {
                hook: case.hook,
                guest: Arc::new(Guest::link(&self.engine, &self.component, context)?),
                input,
                services: case.services.clone(),
                memory_mb: bind.memory_mb,
                deadline: if self.binds.is_empty() { USUAL_DEADLINE.max(bind.deadline) } else { bind.deadline },
                is_muted: self.is_muted,
            })
        }))
    }

    /// Returns the binding of a hook; without a binding file, one with the limits that the manifest wants.
    pub(crate) fn bind(&self, hook: Hook) -> Bind {
        let bind = self.binds.iter().find(|bind| bind.hook == hook).cloned();
        bind.unwrap_or_else(|| bind_as_wanted(hook, &self.limits))
    }

    /// Runs a case.
    ///
    /// # Errors
    /// If the case itself is invalid.
    pub(crate) async fn run(&self, case: &Case) -> Result<CaseOutcome, CasesError> {
        let prepared = match self.prepare(case)? {
            Ok(prepared) => prepared,
            Err(error) => {
                let failure =
                    super::FailureReply { class: error.class().to_owned(), kind: None, text: Some(error.to_string()) };
                return Ok(outcome(case, (Reply::Failure(failure), None), None, None, Vec::new()));
            }
        };
        let _ticking = self.engine.enter();
        let began = Instant::now();
        let mut instance = match prepared.instance().await {
            Ok(instance) => instance,
            Err(error) => {
                let missing = prepared.guest.context.missing_grants.names();
                return Ok(outcome(case, (Reply::of_error(&error), None), None, None, missing));
            }
        };
        let created = began.elapsed();
        let (fresh, mut shortest) = prepared.reply(&mut instance).await;
        let sent = case
            .sent
            .as_ref()
            .map(|expected| services::differences(expected, &prepared.guest.context.services.http.take_sent()));
        let mut reused = None;
        // After most failures the instance cannot be used again, and with state it is expected to differ.
        if !matches!(fresh, Reply::Failure(_)) && self.state != Some(StatePolicy::Cache) {
            let (reply, time) = prepared.reply(&mut instance).await;
            reused = Some(reply);
            shortest = shortest.min(time);
        }
        let figures = CaseFigures {
            instance_us: micros(created),
            call_us: micros(shortest),
            memory: instance.store.data().memory.used as u64,
        };
        Ok(outcome(case, (fresh, sent), reused, Some(figures), prepared.guest.context.missing_grants.names()))
    }
}

impl PreparedCase {
    /// Creates an instance and calls `init`.
    pub(crate) async fn instance(&self) -> Result<Instance, CallError> {
        self.guest.instantiate(self.hook, self.memory_mb, INIT_DEADLINE, self.is_muted).await
    }

    /// Calls the plugin; returns its reply, and the time of the call with the validation of what it returned.
    pub(crate) async fn reply(&self, instance: &mut Instance) -> (Reply, Duration) {
        self.services.reset(&self.guest.context.services);
        let began = Instant::now();
        match &self.input {
            AnyCall::Authenticate(ask) => {
                let decision = self.call(instance, ask).await;
                timed(began, decision.and_then(|decision| check::decision(decision, &[])), Reply::from)
            }
            AnyCall::Filter(ask) => {
                let edits = self.call(instance, ask).await;
                timed(began, edits.and_then(|edits| check::event_edits(edits, ask.events.len())), edits_reply)
            }
            AnyCall::TransformPayload(ask) => {
                let edits = self.call(instance, ask).await;
                timed(began, edits.and_then(|edits| check::payload_edits(edits, &*ask.view)), edits_reply)
            }
            AnyCall::Enrich(ask) => {
                let attributes = self.call(instance, ask).await;
                let checked = attributes.and_then(|attributes| check::attributes(attributes, &*ask.context));
                timed(began, checked, edits_reply)
            }
            AnyCall::TransformResults(ask) => {
                let edits = self.call(instance, ask).await;
                timed(began, edits.and_then(|edits| check::result_edits(edits, &*ask.view)), edits_reply)
            }
            AnyCall::Resolve(ask) => {
                let reply = |name: Option<String>| name.map_or(Reply::None, Reply::Environment);
                timed(began, self.call(instance, ask).await, reply)
            }
            AnyCall::Refresh(ask) => {
                let values = self.call(instance, ask).await;
                timed(began, values.and_then(|values| values.map(background::check).transpose()), Reply::from)
            }
            AnyCall::Announce(ask) => timed(began, self.call(instance, ask).await, |()| Reply::Done),
        }
    }

    async fn call<A: HookCall>(&self, instance: &mut Instance, ask: &A) -> Result<A::Reply, CallError> {
        instance.call(ask, self.deadline, Instant::now(), &ProcessorTime::default()).await?
    }
}

/// Returns a result as a reply, and the time until now, before the reply takes the form for comparisons.
fn timed<T>(began: Instant, result: Result<T, CallError>, reply: impl FnOnce(T) -> Reply) -> (Reply, Duration) {
    let took = began.elapsed();
    (result.map_or_else(|error| Reply::of_error(&error), reply), took)
}

fn edits_reply<E>(edits: Vec<E>) -> Reply
where
    super::EditReply: From<E>,
{
    Reply::Edits(edits.into_iter().map(super::EditReply::from).collect())
}

fn outcome(
    case: &Case,
    (fresh, sent): (Reply, Option<Vec<Difference>>),
    reused: Option<Reply>,
    figures: Option<CaseFigures>,
    missing_grants: Vec<String>,
) -> CaseOutcome {
    let mut differences = case.expect.differences(&fresh);
    differences.extend(sent.into_iter().flatten());
    if let Some(figures) = figures {
        let (ms, kb) = (figures.call_us.div_ceil(1_000), figures.memory.div_ceil(1_024));
        for (field, limit, actual) in
            [("limits.max_ms", case.limits.max_ms, ms), ("limits.max_memory_kb", case.limits.max_memory_kb, kb)]
        {
            if let Some(limit) = limit.filter(|limit| actual > *limit) {
                differences.push(Difference { field: field.to_owned(), expected: limit.into(), actual: actual.into() });
            }
        }
    }
    let reused = reused.map_or_else(Vec::new, |reply| case.expect.differences(&reply));
    CaseOutcome {
        name: case.name.clone(),
        hook: case.hook,
        is_passed: differences.is_empty() && reused.is_empty(),
        fresh: differences,
        reused,
        reply: fresh,
        figures,
        missing_grants,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
