//! Helpers for tests and the benchmark, and the fake clouds. They know HTTP and JSON and do not depend on the gateway's
//! crates, so that they cannot share a bug with it.
#![forbid(unsafe_code)]

mod connection;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "dynamodb")]
mod dynamodb_server;
#[cfg(test)]
mod fakes;
#[cfg(feature = "guests")]
pub mod guests;
mod http_client;
mod origin;
mod raw_upstream;
#[cfg(feature = "redis")]
mod redis_server;
mod sse_client;
mod vectors;

pub use self::connection::{Connection, Head, WAIT_TIMEOUT, until, within};
#[cfg(feature = "consul")]
pub use self::consul::FakeConsul;
#[cfg(feature = "dynamodb")]
pub use self::dynamodb_server::{DynamoDbKind, DynamoDbServer};
pub use self::http_client::{Answer, Call, gzip};
pub use self::origin::{Arrived, Origin};
pub use self::raw_upstream::{RawUpstream, Step};
#[cfg(feature = "redis")]
pub use self::redis_server::{RedisServer, Reply};
pub use self::sse_client::{SseClient, StreamItem};
pub use self::vectors::vectors;
pub use yardarm_fake_clouds::{FakeHarness, FakeLaunchDarkly, HarnessAnswer, Recorded, StreamAnswer, TransferAnswer};
