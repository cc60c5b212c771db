//! Goals that are measured together, because they need the same gateway in the same state.

pub(crate) mod bombs;
pub(crate) mod calls;
pub(crate) mod evaluation;
pub(crate) mod events;
pub(crate) mod footprint;
pub(crate) mod growth;
pub(crate) mod herd;
pub(crate) mod languages;
pub(crate) mod loading;
pub(crate) mod multiplexed;
pub(crate) mod put;
pub(crate) mod request;
pub(crate) mod secure;
pub(crate) mod start;
pub(crate) mod storm;
pub(crate) mod streams;
pub(crate) mod swaps;
