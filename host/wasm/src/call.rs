//! One call of a hook: the breaker's permit, an instance, the deadline, validation of the reply, and counters.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use yardarm_core::hooks::{LoggedCall, RequestId};
use yardarm_core::supervisor::{self, fault_point};
use yardarm_core::trace::{self, SpanKind};
use yardarm_core::{EnvironmentLabel, InternalError, Lifecycle};

use crate::breaker::{Breaker, BreakerSignal};
use crate::pool::{Pool, Slot};
use crate::runtime::cpu_share::{CpuShare, Turn};
use crate::runtime::deadline::busy_allowance;
use crate::runtime::guest::{Guest, INIT_DEADLINE, Instance, PluginContext};
use crate::runtime::interface::HookCall;
use crate::runtime::processor_time::ProcessorTime;
use crate::vocabulary::{Bind, CallError, CalledVersion, Ending, Hook, Isolation, Outcome};

/// A plugin at its position in a chain.
pub(crate) struct BindingInstance {
    pub(crate) guest: Arc<Guest>,
    pub(crate) bind: Bind,
    pub(crate) isolation: Isolation,
    pub(crate) pool: Pool,
    /// Shared by all positions of one hook of a plugin.
    pub(crate) breaker: Arc<Breaker>,
    /// Measured time to create an instance, with a margin.
    pub(crate) creation: Duration,
    pub(crate) lifecycle: Lifecycle,
    /// Digest of the code and of everything that determines its behavior at this position.
    pub(crate) identity: [u8; 32],
}

/// The processor time of a call or of a creation, which is charged to the plugin however it ends.
struct Cost<'a> {
    context: &'a PluginContext,
    charge: fn(&CpuShare, Duration),
    time: ProcessorTime,
}

impl<'a> Cost<'a> {
    fn new(context: &'a PluginContext, charge: fn(&CpuShare, Duration)) -> Self {
        Self { context, charge, time: ProcessorTime::default() }
    }
}

impl Drop for Cost<'_> {
    fn drop(&mut self) {
        let time = self.time.get();
        self.context.counters.count_processor_time(time);
        (self.charge)(&self.context.share, time);
    }
}

impl BindingInstance {
    /// Calls the plugin within `budget` and validates the reply with `check`.
    pub(crate) async fn call<A: HookCall, T>(
        self: &Arc<Self>,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        check: impl FnOnce(A::Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (span, mut traced) = (self.span(), trace::child("plugin.call", SpanKind::Internal));
        // Futures of calls are large; passed by value, they would be copied.
        let call = pin!(self.call_in_span(environment, ask, budget, check, &span));
        let result = trace::within(traced.as_ref(), call.instrument(span.clone())).await;
        if let Some(traced) = &mut traced {
            traced.set("yardarm.plugin", self.guest.context.name.to_string());
            traced.set("yardarm.hook", self.bind.hook.name());
            if result.is_err() {
                traced.set_failed();
            }
        }
        result
    }

    /// Returns the span of a call, in that of its request. It is not made below the level `debug`.
    fn span(&self) -> Span {
        let context = &self.guest.context;
        tracing::debug_span!(
            "plugin call",
            plugin = %context.name,
            version = %context.version.version,
            generation = context.version.generation,
            hook = %self.bind.hook,
            outcome = Empty,
            us = Empty,
            cpu_us = Empty,
            bytes_in = Empty,
            bytes_out = Empty
        )
    }

    async fn call_in_span<A: HookCall, T>(
        self: &Arc<Self>,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        check: impl FnOnce(A::Reply) -> Result<T, CallError>,
        span: &Span,
    ) -> Result<T, CallError> {
        let started = Instant::now();
        let Some(permit) = self.breaker.admit() else {
            let error = CallError::BreakerOpen;
            self.record(error.outcome(), started.elapsed());
            end_span(span, error.outcome(), (started.elapsed(), Duration::ZERO));
            self.log(ask, error.outcome(), Some(error.to_string()), (started.elapsed(), Duration::ZERO));
            self.remember(&error, environment, ask.request_id());
            return Err(error);
        };
        let budget = budget.min(self.bind.deadline);
        let cost = Cost::new(&self.guest.context, CpuShare::charge);
        let answer = supervisor::catch(self.call_admitted(environment, ask, budget, started, &cost.time)).await;
        let (mut outcome, mut summary) = (None, None);
        let is_logged = ask.request().is_some_and(|facts| facts.call_log.is_some());
        let result = answer.unwrap_or_else(|error| Err(CallError::of_panic(&error))).and_then(|reply| {
            outcome = Some(A::outcome(&reply));
            summary = if is_logged { A::summary(&reply) } else { None };
            check(reply)
        });
        let ended = Instant::now();
        let signal = result.as_ref().map_or_else(CallError::signal, |_| BreakerSignal::Success);
        permit.record(signal, ended);
        self.add_evidence(signal, result.as_ref().err(), cost.time.get());
        let failed = result.as_ref().err().map(CallError::outcome);
        if let Some(outcome) = failed.or(outcome) {
            self.record(outcome, ended - started);
            end_span(span, outcome, (ended - started, cost.time.get()));
            if is_logged {
                let text = result.as_ref().err().map(ToString::to_string).or(summary);
                self.log(ask, outcome, text, (ended - started, cost.time.get()));
            }
        }
        if let Err(error) = &result {
            self.remember(error, environment, ask.request_id());
            self.report(error);
            if let Some(captures) = &self.guest.context.captures {
                captures.capture(&self.guest.context, ask.clone().into(), error);
            }
        }
        result
    }

    /// Adds a call to the log of its request, if it has one.
    fn log(&self, ask: &impl HookCall, outcome: Outcome, text: Option<String>, (took, time): (Duration, Duration)) {
        let context = &self.guest.context;
        let text = text.map(|text| context.services.redactor.redact(&text).into_owned());
        log_call(ask, (&context.name, Some(&context.version)), outcome, text, (took, time));
    }

    /// Counts a call.
    fn record(&self, outcome: Outcome, took: Duration) {
        let (context, hook) = (&self.guest.context, self.bind.hook);
        context.counters.calls.hook(hook).record(outcome, took);
        context.calls.hook(hook).record(outcome, took);
    }

    /// Adds a call to the evidence about this generation, if it is any.
    fn add_evidence(&self, signal: BreakerSignal, error: Option<&CallError>, time: Duration) {
        let ending = match (signal, error) {
            (BreakerSignal::Success, _) => Ending::Good,
            (BreakerSignal::Failure, Some(CallError::Trap { .. })) => Ending::Trapped,
            // What these talk to may be down, which does not make a version worse than the one before.
            (BreakerSignal::Failure, _) if self.bind.hook.is_apart() => return,
            (BreakerSignal::Failure, _) => Ending::Failed,
            (BreakerSignal::Neither, _) => return,
        };
        self.guest.context.evidence.hook(self.bind.hook).add(ending, time);
    }

    /// Keeps an error for the status.
    fn remember(&self, error: &CallError, environment: &EnvironmentLabel, request: Option<RequestId>) {
        let context = &self.guest.context;
        context.counters.errors(self.bind.hook).add(error, Some(&context.version), environment, request);
    }

    async fn call_admitted<A: HookCall>(
        self: &Arc<Self>,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        started: Instant,
        time: &ProcessorTime,
    ) -> Result<A::Reply, CallError> {
        let _ticking = self.guest.engine.enter();
        fault_point("plugin call");
        let (turn, slot, now) = self.slot(A::HOOK, budget, started).await?;
        let ready = match self.isolation {
            Isolation::Call => self.pool.spare.take(now),
            Isolation::Pool => self.pool.take(environment, now),
        };
        let (mut instance, now) = match ready {
            Some(instance) => (instance, now),
            None => {
                let instance = pin!(self.instantiate(A::HOOK, budget + self.creation));
                (time.measure(instance).await?, Instant::now())
            }
        };
        match instance.call(ask, budget, now, time).await {
            Ok(answer) => {
                self.give_back(environment, instance, now);
                drop((slot, turn));
                answer
            }
            Err(error) => {
                self.discard(environment, instance);
                Err(error)
            }
        }
    }

    /// Waits for the plugin's share of the processors and for a slot among the concurrent calls, for at most the time that a
    /// reply may take; returns them with the time from which the deadline counts.
    async fn slot(
        &self,
        hook: Hook,
        budget: Duration,
        started: Instant,
    ) -> Result<(Turn<'_>, Slot, Instant), CallError> {
        let context = &self.guest.context;
        let end = started + busy_allowance(budget);
        let mut now = started;
        loop {
            let turn = context.share.turn(now, end).await.ok_or(CallError::CpuShare)?;
            if now == started
                && !turn.was_waited_for()
                && let Some(slot) = self.pool.try_slot()
            {
                return Ok((turn, slot, started));
            }
            let slot = tokio::time::timeout_at(end, self.pool.slot()).await;
            now = Instant::now();
            // Those before it in the queue may have used up the share that it found.
            if slot.is_ok() && !turn.was_waited_for() && context.share.is_used_up(now) {
                continue;
            }
            context.counters.calls.hook(hook).waited(now - started);
            return slot.map(|slot| (turn, slot, now)).map_err(|_| CallError::PoolExhausted);
        }
    }

    async fn instantiate(&self, hook: Hook, deadline: Duration) -> Result<Instance, CallError> {
        self.guest.instantiate(hook, self.bind.memory_mb, deadline, false).await
    }

    fn give_back(self: &Arc<Self>, environment: &EnvironmentLabel, instance: Instance, now: Instant) {
        if self.isolation == Isolation::Call || self.pool.is_worn(&instance, self.bind.memory_mb, now) {
            self.discard(environment, instance);
        } else {
            self.pool.put(environment, instance);
        }
    }

    /// Drops an instance, and creates the next one before a call needs it.
    fn discard(self: &Arc<Self>, environment: &EnvironmentLabel, instance: Instance) {
        match self.isolation {
            Isolation::Pool => {
                drop(instance);
                self.pool.count_retired();
                self.create_ahead(environment, None, |pool, owner, instance| pool.put(owner, instance));
            }
            // The calls of these are rare, so the next instance would wait for too long.
            Isolation::Call if self.bind.hook.is_apart() => drop(instance),
            Isolation::Call => match self.pool.spare.reserve() {
                Some(place) => self.create_ahead(environment, Some(instance), |_, _, new| place.fill(new)),
                None => drop(instance),
            },
        }
    }

    /// Drops `old`, then creates an instance and passes it to `keep`, both without a caller that waits.
    fn create_ahead(
        self: &Arc<Self>,
        environment: &EnvironmentLabel,
        old: Option<Instance>,
        keep: impl FnOnce(&Pool, &EnvironmentLabel, Instance) + Send + 'static,
    ) {
        let (binding, environment) = (Arc::downgrade(self), environment.clone());
        self.lifecycle.spawn("plugin instance", async move {
            drop(old);
            // A generation that has been replaced needs no instances.
            let Some(binding) = binding.upgrade() else { return };
            let _ticking = binding.guest.engine.enter();
            let cost = Cost::new(&binding.guest.context, CpuShare::charge_creation);
            let instance = pin!(binding.instantiate(binding.bind.hook, INIT_DEADLINE));
            match cost.time.measure(instance).await {
                Ok(instance) => keep(&binding.pool, &environment, instance),
                Err(error) => {
                    binding.remember(&error, &environment, None);
                    binding.report(&error);
                }
            }
        });
    }

    /// Logs a failure, within the limit for the host's reports about the plugin. The next line after some that were left out
    /// has their number.
    fn report(&self, error: &CallError) {
        let context = &self.guest.context;
        let Some(suppressed) = context.counters.reports.admit() else { return };
        let (class, code, generation) = (error.outcome().name(), error.code(), context.version.generation);
        tracing::warn!(
            plugin = %context.name, generation, hook = %self.bind.hook, class, code, suppressed, %error, "plugin call failed"
        );
    }
}

impl CallError {
    /// The host panicked during the call. The binding's failure policy applies, and the instance is dropped.
    fn of_panic(error: &InternalError) -> Self {
        Self::Trap { kind: "host", text: error.to_string() }
    }

    /// Returns whether the breaker counts the error as a failure of the plugin. Errors that a caller can provoke with
    /// unusual input do not count; otherwise one caller could open the breaker for all.
    fn signal(&self) -> BreakerSignal {
        match self {
            Self::Guest { kind: "invalid-input", .. }
            | Self::PoolExhausted
            | Self::CpuShare
            | Self::BreakerOpen
            | Self::MissingRequired
            | Self::InputTooLarge { .. } => BreakerSignal::Neither,
            _ => BreakerSignal::Failure,
        }
    }
}

/// Completes the span of a call, and logs it.
fn end_span(span: &Span, outcome: Outcome, (took, time): (Duration, Duration)) {
    if !span.is_disabled() {
        span.record("outcome", outcome.name()).record("us", micros(took)).record("cpu_us", micros(time));
        tracing::debug!("plugin called");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Adds a call to the log of its request, if it has one. Times are those from the call to its end, and of the processor.
pub(crate) fn log_call<A: HookCall>(
    ask: &A,
    (plugin, version): (&Arc<str>, Option<&CalledVersion>),
    outcome: Outcome,
    text: Option<String>,
    (took, time): (Duration, Duration),
) {
    let Some(facts) = ask.request() else { return };
    let Some(log) = &facts.call_log else { return };
    log.add(LoggedCall {
        request: facts.id.to_string(),
        environment: facts.environment.to_string(),
        route: facts.route,
        hook: A::HOOK.name(),
        plugin: Arc::clone(plugin),
        version: version.map(|it| Arc::clone(&it.version)),
        generation: version.map(|it| it.generation),
        outcome: outcome.name(),
        text,
        us: micros(took),
        cpu_us: micros(time),
    });
}
