//! The environments that are served: what is known of each, how changes reach them, and how a key finds its environment.

mod announced;
mod applier;
mod counters;
mod environment;
mod factory;
mod index;
mod metrics_poster;
mod pending;
mod report;
mod skipped;

pub(crate) use self::applier::Applier;
pub(crate) use self::environment::{Connection, HarnessEnvironment, StreamState};
pub(crate) use self::factory::{EnvironmentFactory, EnvironmentHandle};
pub(crate) use self::index::{Environments, Lookup};
pub(crate) use self::metrics_poster::MetricsPoster;
pub(crate) use self::pending::Pending;
pub use self::report::Incomplete;
pub(crate) use self::report::{completeness, of as report};
