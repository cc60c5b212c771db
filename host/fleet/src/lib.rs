//! Several gateways that divide their work: for each source of data, one of them, the leader, is connected to upstream, and
//! the others follow what it publishes in a shared database.
//!
//! A source is led by the gateway that holds its lease ([`leadership`](self)). Another one takes over when the lease ends,
//! because the leader has stopped or cannot reach the database, or when the leader gives it up, because it cannot reach
//! upstream. While the database cannot be reached, each gateway is connected to upstream by itself. What is published is
//! independent of any vendor: keys with texts ([`Content`]).
#![forbid(unsafe_code)]

mod config;

mod leadership;

mod shared_source;

mod fleet;

mod source;

mod publisher;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use self::config::{FleetConfig, KEYS};
pub use self::fleet::Fleet;
pub use self::leadership::Role;
pub use self::publisher::{Content, Publisher};
pub use self::shared_source::LeaderReport;
pub use self::source::{News, Source};
pub use yardarm_store::{Entry, Position};
