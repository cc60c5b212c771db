//! Fakes of the vendors' services, for the demo, the tests and the benchmark. They know HTTP and JSON and do not depend on
//! the gateway's crates, so that they cannot share a bug with it.
#![forbid(unsafe_code)]

mod launchdarkly;

mod harness;

pub use self::harness::{FakeHarness, HarnessAnswer};
pub use self::launchdarkly::{FakeLaunchDarkly, Recorded, StreamAnswer, TransferAnswer};
