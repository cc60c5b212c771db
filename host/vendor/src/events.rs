//! Events from SDKs on their way to the vendor: the event filter, bounded queues, delivery, and an account of every event.

pub mod outbox;

pub mod pipeline;

pub mod ordered_posts;

pub mod spool;
