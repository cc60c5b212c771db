//! The parts of WASI that language runtimes need to start, without access to the host: no environment, no arguments, no
//! files, no sockets, closed stdin; stdout and stderr are written to the plugin's log. The interfaces of 0.2 are here.

mod printer;

/// Adds the interfaces that have the same names in WASI 0.2 and 0.3, with the modules of one version in scope. What is
/// recorded without a grant is the same in both.
macro_rules! add_shared {
    ($l:ident) => {{
        clocks::monotonic_clock::add_to_linker::<State, WasiClocks>($l, State::advancing_clocks)?;
        filesystem::preopens::add_to_linker::<State, WasiFilesystem>($l, State::filesystem)?;
        filesystem::types::add_to_linker::<State, WasiFilesystem>($l, State::filesystem)?;
        random::random::add_to_linker::<State, WasiRandom>($l, State::advancing_random)?;
        random::insecure::add_to_linker::<State, WasiRandom>($l, State::advancing_random)?;
        // Seeds of hash tables, which runtimes read for their own use.
        random::insecure_seed::add_to_linker::<State, WasiRandom>($l, |t| t.ctx().ctx.random())?;
        cli::exit::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::environment::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::stdin::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::stdout::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::stderr::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::terminal_input::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::terminal_output::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::terminal_stdin::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::terminal_stdout::add_to_linker::<State, WasiCli>($l, State::cli)?;
        cli::terminal_stderr::add_to_linker::<State, WasiCli>($l, State::cli)
    }};
}

pub(crate) mod v0_3;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::random::{Deterministic, WasiRandom, WasiRandomCtx};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiView};

use self::printer::Printer;
use crate::runtime::guest::{GuestState, PluginContext};
use crate::runtime::interface::v0_1::host::log::Level;
use crate::vocabulary::Grants;

/// The fixed time of the clocks of a plugin without the grant `clock`, and of hooks whose replies are repeated: 2020-01-01.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1_577_836_800);

/// What such a clock shows, in words.
pub(super) const STANDSTILL_TEXT: &str = "the same time always, 2020-01-01";

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds the interfaces to a linker. Sockets are not among them.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    let l = linker;
    io::error::add_to_linker::<State, Io>(l, |t| t.ctx().table)?;
    io::poll::add_to_linker::<State, Io>(l, |t| t.ctx().table)?;
    io::streams::add_to_linker::<State, Io>(l, |t| t.ctx().table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, |t| {
        t.note_clock();
        t.clocks()
    })?;
    add_shared!(l)
}

impl GuestState {
    /// Records a read of the wall clock.
    fn note_clock(&self) {
        if self.is_in_hook() {
            self.record_unreal("clock", self.plugin.grants.clock, STANDSTILL_TEXT);
        }
    }

    /// Returns the clocks for a read of the monotonic one.
    pub(super) fn advancing_clocks(&mut self) -> WasiClocksCtxView<'_> {
        Wasi::of(&mut self.wasi, &self.plugin, self.is_repeatable).has_advanced = true;
        self.clocks()
    }

    /// Returns the random numbers for a read, which is recorded.
    fn advancing_random(&mut self) -> &mut WasiRandomCtx {
        if self.is_in_hook() {
            self.record_unreal("random", self.plugin.grants.random, "the same numbers in each instance");
        }
        let wasi = Wasi::of(&mut self.wasi, &self.plugin, self.is_repeatable);
        wasi.has_advanced = true;
        wasi.ctx.random()
    }

    /// Returns whether a hook is called. Before, during the start of an instance, a language runtime reads clocks and random
    /// numbers for its own use.
    fn is_in_hook(&self) -> bool {
        self.hook.is_some()
    }
}

/// The WASI of one instance of a plugin.
pub(crate) struct Wasi {
    pub(super) ctx: WasiCtx,
    /// Whether something was read that is different when it is read again.
    has_advanced: bool,
    stdout: Printer,
    stderr: Printer,
}

impl Wasi {
    /// Returns that of an instance, created for its first use. With `is_repeatable` it contains nothing that differs from one
    /// instance to the next, whatever is granted.
    pub(super) fn of<'a>(slot: &'a mut Option<Self>, plugin: &Arc<PluginContext>, is_repeatable: bool) -> &'a mut Self {
        slot.get_or_insert_with(|| {
            let (stdout, stderr) = (Printer::new(plugin, Level::Info), Printer::new(plugin, Level::Warn));
            let ctx = powerless(&stdout, &stderr, &plugin.grants, is_repeatable);
            Self { ctx, has_advanced: false, stdout, stderr }
        })
    }

    /// Begins clocks and random numbers anew, so that a call reads the same as the one before.
    pub(crate) fn repeat(&mut self, grants: &Grants) {
        if std::mem::take(&mut self.has_advanced) {
            self.ctx = powerless(&self.stdout, &self.stderr, grants, true);
        }
    }
}

fn powerless(stdout: &Printer, stderr: &Printer, grants: &Grants, is_repeatable: bool) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder.stdout(stdout.clone());
    builder.stderr(stderr.clone());
    builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    builder.max_random_size(64 * 1024);
    if is_repeatable || !grants.clock {
        builder.wall_clock(Standing).monotonic_clock(Counting(AtomicU64::new(0)));
    }
    if is_repeatable || !grants.random {
        builder.secure_random(numbers()).insecure_random(numbers()).insecure_random_seed(1);
    }
    builder.build()
}

/// A wall clock with a fixed time.
struct Standing;

impl HostWallClock for Standing {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        STANDSTILL
    }
}

/// A monotonic clock that advances by a millisecond per read, so that loops that wait for time terminate.
struct Counting(AtomicU64);

impl HostMonotonicClock for Counting {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(1_000_000, Ordering::Relaxed)
    }
}

/// Returns a generator of the same bytes for each instance.
fn numbers() -> Deterministic {
    Deterministic::new((0..=u8::MAX).map(|n| n.wrapping_mul(167).wrapping_add(13)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_not_granted_stands_still_and_waiting_for_it_ends() {
        assert_eq!(Standing.now(), STANDSTILL);
        let counting = Counting(AtomicU64::new(0));
        assert!(counting.now() < counting.now());
    }
}
