//! Group memberships: two sets per subject, a cursor, and a time.

use std::time::Duration;

use redis::{cmd, pipe};

use super::{LARGE, Redis};
use crate::{Advanced, Membership, MembershipPatch, Progress, StoreError};

/// Time limit of a lookup, which an SDK's request waits for.
const LOOK_UP: Duration = Duration::from_secs(1);

impl Redis {
    pub(super) async fn read_membership(&self, subject: &str) -> Result<Membership, StoreError> {
        let mut both = pipe();
        both.cmd("SMEMBERS").arg(self.subject(self.layout.include, subject));
        both.cmd("SMEMBERS").arg(self.subject(self.layout.exclude, subject));
        let (included, excluded) =
            self.connections.shared(LOOK_UP, async |mut connection| both.query_async(&mut connection).await).await?;
        Ok(Membership { included, excluded })
    }

    pub(super) async fn read_progress(&self) -> Result<Progress, StoreError> {
        let mut both = pipe();
        both.cmd("GET").arg(self.key(self.layout.cursor));
        both.cmd("GET").arg(self.key(self.layout.synchronized_on));
        let (cursor, synchronized_on): (Option<String>, Option<String>) = self
            .connections
            .shared(self.connections.limits.quick, async |mut connection| both.query_async(&mut connection).await)
            .await?;
        Ok(Progress { cursor, synchronized_on: synchronized_on.and_then(|it| it.parse().ok()) })
    }

    pub(super) async fn apply_patch(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        self.connections
            .alone(LARGE, async |mut connection| {
                let done = self.apply_patch_on(&mut connection, patch).await;
                (connection, done)
            })
            .await
    }

    async fn apply_patch_on(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
        patch: &MembershipPatch,
    ) -> redis::RedisResult<Advanced> {
        let lock = self.key(self.layout.lock);
        cmd("WATCH").arg(&lock).exec_async(connection).await?;
        let cursor: Option<String> = cmd("GET").arg(self.key(self.layout.cursor)).query_async(connection).await?;
        // Without a cursor any patch is accepted: the database was never filled, or was emptied.
        if cursor.as_ref().is_some_and(|it| *it != patch.previous) {
            cmd("UNWATCH").exec_async(connection).await?;
            return Ok(Advanced::Refused { cursor });
        }
        let mut transaction = pipe();
        transaction.atomic();
        transaction.set(&lock, "").ignore();
        transaction.set(self.key(self.layout.cursor), &patch.version).ignore();
        for subject in &patch.include {
            transaction.sadd(self.subject(self.layout.include, subject), &patch.group).ignore();
        }
        for subject in &patch.forget_included {
            transaction.srem(self.subject(self.layout.include, subject), &patch.group).ignore();
        }
        for subject in &patch.exclude {
            transaction.sadd(self.subject(self.layout.exclude, subject), &patch.group).ignore();
        }
        for subject in &patch.forget_excluded {
            transaction.srem(self.subject(self.layout.exclude, subject), &patch.group).ignore();
        }
        let executed: Option<()> = transaction.query_async(connection).await?;
        Ok(if executed.is_some() { Advanced::Applied } else { Advanced::Refused { cursor } })
    }

    fn subject(&self, name: &str, subject: &str) -> String {
        format!("{}:{name}:{subject}", self.place.prefix)
    }
}
