//! The Wasmtime engine, with the reason for each setting, and the ticker of deadlines.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use yardarm_core::supervisor::{self, Supervisor, fault_point};

use crate::runtime::capability::Linkers;
use crate::runtime::capability::fingerprint::Fingerprints;
use crate::vocabulary::LARGEST_MEMORY_MB;

/// Resolution of deadlines. A running guest yields at each tick.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker sleeps, so that an idle gateway causes no wake-ups.
const IDLE_TICKS: u32 = 50;
/// Time after which urgent compilation leaves idle priority.
const URGENT_AFTER: Duration = Duration::from_millis(700);
/// Bytes of each linear memory that stay resident between instances; more would cost memory without benefit.
const KEPT_MEMORY: usize = 4 << 20;
/// Bytes of each table that stay resident between instances.
const KEPT_TABLE: usize = 64 << 10;
/// Identifies settings that are not part of Wasmtime's precompilation hash; change it together with [`config`].
pub(crate) const OWN_KEY: &str = "yardarm-1 opt=speed address-map backtrace";

/// An engine with its linkers and threads.
pub(crate) struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linkers: Linkers,
    pub(crate) fingerprints: Arc<Fingerprints>,
    ticker: Arc<Ticker>,
    compiler: rayon::ThreadPool,
    compiling_thread: Arc<OnceLock<priority::ThreadId>>,
    pub(crate) facts: EngineFacts,
}

/// The effective properties of the engine on this machine, for the status page.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EngineFacts {
    /// `pooling` or `on-demand`.
    pub allocation: &'static str,
    /// Maximum number of live plugin instances, over all plugins.
    pub instances: Option<u32>,
    /// Whether memories are reset by querying the kernel for written pages.
    pub page_map_scan: bool,
}

/// A call in progress; the ticker runs while one exists.
pub(crate) struct InFlight<'a>(&'a Ticker);

#[derive(Default)]
struct Ticker {
    calls: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Engine {
    /// Creates an engine for up to `instances` live instances, or fewer if the address space is too small.
    pub(crate) fn new(instances: u32) -> wasmtime::Result<Self> {
        let (wasmtime, facts) = build(instances)?;
        let compiling_thread = Arc::new(OnceLock::new());
        let thread_id = Arc::clone(&compiling_thread);
        let compiler = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "yardarm-compile".to_owned())
            .start_handler(move |_| {
                let _ = thread_id.set(priority::this_thread());
            })
            // The panic is logged where it is caught; the waiting side sees the channel close.
            .panic_handler(|_| ())
            .build()?;
        let linkers = Linkers::new(&wasmtime)?;
        let ticker = Arc::new(Ticker::default());
        let (weak, shared) = (wasmtime.weak(), Arc::clone(&ticker));
        let thread = Supervisor::global().thread("plugin clock", "yardarm-epoch", move || tick(&weak, &shared))?;
        // Set once, here; a call before this line would only wait for the next park to time out.
        let _ = ticker.thread.set(thread);
        Ok(Self {
            wasmtime,
            linkers,
            fingerprints: Arc::new(Fingerprints::new()),
            ticker,
            compiler,
            compiling_thread,
            facts,
        })
    }

    /// Keeps the ticker running until the value is dropped.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.ticker.calls.fetch_add(1, Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.ticker.thread.get()
        {
            thread.unpark();
        }
        InFlight(&self.ticker)
    }

    /// Runs `work` on the compiler thread, at idle priority. `urgent` work leaves idle priority soon: on a machine
    /// whose processors are all busy, idle threads never run.
    pub(crate) async fn compile<T: Send + 'static>(
        &self,
        urgent: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let work = supervisor::carried("plugin compiler", work);
        self.compiler.spawn(move || {
            priority::be_idle();
            if let Ok(done) = work() {
                // The receiver is dropped when the gateway stops.
                let _ = sender.send(done);
            }
        });
        if urgent && let Ok(done) = tokio::time::timeout(URGENT_AFTER, &mut receiver).await {
            return done.ok();
        }
        if urgent && let Some(thread) = self.compiling_thread.get() {
            priority::lift(*thread);
        }
        receiver.await.ok()
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn build(instances: u32) -> wasmtime::Result<(wasmtime::Engine, EngineFacts)> {
    let page_map_scan = PoolingAllocationConfig::is_pagemap_scan_available();
    for instances in [instances, instances / 4, instances / 16] {
        if instances == 0 {
            continue;
        }
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances, page_map_scan)));
        match wasmtime::Engine::new(&config) {
            Ok(engine) => {
                let facts = EngineFacts { allocation: "pooling", instances: Some(instances), page_map_scan };
                return Ok((engine, facts));
            }
            Err(error) => tracing::warn!(instances, %error, "not enough address space for this many plugin instances"),
        }
    }
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let facts = EngineFacts { allocation: "on-demand", instances: None, page_map_scan: false };
    Ok((wasmtime::Engine::new(&config)?, facts))
}

/// Returns the settings that are common to both allocation strategies. Reservations and guards keep their defaults:
/// smaller ones would require bounds checks.
fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // Disabling it makes a reused call 0.4 µs faster and a fresh one 2 µs.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config
}

fn pool(instances: u32, page_map_scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    // A component contains several core instances, memories and tables; Python's has up to 38 of the first.
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(24))
        .total_memories(instances.saturating_mul(3))
        .total_tables(instances.saturating_mul(6))
        .total_stacks(instances)
        .max_core_instances_per_component(40)
        .max_memories_per_component(4)
        .max_tables_per_component(20)
        .max_memory_size((LARGEST_MEMORY_MB as usize) << 20);
    if page_map_scan {
        pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(KEPT_MEMORY).table_keep_resident(KEPT_TABLE);
    } else {
        // Without the scan, keeping memory resident means copying it; returning it in batches is faster.
        pool.pagemap_scan(Enabled::No).linear_memory_keep_resident(0).decommit_batch_size(16);
    }
    pool
}

/// Advances the epoch while calls are in progress; ends when the engine is dropped.
fn tick(engine: &EngineWeak, ticker: &Ticker) {
    let mut idle = 0;
    loop {
        std::thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        fault_point("plugin clock");
        engine.increment_epoch();
        drop(engine);
        if ticker.calls.load(Ordering::SeqCst) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < IDLE_TICKS {
            continue;
        }
        ticker.asleep.store(true, Ordering::SeqCst);
        // A call that began before the store above is visible here; a call that begins after it wakes this thread.
        fence(Ordering::SeqCst);
        if ticker.calls.load(Ordering::SeqCst) == 0 {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        ticker.asleep.store(false, Ordering::SeqCst);
        // Without a call in the meantime, it sleeps again after one tick, which finds out whether the engine is dropped.
        idle = if ticker.calls.load(Ordering::SeqCst) > 0 { 0 } else { IDLE_TICKS - 1 };
    }
}

/// Thread priorities, so that compilation does not compete with serving threads.
#[cfg(target_os = "linux")]
mod priority {
    use thread_priority::unix::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
    pub(super) use thread_priority::{ThreadId, thread_native_id as this_thread};
    use thread_priority::{ThreadPriority, set_thread_priority_and_policy};
    use yardarm_core::Supervisor;

    /// Gives this thread idle priority.
    pub(super) fn be_idle() {
        set(this_thread(), NormalThreadSchedulePolicy::Idle);
    }

    /// Gives a thread normal priority.
    pub(super) fn lift(thread: ThreadId) {
        // The call also changes the niceness of the calling thread, so it is made on a thread that then ends.
        let lifted = Supervisor::global()
            .thread("compiler priority", "yardarm-priority", move || set(thread, NormalThreadSchedulePolicy::Other));
        if let Err(error) = lifted {
            tracing::debug!(%error, "the compiler thread stays at idle priority");
        }
    }

    fn set(thread: ThreadId, policy: NormalThreadSchedulePolicy) {
        let policy = ThreadSchedulePolicy::Normal(policy);
        if let Err(error) = set_thread_priority_and_policy(thread, ThreadPriority::Min, policy) {
            tracing::debug!(?error, "the compiler thread keeps its priority");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod priority {
    pub(super) type ThreadId = ();

    pub(super) fn this_thread() {}

    pub(super) fn be_idle() {}

    pub(super) fn lift((): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticker_sleeps_when_nothing_runs_and_wakes_for_a_call() {
        let engine = Engine::new(4).unwrap();
        let wait = |wanted: bool| {
            for _ in 0..2_000 {
                if engine.ticker.asleep.load(Ordering::SeqCst) == wanted {
                    return;
                }
                std::thread::sleep(TICK);
            }
            panic!("asleep is not {wanted}");
        };
        wait(true);
        let call = engine.enter();
        wait(false);
        drop(call);
        wait(true);
    }

    #[tokio::test]
    async fn compilation_runs_on_a_separate_thread() {
        let engine = Engine::new(4).unwrap();
        let name = engine.compile(true, || std::thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("yardarm-compile"));
    }
}
