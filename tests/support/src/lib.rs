//! Fakes and helpers for tests, the demo and the benchmark. They know HTTP and JSON and do not depend on the gateway's
//! crates, so that they cannot share a bug with it.
#![forbid(unsafe_code)]

mod connection;
mod fake_harness;
mod fake_launchdarkly;
#[cfg(feature = "guests")]
pub mod guests;
mod http_client;
mod raw_upstream;
#[cfg(feature = "redis")]
mod redis_server;
mod sse_client;
mod vectors;

pub use self::connection::{Connection, Head, WAIT_TIMEOUT, until, within};
pub use self::fake_harness::{FakeHarness, HarnessAnswer};
pub use self::fake_launchdarkly::{FakeLaunchDarkly, Recorded, StreamAnswer};
pub use self::http_client::{Answer, Call, gzip};
pub use self::raw_upstream::{RawUpstream, Step};
#[cfg(feature = "redis")]
pub use self::redis_server::{RedisServer, Reply};
pub use self::sse_client::{SseClient, StreamItem};
pub use self::vectors::vectors;
