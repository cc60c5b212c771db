//! The plugins that are being staged, side by side, so that a slow compilation does not delay others.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::entry::Identity;
use crate::plugin::Plugin;
use crate::vocabulary::LoadError;

/// Maximum number of units that are staged at a time.
const MOST: usize = 8;
/// How many of these places are left to small components.
const FOR_SMALL: usize = 2;
/// Size of a small component in bytes.
const SMALL: u64 = 1 << 20;

/// What is staged, and becomes active, together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// A plugin, by file stem.
    Plugin(Arc<str>),
    /// The plugins of a set, by the set's file stem.
    Set(Arc<str>),
}

/// A plugin that could not be staged.
pub(super) struct Failure {
    pub(super) stem: Arc<str>,
    pub(super) sha256: [u8; 32],
    pub(super) error: LoadError,
}

/// The result of staging a unit.
pub(super) type Outcome = Result<Vec<(Plugin, Identity)>, Box<Failure>>;

type Staging = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The stagings in progress.
#[derive(Default)]
pub(super) struct Stagings(Vec<(Unit, Staging)>);

impl Stagings {
    /// Returns whether `size` bytes of components can be staged now.
    pub(super) fn has_room(&self, size: u64) -> bool {
        self.0.len() < if size <= SMALL { MOST } else { MOST - FOR_SMALL }
    }

    pub(super) fn start(&mut self, unit: Unit, staging: impl Future<Output = Outcome> + Send + 'static) {
        self.0.push((unit, Box::pin(staging)));
    }

    /// Drops the staging of a unit, which ends it; returns whether there was one.
    pub(super) fn cancel(&mut self, unit: &Unit) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != unit);
        self.0.len() < before
    }

    pub(super) fn contains(&self, unit: &Unit) -> bool {
        self.0.iter().any(|(known, _)| known == unit)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Waits for the next staging that finishes; forever if there is none.
    pub(super) async fn next(&mut self) -> (Unit, Outcome) {
        poll_fn(|context| {
            for index in 0..self.0.len() {
                if let Poll::Ready(outcome) = self.0[index].1.as_mut().poll(context) {
                    let (unit, _) = self.0.swap_remove(index);
                    return Poll::Ready((unit, outcome));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn unit(stem: &str) -> Unit {
        Unit::Plugin(stem.into())
    }

    #[tokio::test]
    async fn a_short_staging_overtakes_a_long_one() {
        let mut stagings = Stagings::default();
        stagings.start(unit("long"), pending());
        stagings.start(unit("short"), ready(Ok(Vec::new())));
        assert_eq!(stagings.next().await.0, unit("short"));
        assert!(stagings.contains(&unit("long")) && stagings.cancel(&unit("long")));
        assert!(stagings.is_empty());
    }

    #[test]
    fn large_components_leave_places_to_small_ones() {
        let mut stagings = Stagings::default();
        for number in 0..MOST - FOR_SMALL {
            assert!(stagings.has_room(SMALL + 1), "{number}");
            stagings.start(unit(&number.to_string()), pending());
        }
        assert!(!stagings.has_room(SMALL + 1) && stagings.has_room(SMALL));
        stagings.start(unit("small"), pending());
        stagings.start(unit("smaller"), pending());
        assert!(!stagings.has_room(0));
    }
}
