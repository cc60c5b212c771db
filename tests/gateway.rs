//! The gateway as a process, independent of vendors: start, configuration, admin listener, limits, shutdown.

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
mod kills;
mod limits;
mod log;
mod openapi;
mod page;
mod panics;
mod readiness;
mod reload;
mod secrets;
mod shutdown;
mod stuck;
mod tls;
mod tls_client;
mod tls_streams;
mod vendors;
