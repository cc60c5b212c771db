//! The imports and facts that a guest has access to: bounded log lines and its own metrics, and nothing else unless the
//! operator grants more.
//!
//! Each grant is one interface (withheld when linking) or one fact of a resource (withheld when calling).

pub(crate) mod clock;
pub(crate) mod fingerprint;
mod http;
mod kv;
pub(crate) mod log;
pub(crate) mod metrics;
mod shared;
pub(crate) mod wasi;

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::WasiView;

use super::engine::EngineKind;
use super::guest::GuestState;
use super::interface::v0_1;
use crate::vocabulary::Grants;

type Own = HasSelf<GuestState>;
/// Whether an interface is granted, and how it is added to a linker.
type Granted = (fn(&Grants) -> bool, fn(&mut Linker<GuestState>) -> wasmtime::Result<()>);

/// The interfaces that need a grant.
const GRANTED: [Granted; 3] = [
    (|grants| grants.clock, |linker| v0_1::host::clock::add_to_linker::<GuestState, Own>(linker, |state| state)),
    (|grants| grants.kv, |linker| v0_1::host::kv::add_to_linker::<GuestState, Own>(linker, |state| state)),
    (Grants::has_http, |linker| v0_1::host::http::add_to_linker::<GuestState, Own>(linker, |state| state)),
];

/// The linkers of one engine, one per set of granted interfaces: the bits of an index are the elements of [`GRANTED`].
pub(crate) struct Linkers([Linker<GuestState>; 1 << GRANTED.len()]);

impl Linkers {
    /// Builds the linkers for an engine of this kind.
    pub(crate) fn new(engine: &wasmtime::Engine, kind: EngineKind) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        add_default(&mut plain)?;
        wasi::add_to_linker(&mut plain)?;
        if kind == EngineKind::Concurrent {
            wasi::v0_3::add_to_linker(&mut plain)?;
        }
        let mut linkers = std::array::from_fn(|_| plain.clone());
        for (index, linker) in linkers.iter_mut().enumerate() {
            for (bit, (_, add)) in GRANTED.iter().enumerate() {
                if index & (1 << bit) != 0 {
                    add(linker)?;
                }
            }
        }
        Ok(Self(linkers))
    }

    /// Returns the linker for a set of grants.
    pub(crate) fn of(&self, grants: &Grants) -> &Linker<GuestState> {
        let bits = GRANTED.iter().enumerate().filter(|(_, (is_granted, _))| is_granted(grants));
        &self.0[bits.map(|(bit, _)| 1 << bit).sum::<usize>()]
    }
}

fn add_default(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    v0_1::host::log::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::metrics::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::request::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::context::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::events::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::items::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::shared::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::results::add_to_linker::<GuestState, Own>(linker, |state| state)
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        let wasi = wasi::Wasi::of(&mut self.wasi, &self.plugin, self.is_repeatable);
        wasmtime_wasi::WasiCtxView { ctx: &mut wasi.ctx, table: &mut self.table }
    }
}
