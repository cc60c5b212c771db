//! The imports and facts that a guest has access to: bounded log lines and its own metrics, and nothing else unless the
//! operator grants more.
//!
//! Each grant is one interface (withheld when linking) or one fact of a resource (withheld when calling).

pub(crate) mod clock;
pub(crate) mod fingerprint;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod wasi;

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::WasiView;

use super::guest::GuestState;
use super::interface::v0_1;
use crate::vocabulary::Grants;

/// The linkers of one engine, one per set of granted interfaces.
pub(crate) struct Linkers {
    plain: Linker<GuestState>,
    timed: Linker<GuestState>,
}

impl Linkers {
    /// Builds the linkers.
    pub(crate) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut plain = Linker::new(engine);
        add_default(&mut plain)?;
        wasi::add_to_linker(&mut plain)?;
        let mut timed = plain.clone();
        v0_1::host::clock::add_to_linker::<GuestState, HasSelf<GuestState>>(&mut timed, |state| state)?;
        Ok(Self { plain, timed })
    }

    /// Returns the linker for a set of grants.
    pub(crate) fn of(&self, grants: &Grants) -> &Linker<GuestState> {
        if grants.clock { &self.timed } else { &self.plain }
    }
}

fn add_default(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Own = HasSelf<GuestState>;
    v0_1::host::log::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::metrics::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::request::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::context::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::events::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::items::add_to_linker::<GuestState, Own>(linker, |state| state)?;
    v0_1::host::results::add_to_linker::<GuestState, Own>(linker, |state| state)
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi::powerless(&self.plugin));
        wasmtime_wasi::WasiCtxView { ctx, table: &mut self.table }
    }
}
