//! The Wasmtime engines, with the reason for each setting, and the ticker of deadlines.

mod variants;

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use wasmtime::component::Component;
use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use yardarm_core::Secret;
use yardarm_core::supervisor::{Supervisor, fault_point};

pub(crate) use self::variants::{EngineKind, Engines};
use crate::runtime::capability::Linkers;
use crate::runtime::capability::fingerprint::Fingerprints;
use crate::vocabulary::LARGEST_MEMORY_MB;

/// Resolution of deadlines. A running guest yields at each tick.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call after which the ticker sleeps, so that an idle gateway causes no wake-ups.
const IDLE_TICKS: u32 = 50;
/// Bytes of each linear memory that stay resident between instances. A guest that writes to more is slow to create anyway, and
/// the memory stays when its plugin is removed.
const KEPT_MEMORY: usize = 1 << 20;
/// Bytes of each table that stay resident between instances.
const KEPT_TABLE: usize = 64 << 10;
/// Identifies settings that are not part of Wasmtime's precompilation hash; change it together with [`config`].
const OWN_KEY: &str = "yardarm-2 opt=speed address-map backtrace";

/// The engines with their linkers and threads.
pub(crate) struct Engine {
    pub(crate) engines: Engines,
    plain: Linkers,
    /// The linkers of [`EngineKind::Concurrent`], created when the first component is linked with them.
    concurrent: OnceLock<Linkers>,
    pub(crate) fingerprints: Arc<Fingerprints>,
    ticker: Arc<Ticker>,
    /// Whether stores count instructions as fuel.
    pub(crate) is_metered: bool,
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
        let (plain, facts) = build(EngineKind::Plain, instances)?;
        Self::start(Engines::new(plain, facts.instances, false), facts)
    }

    /// Computes fingerprints with a key that other gateways have too.
    pub(crate) fn with_fingerprint_key(mut self, key: &Secret) -> Self {
        self.fingerprints = Arc::new(Fingerprints::shared(key));
        self
    }

    /// Creates an engine that counts the instructions of guests, which makes them slower. It does not run code that was
    /// compiled for other engines.
    pub(crate) fn metered() -> wasmtime::Result<Self> {
        let facts = EngineFacts { allocation: "on-demand", instances: None, page_map_scan: false };
        Self::start(Engines::new(on_demand(EngineKind::Plain, true)?, None, true), facts)
    }

    fn start(engines: Engines, facts: EngineFacts) -> wasmtime::Result<Self> {
        let plain = Linkers::new(engines.plain(), EngineKind::Plain)?;
        let ticker = Arc::new(Ticker::default());
        let (weak, shared, lazy) = (engines.plain().weak(), Arc::clone(&ticker), engines.lazy());
        let thread =
            Supervisor::global().thread("plugin clock", "yardarm-epoch", move || tick(&weak, &lazy, &shared))?;
        // Set once, here; a call before this line would only wait for the next park to time out.
        let _ = ticker.thread.set(thread);
        let is_metered = engines.is_metered();
        let (concurrent, fingerprints) = (OnceLock::new(), Arc::new(Fingerprints::new()));
        Ok(Self { engines, plain, concurrent, fingerprints, ticker, is_metered, facts })
    }

    /// Returns the linkers for a component, of the engine for which it was compiled.
    pub(crate) fn linkers_of(&self, component: &Component) -> wasmtime::Result<&Linkers> {
        if wasmtime::Engine::same(component.engine(), self.engines.plain()) {
            return Ok(&self.plain);
        }
        if let Some(linkers) = self.concurrent.get() {
            return Ok(linkers);
        }
        let linkers = Linkers::new(component.engine(), EngineKind::Concurrent)?;
        Ok(self.concurrent.get_or_init(|| linkers))
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
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Creates an engine without a pool. Its code runs in any [`Engine`] of this version that does or does not count
/// instructions like it.
pub(crate) fn on_demand(kind: EngineKind, is_metered: bool) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = config(kind);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand).consume_fuel(is_metered);
    wasmtime::Engine::new(&config)
}

/// Identifies what compiled code depends on besides the component: Wasmtime and its settings. `engine` is the one of
/// [`EngineKind::Plain`]: the other has the same settings but for one, and the component decides which of the two it is.
pub(crate) fn code_key(engine: &wasmtime::Engine) -> String {
    let mut hasher = DigestHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let mut digest = hasher.0;
    digest.update(OWN_KEY);
    hex::encode(&digest.finalize()[..8])
}

/// A hasher whose digest is the same in every process.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn build(kind: EngineKind, instances: u32) -> wasmtime::Result<(wasmtime::Engine, EngineFacts)> {
    let page_map_scan = PoolingAllocationConfig::is_pagemap_scan_available();
    for instances in [instances, instances / 4, instances / 16] {
        if instances == 0 {
            continue;
        }
        let mut config = config(kind);
        let mut pool = pool(instances, page_map_scan);
        if kind == EngineKind::Concurrent {
            // A store may keep the stack of a call beside that of the next one.
            pool.total_stacks(instances.saturating_mul(2));
        }
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        match wasmtime::Engine::new(&config) {
            Ok(engine) => {
                let facts = EngineFacts { allocation: "pooling", instances: Some(instances), page_map_scan };
                return Ok((engine, facts));
            }
            Err(error) => tracing::warn!(instances, %error, "not enough address space for this many plugin instances"),
        }
    }
    let facts = EngineFacts { allocation: "on-demand", instances: None, page_map_scan: false };
    Ok((on_demand(kind, false)?, facts))
}

/// Returns the settings that are common to both allocation strategies. Reservations and guards keep their defaults:
/// smaller ones would require bounds checks.
fn config(kind: EngineKind) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // It makes a reused call 0.8 µs slower and a fresh one 1.8 µs.
    config.concurrency_support(kind == EngineKind::Concurrent);
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

/// Advances the epochs of both engines while calls are in progress; ends when the engine is dropped.
fn tick(engine: &EngineWeak, concurrent: &OnceLock<wasmtime::Engine>, ticker: &Ticker) {
    let mut idle = 0;
    loop {
        std::thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        fault_point("plugin clock");
        engine.increment_epoch();
        drop(engine);
        if let Some(concurrent) = concurrent.get() {
            concurrent.increment_epoch();
        }
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

    #[test]
    fn code_of_an_engine_without_a_pool_is_for_one_with_a_pool() {
        let pooled = Engine::new(4).unwrap();
        assert_eq!(pooled.facts.allocation, "pooling");
        assert_eq!(code_key(&on_demand(EngineKind::Plain, false).unwrap()), code_key(pooled.engines.plain()));
    }
}
