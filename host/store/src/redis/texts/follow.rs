//! Follows streams: returns new entries, and notices entries that were removed before they could be read.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::timeout;

use crate::StoreError;

/// Time limit of a reply, beyond the time that the server waits for entries.
const REPLY: Duration = Duration::from_secs(3);
/// Entries per reply and stream.
const MAX_ENTRIES: usize = 1000;
/// The position before all entries.
const BEGINNING: &str = "0-0";

/// Entries of one stream as the server sends them: an identifier, and names and values of fields.
type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;

/// Reads several streams from where it began. If a read is dropped, nothing is lost: the next one returns the same.
pub struct StreamFollower {
    connection: MultiplexedConnection,
    /// Streams, each with the last entry that was returned.
    positions: Vec<(&'static str, String)>,
}

/// What a read returned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StreamNews {
    /// The streams and texts of new entries, in the order of each stream. Entries without a field are left out.
    pub entries: Vec<(&'static str, Bytes)>,
    /// Whether entries may be missing, because they were removed before they could be read.
    pub has_gap: bool,
}

impl StreamFollower {
    pub(super) async fn new(
        mut connection: MultiplexedConnection,
        streams: &'static [&'static str],
    ) -> Result<Self, StoreError> {
        let mut positions = Vec::with_capacity(streams.len());
        for stream in streams {
            let mut last = cmd("XREVRANGE");
            last.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
            let newest: Entries = limited(REPLY, last.query_async(&mut connection)).await?;
            let position = newest.into_iter().next().map_or_else(|| BEGINNING.to_owned(), |it| it.0);
            positions.push((*stream, position));
        }
        Ok(Self { connection, positions })
    }

    /// Waits for new entries, for at most `wait`.
    ///
    /// # Errors
    /// If the connection is lost. A new follower is needed then.
    pub async fn next(&mut self, wait: Duration) -> Result<StreamNews, StoreError> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(MAX_ENTRIES).arg("BLOCK").arg(wait.as_millis().max(1) as u64).arg("STREAMS");
        self.positions.iter().for_each(|(stream, _)| {
            read.arg(stream);
        });
        self.positions.iter().for_each(|(_, position)| {
            read.arg(position);
        });
        let reply: Option<Vec<(String, Entries)>> =
            limited(wait + REPLY, read.query_async(&mut self.connection)).await?;
        let mut news = StreamNews::default();
        for (name, entries) in reply.unwrap_or_default() {
            let Some((stream, position)) = self.positions.iter_mut().find(|it| it.0 == name) else { continue };
            let Some(last) = entries.last().map(|it| it.0.clone()) else { continue };
            news.has_gap |= is_gone(&mut self.connection, stream, position, entries.len()).await?;
            *position = last;
            let texts = entries.into_iter().filter_map(|(_, fields)| fields.into_iter().next());
            news.entries.extend(texts.map(|(_, text)| (*stream, Bytes::from(text))));
        }
        Ok(news)
    }
}

/// Returns whether the entry at `position` was removed, so that entries behind it may have been removed as well. `count`
/// entries were read behind it.
async fn is_gone(
    connection: &mut MultiplexedConnection,
    stream: &str,
    position: &str,
    count: usize,
) -> Result<bool, StoreError> {
    if position == BEGINNING {
        return Ok(count >= MAX_ENTRIES);
    }
    let mut range = cmd("XRANGE");
    range.arg(stream).arg(position).arg(position);
    let found: Entries = limited(REPLY, range.query_async(connection)).await?;
    Ok(found.is_empty())
}

/// Waits for a reply, for at most `limit`.
pub(in super::super) async fn limited<T>(
    limit: Duration,
    reply: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, StoreError> {
    match timeout(limit, reply).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::TimedOut),
    }
}
