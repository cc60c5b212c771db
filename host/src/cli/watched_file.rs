//! Detects that the configuration file was replaced or edited. Its state is compared at intervals, because that also works
//! for files behind the links of mounted volumes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// Time between two looks. A change counts once the file is the same in two of them.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file and its states.
pub(super) struct WatchedFile {
    path: PathBuf,
    /// The state that was read.
    read: Option<Stamp>,
    /// The state at the last look.
    seen: Option<Stamp>,
    next_look: Instant,
}

/// What differs after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl WatchedFile {
    /// Watches a file from its present state on.
    pub(super) fn new(path: PathBuf) -> Self {
        let read = stamp(std::fs::metadata(&path));
        Self { path, read, seen: read, next_look: Instant::now() + INTERVAL }
    }

    /// Records that the file is read now.
    pub(super) fn mark_read(&mut self) {
        self.read = stamp(std::fs::metadata(&self.path));
        self.seen = self.read;
    }

    /// Waits until the file has changed and is complete. A file that is gone has not changed. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep_until(self.next_look).await;
            let newest = stamp(tokio::fs::metadata(&self.path).await);
            self.next_look = Instant::now() + INTERVAL;
            let is_complete = newest == self.seen;
            self.seen = newest;
            if newest.is_some() && newest != self.read && is_complete {
                self.read = newest;
                return;
            }
        }
    }
}

fn stamp(about: std::io::Result<Metadata>) -> Option<Stamp> {
    let about = about.ok()?;
    let modified = (about.mtime(), about.mtime_nsec());
    Some(Stamp { device: about.dev(), inode: about.ino(), length: about.len(), modified })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_change_counts_once_and_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, "a").unwrap();
        let mut file = WatchedFile::new(path.clone());
        let mut look = async || {
            file.next_look = Instant::now();
            let limit = tokio::time::timeout(INTERVAL / 2, file.changed());
            limit.await.is_ok()
        };
        assert!(!look().await, "nothing has changed");
        std::fs::write(&path, "ab").unwrap();
        assert!(!look().await, "it may still be written");
        assert!(look().await);
        assert!(!look().await, "once");
        std::fs::remove_file(&path).unwrap();
        assert!(!look().await && !look().await, "gone");
        std::fs::write(&path, "abc").unwrap();
        file.mark_read();
        assert!(file.changed().now_or_never().is_none(), "read in between");
    }
}
