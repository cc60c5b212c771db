//! WebAssembly: the engine, one store per instance, the interface's versions, and what a guest may import.

pub(crate) mod capability;
pub(crate) mod capture;
pub(crate) mod cpu_share;
pub(crate) mod deadline;
pub(crate) mod engine;
pub(crate) mod guest;
pub(crate) mod interface;
pub(crate) mod native_code;
pub(crate) mod processor_time;
mod trap;
