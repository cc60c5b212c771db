//! One call of a hook: the breaker's permit, an instance, the deadline, validation of the reply, and counters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Trap;
use yardarm_core::supervisor::{self, fault_point};
use yardarm_core::{EnvironmentLabel, InternalError, Lifecycle};

use crate::breaker::{Breaker, BreakerSignal};
use crate::capability::log;
use crate::guest::{DeadlinePassed, Guest, INIT_DEADLINE, Instance, MemoryExceeded, busy_allowance};
use crate::interface::HookCall;
use crate::interface::v0_1::ReadTooMuch;
use crate::manifest::{Bind, Hook, Isolation};
use crate::pool::{Pool, Slot};

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

/// Why a plugin returned no usable reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// C01: the guest stopped abnormally.
    #[error("the guest trapped ({kind}): {text}")]
    Trap {
        /// `unreachable`, `out-of-bounds`, `stack`, `divide`, `indirect`, `exit`, `host` or `other`.
        kind: &'static str,
        text: String,
    },
    /// C02: the guest exceeded its deadline.
    #[error("the guest exceeded its deadline")]
    Deadline,
    /// C03: the guest exceeded its memory limit.
    #[error("the guest {0}")]
    Memory(String),
    /// C04: the reply is larger than allowed.
    #[error("the reply has {size} bytes, {limit} are allowed")]
    OutputTooLarge { size: usize, limit: usize },
    /// C04: the reply is invalid.
    #[error("the reply is invalid: {0}")]
    OutputInvalid(String),
    /// C05: the guest returned an error.
    #[error("the guest reports {kind}: {text}")]
    Guest {
        /// `invalid-input`, `temporary` or `internal`.
        kind: &'static str,
        text: String,
    },
    /// C06: all instances are busy.
    #[error("no instance became available in time")]
    PoolExhausted,
    /// C08: too many recent calls failed.
    #[error("the breaker is open")]
    BreakerOpen,
    /// C09: a required plugin is missing.
    #[error("the required plugin is missing")]
    MissingRequired,
    /// C10: the input of the guest is larger than a hook's input may be. No evidence about the plugin.
    #[error("the input has {size} bytes, more than a hook's input may have")]
    InputTooLarge { size: usize },
}

/// How a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Trap,
    Deadline,
    MemoryLimit,
    OutputTooLarge,
    OutputInvalid,
    GuestError,
    PoolExhausted,
    BreakerOpen,
    MissingRequired,
    InputTooLarge,
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
        let started = Instant::now();
        let meter = self.guest.context.counters.hook(A::HOOK);
        let Some(permit) = self.breaker.admit() else {
            let refused = Err(CallError::BreakerOpen);
            meter.record(&refused, started.elapsed());
            return refused;
        };
        let budget = budget.min(self.bind.deadline);
        let answer = supervisor::catch(self.call_admitted(environment, ask, budget, started)).await;
        let result = answer.unwrap_or_else(|error| Err(CallError::of_panic(&error))).and_then(check);
        let ended = Instant::now();
        permit.record(result.as_ref().map_or_else(CallError::signal, |_| BreakerSignal::Success), ended);
        meter.record(&result, ended - started);
        if let Err(error) = &result {
            self.report(error);
        }
        result
    }

    async fn call_admitted<A: HookCall>(
        self: &Arc<Self>,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        started: Instant,
    ) -> Result<A::Reply, CallError> {
        let _ticking = self.guest.engine.enter();
        fault_point("plugin call");
        let (slot, now) = self.slot(A::HOOK, budget, started).await?;
        let (mut instance, now) = match self.pool.take(environment, now) {
            Some(instance) => (instance, now),
            None => (self.instantiate(A::HOOK, budget + self.creation).await?, Instant::now()),
        };
        let deadlines = instance.begin(A::HOOK, budget, now, ask.output_limit(0));
        let answer = match deadlines.wait(ask.ask(&mut instance)).await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                self.discard(environment, instance);
                return Err(CallError::of(&error));
            }
            None => {
                self.discard(environment, instance);
                return Err(CallError::Deadline);
            }
        };
        let lent = instance.store.data().lent;
        self.give_back(environment, instance, now);
        drop(slot);
        let reply = answer?;
        let (size, limit) = (A::output_size(&reply), ask.output_limit(lent));
        if size > limit { Err(CallError::OutputTooLarge { size, limit }) } else { Ok(reply) }
    }

    /// Waits for a slot among the concurrent calls, for at most the time that a reply may take; returns it with the
    /// time from which the deadline counts.
    async fn slot(&self, hook: Hook, budget: Duration, started: Instant) -> Result<(Slot, Instant), CallError> {
        if let Some(slot) = self.pool.try_slot() {
            return Ok((slot, started));
        }
        let slot = tokio::time::timeout(busy_allowance(budget), self.pool.slot()).await;
        let now = Instant::now();
        self.guest.context.counters.hook(hook).waited(now - started);
        slot.map(|slot| (slot, now)).map_err(|_| CallError::PoolExhausted)
    }

    async fn instantiate(&self, hook: Hook, deadline: Duration) -> Result<Instance, CallError> {
        self.guest.instantiate(hook, self.bind.memory_mb, deadline, false).await
    }

    fn give_back(self: &Arc<Self>, environment: &EnvironmentLabel, instance: Instance, now: Instant) {
        if self.isolation == Isolation::Call {
            return;
        }
        if self.pool.is_worn(&instance, self.bind.memory_mb, now) {
            self.discard(environment, instance);
        } else {
            self.pool.put(environment, instance);
        }
    }

    /// Drops an instance; where instances are reused, creates the next one before a call needs it.
    fn discard(self: &Arc<Self>, environment: &EnvironmentLabel, instance: Instance) {
        drop(instance);
        if self.isolation == Isolation::Call {
            return;
        }
        self.pool.count_retired();
        let (binding, environment) = (Arc::downgrade(self), environment.clone());
        self.lifecycle.spawn("plugin instance", async move {
            // A generation that has been replaced needs no instances.
            let Some(binding) = binding.upgrade() else { return };
            let _ticking = binding.guest.engine.enter();
            match binding.instantiate(binding.bind.hook, INIT_DEADLINE).await {
                Ok(instance) => binding.pool.put(&environment, instance),
                Err(error) => binding.report(&error),
            }
        });
    }

    /// Logs a failure, within the plugin's log rate limit.
    fn report(&self, error: &CallError) {
        let context = &self.guest.context;
        if context.counters.log.admit() {
            let (class, code) = (error.outcome().name(), error.code());
            tracing::warn!(plugin = %context.name, hook = %self.bind.hook, class, code, %error, "plugin call failed");
        }
    }
}

impl CallError {
    /// The host panicked during the call. The binding's failure policy applies, and the instance is dropped.
    fn of_panic(error: &InternalError) -> Self {
        Self::Trap { kind: "host", text: error.to_string() }
    }

    /// Classifies an error of Wasmtime.
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        let text = || log::clean(&error.root_cause().to_string());
        if error.downcast_ref::<DeadlinePassed>().is_some() {
            return Self::Deadline;
        }
        if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
            return Self::Memory(exceeded.to_string());
        }
        if error.downcast_ref::<ReadTooMuch>().is_some() {
            return Self::InputTooLarge { size: 32 << 20 };
        }
        if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
            return Self::PoolExhausted;
        }
        if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
            return Self::Trap { kind: "exit", text: text() };
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            let kind = match trap {
                Trap::Interrupt => return Self::Deadline,
                Trap::UnreachableCodeReached => "unreachable",
                Trap::MemoryOutOfBounds | Trap::HeapMisaligned | Trap::ArrayOutOfBounds => "out-of-bounds",
                Trap::StackOverflow => "stack",
                Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger => "divide",
                Trap::TableOutOfBounds | Trap::IndirectCallToNull | Trap::BadSignature => "indirect",
                _ => "other",
            };
            return Self::Trap { kind, text: text() };
        }
        // The remaining errors occur when the host reads a reply: text that is not UTF-8, pointers out of bounds.
        Self::OutputInvalid(text())
    }

    /// Returns the stable code (see "Error codes" in `plugins/README.md`).
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "C01",
            Self::Deadline => "C02",
            Self::Memory(_) => "C03",
            Self::OutputTooLarge { .. } | Self::OutputInvalid(_) => "C04",
            Self::Guest { .. } => "C05",
            Self::PoolExhausted => "C06",
            Self::BreakerOpen => "C08",
            Self::MissingRequired => "C09",
            Self::InputTooLarge { .. } => "C10",
        }
    }

    /// Returns how a call with this result is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Trap { .. } => Outcome::Trap,
            Self::Deadline => Outcome::Deadline,
            Self::Memory(_) => Outcome::MemoryLimit,
            Self::OutputTooLarge { .. } => Outcome::OutputTooLarge,
            Self::OutputInvalid(_) => Outcome::OutputInvalid,
            Self::Guest { .. } => Outcome::GuestError,
            Self::PoolExhausted => Outcome::PoolExhausted,
            Self::BreakerOpen => Outcome::BreakerOpen,
            Self::MissingRequired => Outcome::MissingRequired,
            Self::InputTooLarge { .. } => Outcome::InputTooLarge,
        }
    }

    /// Returns whether the breaker counts the error as a failure of the plugin. Errors that a caller can provoke with
    /// unusual input do not count; otherwise one caller could open the breaker for all.
    fn signal(&self) -> BreakerSignal {
        match self {
            Self::Guest { kind: "invalid-input", .. }
            | Self::PoolExhausted
            | Self::BreakerOpen
            | Self::MissingRequired
            | Self::InputTooLarge { .. } => BreakerSignal::Neither,
            _ => BreakerSignal::Failure,
        }
    }
}

impl Outcome {
    /// All outcomes, in the order of their values.
    pub(crate) const ALL: [Self; 11] = [
        Self::Ok,
        Self::Trap,
        Self::Deadline,
        Self::MemoryLimit,
        Self::OutputTooLarge,
        Self::OutputInvalid,
        Self::GuestError,
        Self::PoolExhausted,
        Self::BreakerOpen,
        Self::MissingRequired,
        Self::InputTooLarge,
    ];

    /// Returns the name in metrics and in failures reported to vendors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::MemoryLimit => "memory-limit",
            Self::OutputTooLarge => "output-too-large",
            Self::OutputInvalid => "output-invalid",
            Self::GuestError => "guest-error",
            Self::PoolExhausted => "pool-exhausted",
            Self::BreakerOpen => "breaker-open",
            Self::MissingRequired => "missing-required",
            Self::InputTooLarge => "input-too-large",
        }
    }
}
