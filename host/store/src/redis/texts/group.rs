//! Reads a stream as a member of a group: each entry is returned once, also across restarts of the process.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::follow::limited;
use crate::StoreError;

/// Time limit of a reply, beyond the time that the server waits for entries.
const REPLY: Duration = Duration::from_secs(3);
/// Entries per reply; each may be megabytes.
const MAX_ENTRIES: usize = 16;
/// Name of the member. There is one at a time; a second one takes entries of the same group.
const MEMBER: &str = "reader";

/// Names and values of the fields of an entry.
type Fields = Vec<(String, Vec<u8>)>;
/// Entries of a stream as the server sends them; the fields are missing if the entry was removed meanwhile.
type Entries = Vec<(String, Option<Fields>)>;

/// Reads entries that no other member of the group has read.
pub struct GroupMember {
    connection: MultiplexedConnection,
    stream: &'static str,
    group: &'static str,
    /// Whether entries that this member has read before and not confirmed were returned again.
    is_caught_up: bool,
}

/// An entry, which is returned again after a restart unless it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMessage {
    id: String,
    /// The text; `None` if the entry was removed before it could be read.
    pub text: Option<Bytes>,
}

impl GroupMember {
    pub(super) async fn new(
        mut connection: MultiplexedConnection,
        stream: &'static str,
        group: &'static str,
        from_beginning: bool,
    ) -> Result<Self, StoreError> {
        let start = if from_beginning { "0" } else { "$" };
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(stream).arg(group).arg(start).arg("MKSTREAM");
        match limited::<()>(REPLY, create.query_async(&mut connection)).await {
            // It exists already, with the position that it has reached.
            Err(error) if error.has_code("BUSYGROUP") => (),
            other => other?,
        }
        Ok(Self { connection, stream, group, is_caught_up: false })
    }

    /// Waits for entries, for at most `wait`.
    ///
    /// # Errors
    /// If the connection is lost, or the group does not exist any more. A new member is needed then.
    pub async fn next(&mut self, wait: Duration) -> Result<Vec<GroupMessage>, StoreError> {
        let from = if self.is_caught_up { ">" } else { "0" };
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(self.group).arg(MEMBER).arg("COUNT").arg(MAX_ENTRIES);
        read.arg("BLOCK").arg(wait.as_millis().max(1) as u64).arg("STREAMS").arg(self.stream).arg(from);
        let reply: Option<Vec<(String, Entries)>> =
            limited(wait + REPLY, read.query_async(&mut self.connection)).await?;
        let entries: Entries = reply.unwrap_or_default().into_iter().flat_map(|it| it.1).collect();
        self.is_caught_up |= entries.is_empty();
        let message = |(id, fields): (String, Option<Fields>)| GroupMessage {
            id,
            text: fields.and_then(|it| it.into_iter().next()).map(|it| it.1.into()),
        };
        Ok(entries.into_iter().map(message).collect())
    }

    /// Confirms an entry, so that it is never returned again.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn confirm(&mut self, message: &GroupMessage) -> Result<(), StoreError> {
        let mut confirm = cmd("XACK");
        confirm.arg(self.stream).arg(self.group).arg(&message.id);
        limited::<()>(REPLY, confirm.query_async(&mut self.connection)).await
    }
}
