//! Metrics of SDKs on their way to Harness: filtered, summed up, posted on a timer (F037 to F041).

mod port;
mod post;
mod sdks;
mod sums;

pub(crate) use self::port::{MetricsPort, NotTaken, PostOutcome};
pub(crate) use self::sdks::{KnownSdks, OTHER, Sdk};

#[cfg(fuzzing)]
pub(crate) fn fuzz(body: &bytes::Bytes) {
    let mut sums = sums::Sums::default();
    for event in post::Post::read(body).unwrap_or_default().events {
        let _ = sums.add(&event.body);
    }
    if let Some(batch) = sums.take() {
        assert!(serde_json::to_vec(&batch).is_ok(), "what is posted is JSON");
    }
}
