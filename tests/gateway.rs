//! The gateway as a process, whatever the vendor: start, configuration, operators, limits, end.

mod admin;
mod binary;
mod check;
mod compression;
mod config;
mod crowd;
mod descriptors;
mod disk;
mod framing;
mod http2;
mod idle;
mod limits;
mod log;
mod page;
mod panics;
mod readiness;
mod reload;
mod secrets;
mod shutdown;
mod stuck;
mod tls;
mod vendors;
