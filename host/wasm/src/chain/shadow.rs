//! Copies of calls for a version in shadow: what it replies is compared with the reply of the running version, and discarded.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use yardarm_core::EnvironmentLabel;
use yardarm_core::time::unix_ms;

use crate::call::BindingInstance;
use crate::runtime::interface::{Comparable, Differing, HookCall};
use crate::vocabulary::{CallError, Hook};

/// Maximum number of copies that run or wait.
const MOST_COPIES: usize = 16;
/// Maximum number of differing calls that are shown.
const MOST_SAMPLES: usize = 20;

/// A version in shadow.
pub(crate) struct Shadow {
    bindings: Vec<Arc<BindingInstance>>,
    copies: Arc<Semaphore>,
    report: Arc<Mutex<ShadowReport>>,
}

/// What the calls of a version in shadow have shown.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct ShadowReport {
    /// Calls whose replies were compared.
    pub compared: u64,
    /// Those of them whose replies differ.
    pub different: u64,
    /// Calls that were not repeated, because the version was busy or beyond its share of the processors, or because none of
    /// its bindings applies.
    pub skipped: u64,
    /// Differences by what differs.
    pub fields: BTreeMap<&'static str, u64>,
    /// The last calls with a difference, the newest first. They have no values.
    pub samples: Vec<ShadowSample>,
}

/// A call to which two versions replied differently.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShadowSample {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Identifier of the request, if the call was made for one.
    pub request: Option<String>,
    /// Environment.
    pub environment: String,
    /// The hook.
    pub hook: Hook,
    /// What differs, and where.
    pub differences: Vec<String>,
}

/// A call that the running version has answered, to be repeated.
pub(super) struct Copied<A: HookCall> {
    pub(super) ask: A,
    pub(super) environment: EnvironmentLabel,
    /// The reply of the running version; its failure if there is none.
    pub(super) reply: Result<A::Reply, CallError>,
}

impl Shadow {
    /// Creates the shadow of a version with these bindings.
    pub(crate) fn new(bindings: &[Arc<BindingInstance>]) -> Self {
        let copies = Arc::new(Semaphore::new(MOST_COPIES));
        Self { bindings: bindings.to_vec(), copies, report: Arc::default() }
    }

    pub(crate) fn report(&self) -> ShadowReport {
        self.report.lock().clone()
    }

    /// Repeats a call apart from the request that it was made for.
    pub(super) fn repeat<A: HookCall>(&self, copied: Copied<A>) {
        let applies = |binding: &&Arc<BindingInstance>| {
            let bind = &binding.bind;
            let is_of_request =
                |ask: &A| ask.request().is_none_or(|it| bind.covers_sdk(it.sdk) && bind.covers_route(it.route));
            bind.hook == A::HOOK && bind.covers(&copied.environment) && is_of_request(&copied.ask)
        };
        let binding = self.bindings.iter().find(applies).cloned();
        let (Some(binding), Ok(permit)) = (binding, Arc::clone(&self.copies).try_acquire_owned()) else {
            self.report.lock().skipped += 1;
            return;
        };
        let report = Arc::clone(&self.report);
        let lifecycle = binding.lifecycle.clone();
        lifecycle.spawn("plugin shadow", async move {
            let Copied { ask, environment, reply } = copied;
            let request = ask.request_id().map(|id| id.to_string());
            let shadowed = binding.call(&environment, &ask, binding.bind.deadline, Ok).await;
            drop(permit);
            let differing = compare::<A>(&reply, &shadowed);
            let environment = environment.to_string();
            let sample =
                |differences| ShadowSample { at_ms: unix_ms(), request, environment, hook: A::HOOK, differences };
            report.lock().add(differing, sample);
        });
    }
}

/// Returns where the replies differ; `None` if nothing is known of the one in shadow.
fn compare<A: HookCall>(
    running: &Result<A::Reply, CallError>,
    shadow: &Result<A::Reply, CallError>,
) -> Option<Vec<Differing>> {
    let failure = |place: String| Some(vec![Differing { field: "failure", place }]);
    match (running, shadow) {
        (_, Err(CallError::CpuShare | CallError::PoolExhausted | CallError::BreakerOpen)) => None,
        (Ok(running), Ok(shadow)) => Some(running.differing(shadow)),
        (Err(running), Err(shadow)) if running.outcome() == shadow.outcome() => Some(Vec::new()),
        (Err(running), Ok(_)) => failure(format!("none instead of {}", running.outcome().name())),
        (Ok(_), Err(shadow)) => failure(format!("{} instead of none", shadow.outcome().name())),
        (Err(running), Err(shadow)) => {
            failure(format!("{} instead of {}", shadow.outcome().name(), running.outcome().name()))
        }
    }
}

impl ShadowReport {
    fn add(&mut self, differing: Option<Vec<Differing>>, sample: impl FnOnce(Vec<String>) -> ShadowSample) {
        let Some(differing) = differing else {
            self.skipped += 1;
            return;
        };
        self.compared += 1;
        if differing.is_empty() {
            return;
        }
        self.different += 1;
        let mut texts = Vec::new();
        for Differing { field, place } in differing {
            *self.fields.entry(field).or_default() += 1;
            texts.push(if place.is_empty() { field.to_owned() } else { format!("{field}: {place}") });
        }
        self.samples.truncate(MOST_SAMPLES - 1);
        self.samples.insert(0, sample(texts));
    }
}
