//! Whether a file that has changed is complete.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::files::Stamp;

/// Time without changes before a file is read.
const STABLE: Duration = Duration::from_millis(300);

/// Files that recently changed.
#[derive(Debug, Default)]
pub(super) struct UnstableFiles(HashMap<PathBuf, (Stamp, Instant)>);

impl UnstableFiles {
    /// Returns whether a file with a new stamp is stable. `arrived` contains files that were closed or renamed into
    /// place since.
    pub(super) fn is_at_rest(&mut self, path: &Path, stamp: Stamp, arrived: &HashSet<PathBuf>) -> bool {
        if arrived.contains(path) {
            return true;
        }
        if stamp.age().is_some_and(|age| age >= STABLE) {
            return true;
        }
        let now = Instant::now();
        let (seen, since) = self.0.entry(path.to_owned()).or_insert((stamp, now));
        if *seen != stamp {
            (*seen, *since) = (stamp, now);
        }
        *since + STABLE <= now
    }

    /// Removes all recorded files.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_stable_when_unchanged_for_a_while_or_closed() {
        let stamp = |size| Stamp::made_up(size, Duration::ZERO);
        let path = Path::new("/d/a.wasm");
        let (mut unstable, nothing) = (UnstableFiles::default(), HashSet::new());
        let first = stamp(1);
        assert!(!unstable.is_at_rest(path, first, &nothing));
        tokio::time::advance(STABLE / 2).await;
        let second = stamp(2);
        assert!(!unstable.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(!unstable.is_at_rest(path, second, &nothing));
        tokio::time::advance(STABLE / 2).await;
        assert!(unstable.is_at_rest(path, second, &nothing));
        assert!(unstable.is_at_rest(path, stamp(3), &HashSet::from([path.to_owned()])));
        assert!(unstable.is_at_rest(path, Stamp::made_up(4, Duration::from_secs(9)), &nothing));
    }
}
