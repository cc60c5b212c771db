//! WASI 0.3: the same parts as of 0.2, from the same context. They are linked for components that import them, beside those
//! of 0.2, in the engine with concurrency.
//!
//! A hook is a plain function, so a call of an `async func` of WASI that would wait, such as `wait-for`, ends it with a
//! trap. A write to stdout or stderr never waits.

use wasmtime::component::Linker;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p3::bindings::{cli, clocks, filesystem, random};
use wasmtime_wasi::random::WasiRandom;

use crate::runtime::guest::GuestState;

/// The interfaces that [`add_to_linker`] adds, and those that contain only types.
pub(crate) const OFFERED: [&str; 19] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Returns whether an import, a name with a version, is of WASI 0.3, drafts of it included.
pub(crate) fn is_version_of(import: &str) -> bool {
    import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, version)| version.starts_with("0.3."))
}

/// Adds the interfaces to a linker, whose engine must have concurrency. Sockets are not among them.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    let l = linker;
    clocks::types::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::system_clock::add_to_linker::<State, WasiClocks>(l, |t| {
        t.note_clock();
        t.clocks()
    })?;
    add_shared!(l)
}
