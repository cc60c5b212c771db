//! The gateway as a process, whatever the vendor: start, configuration, operators, limits, end.

mod admin;
mod binary;
mod compression;
mod config;
mod crowd;
mod disk;
mod limits;
mod page;
mod secrets;
mod shutdown;
mod tls;
mod vendors;
