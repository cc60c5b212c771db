//! Follows the log of a fleet.

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::message::entries_of_message;
use crate::StoreError;
use crate::fleet::{FleetLog, LogEntry, Position};
use crate::redis::texts::limited;

/// Time limit of a reply, beyond the time that the server waits for entries.
const REPLY: Duration = Duration::from_secs(2);
/// Entries per reply.
const MAX_ENTRIES: usize = 256;

/// Entries as the server sends them: an identifier, and names and values of fields.
type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

/// The log, read from where it ended when it was opened. If a read is dropped, nothing is lost.
pub(super) struct RedisFleetLog {
    connection: MultiplexedConnection,
    key: String,
    /// The last entry that was returned.
    last: String,
}

impl RedisFleetLog {
    pub(super) async fn new(mut connection: MultiplexedConnection, key: String) -> Result<Self, StoreError> {
        let mut newest = cmd("XREVRANGE");
        newest.arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Entries = limited(REPLY, newest.query_async(&mut connection)).await?;
        let last = newest.into_iter().next().map_or_else(|| "0-0".to_owned(), |it| it.0);
        Ok(Self { connection, key, last })
    }
}

#[async_trait]
impl FleetLog for RedisFleetLog {
    async fn next(&mut self, wait: Duration) -> Result<Vec<LogEntry>, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(MAX_ENTRIES).arg("BLOCK").arg(wait.as_millis().max(1) as u64);
        read.arg("STREAMS").arg(&self.key).arg(&self.last);
        let reply: Option<Vec<(String, Entries)>> =
            limited(wait + REPLY, read.query_async(&mut self.connection)).await?;
        let entries: Entries = reply.unwrap_or_default().into_iter().flat_map(|it| it.1).collect();
        if let Some((last, _)) = entries.last() {
            self.last.clone_from(last);
        }
        Ok(entries.into_iter().filter_map(|(_, fields)| entry(&fields)).collect())
    }
}

/// An entry; `None` if it has another form. A change that it stood for is missing then, which the next one shows.
fn entry(fields: &[(String, Vec<u8>)]) -> Option<LogEntry> {
    let field = |name: &str| fields.iter().find(|it| it.0 == name).map(|it| &*it.1);
    let text = |name: &str| std::str::from_utf8(field(name)?).ok();
    let position = Position::parse(text("p")?)?;
    Some(LogEntry { source: text("s")?.into(), position, changes: entries_of_message(field("m")?) })
}
