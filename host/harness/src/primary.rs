//! The primary of read replicas: writes what this gateway serves to the shared database, and posts their metrics.

mod differences;
mod metrics;
mod state;
mod writer;

pub(crate) use self::metrics::ReplicaMetrics;
pub(crate) use self::writer::PrimaryWriter;
