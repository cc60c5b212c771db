//! Leases, contents and the log of a fleet in Redis.
//!
//! All keys have the hash tag `{<prefix>:<fleet>}`, so they are in one slot of a cluster. Needs Redis 5 or later.

mod log;
mod message;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, cmd, pipe};

use self::log::RedisFleetLog;
use self::message::message;
use super::RedisAddress;
use super::connection::Connections;
use crate::fleet::{
    Entry, FleetLog, FleetState, FleetStore, LeaseAction, LeaseRequest, Position, SourceState, Write, Written,
};
use crate::{StoreError, Trouble};

const HEARTBEAT: &str = include_str!("fleet/heartbeat.lua");
const APPEND: &str = include_str!("fleet/append.lua");
const REPLACE: &str = include_str!("fleet/replace.lua");

/// Time limit of an operation on leases or single entries: a good part of a lease's lifetime.
const QUICK: Duration = Duration::from_secs(1);
/// Time limit of an operation on whole contents: megabytes over a slow network.
const LARGE: Duration = Duration::from_secs(30);
/// Sources per execution of a script, so that none occupies the server for long.
const SOURCES: usize = 128;
/// Entries per command.
const CHUNK: usize = 256;
/// The field of a content that has its position. Keys of entries never begin like this.
const POSITION: &str = "@position";
/// Time after which content that no gateway reads or writes is removed.
const CONTENT_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Time after which content that was prepared and not used is removed.
const PREPARED_LIFETIME: Duration = Duration::from_secs(60);
/// Length of the log.
const LOG_LENGTH: usize = 512;

/// The shared part of a Redis database.
pub struct RedisFleet {
    connections: Connections,
    server: Arc<str>,
    tag: String,
}

impl RedisFleet {
    /// Creates access to the database at `address` for the fleet with this name; connections are opened when needed.
    #[must_use]
    pub fn new(address: &RedisAddress, fleet: &str) -> Self {
        let server = Arc::clone(address.shown());
        Self { connections: Connections::new(address), server, tag: format!("{{yardarm:{fleet}}}") }
    }

    /// Returns the address without a password.
    #[must_use]
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    fn lease(&self, source: &str) -> String {
        format!("{}:lease:{source}", self.tag)
    }

    fn content(&self, source: &str) -> String {
        format!("{}:content:{source}", self.tag)
    }

    fn log(&self) -> String {
        format!("{}:log", self.tag)
    }

    /// Executes a script that returns a status.
    async fn write(&self, script: Cmd, limit: Duration) -> Result<Written, StoreError> {
        let status: String =
            self.connections.shared(limit, async |mut connection| script.query_async(&mut connection).await).await?;
        match &*status {
            "written" => Ok(Written::Yes),
            "not-leader" => Ok(Written::NotLeader),
            "other-position" => Ok(Written::OtherPosition),
            _ => Err(unexpected()),
        }
    }
}

#[async_trait]
impl FleetStore for RedisFleet {
    async fn heartbeat(
        &self,
        instance: &str,
        lifetime: Duration,
        requests: &[LeaseRequest],
    ) -> Result<FleetState, StoreError> {
        let mut state = FleetState::default();
        // One chunk at least, so that an instance without sources is a member as well.
        for chunk in 0..requests.len().div_ceil(SOURCES).max(1) {
            let requests = requests.chunks(SOURCES).nth(chunk).unwrap_or_default();
            let mut script = eval(HEARTBEAT, 2 + 2 * requests.len());
            script.arg(format!("{}:members", self.tag)).arg(format!("{}:notes", self.tag));
            for request in requests {
                script.arg(self.lease(&request.source)).arg(self.content(&request.source));
            }
            script.arg(instance).arg(millis(lifetime)).arg(millis(CONTENT_LIFETIME)).arg(POSITION);
            for request in requests {
                script.arg(&*request.source).arg(request.action.as_str()).arg(&*request.note);
            }
            let reply: Vec<String> = self
                .connections
                .shared(QUICK, async |mut connection| script.query_async(&mut connection).await)
                .await?;
            let (members, sources) = reply.split_first().ok_or_else(unexpected)?;
            if sources.len() != 3 * requests.len() {
                return Err(unexpected());
            }
            state.members = members.parse().map_err(|_| unexpected())?;
            state.sources.extend(sources.chunks_exact(3).map(|it| SourceState {
                holder: Some(&*it[0]).filter(|it| !it.is_empty()).map(Arc::from),
                note: it[1].as_str().into(),
                position: Position::parse(&it[2]),
            }));
        }
        Ok(state)
    }

    async fn append(&self, write: &Write<'_>, position: &Position, changes: &[Entry]) -> Result<Written, StoreError> {
        let mut script = eval(APPEND, 3);
        script.arg(self.lease(write.source)).arg(self.content(write.source)).arg(self.log());
        script.arg(write.instance).arg(POSITION).arg(position.to_string()).arg(write.next.to_string());
        script.arg(millis(CONTENT_LIFETIME)).arg(LOG_LENGTH).arg(write.source).arg(message(changes));
        script.arg(changes.iter().filter(|(_, text)| text.is_some()).count());
        for (key, text) in changes {
            if let Some(text) = text {
                script.arg(&**key).arg(&**text);
            }
        }
        for (key, _) in changes.iter().filter(|(_, text)| text.is_none()) {
            script.arg(&**key);
        }
        self.write(script, LARGE).await
    }

    async fn replace(&self, write: &Write<'_>, content: &[Entry]) -> Result<Written, StoreError> {
        let prepared = format!("{}:{}", self.content(write.source), write.instance);
        let mut prepare = pipe();
        prepare.del(&prepared).ignore();
        prepare.hset(&prepared, POSITION, write.next.to_string()).ignore();
        for entries in content.chunks(CHUNK) {
            let mut set = cmd("HSET");
            set.arg(&prepared);
            let mut is_empty = true;
            for (key, text) in entries {
                if let Some(text) = text {
                    set.arg(&**key).arg(&**text);
                    is_empty = false;
                }
            }
            if !is_empty {
                prepare.add_command(set).ignore();
            }
        }
        prepare.cmd("PEXPIRE").arg(&prepared).arg(millis(PREPARED_LIFETIME)).ignore();
        self.connections.shared(LARGE, async |mut connection| prepare.query_async::<()>(&mut connection).await).await?;
        let mut script = eval(REPLACE, 4);
        script.arg(self.lease(write.source)).arg(self.content(write.source)).arg(self.log()).arg(&prepared);
        script.arg(write.instance).arg(write.next.to_string()).arg(millis(CONTENT_LIFETIME)).arg(LOG_LENGTH);
        self.write(script.arg(write.source).to_owned(), QUICK).await
    }

    async fn read(&self, source: &str) -> Result<Option<(Position, Vec<Entry>)>, StoreError> {
        let key = self.content(source);
        let all: Vec<(String, String)> = self
            .connections
            .shared(LARGE, async |mut connection| cmd("HGETALL").arg(&key).query_async(&mut connection).await)
            .await?;
        let position = all.iter().find(|it| it.0 == POSITION).and_then(|it| Position::parse(&it.1));
        let entries = all.into_iter().filter(|it| it.0 != POSITION);
        Ok(position.map(|it| (it, entries.map(|(key, text)| (key.into(), Some(text.into()))).collect())))
    }

    async fn follow(&self) -> Result<Box<dyn FleetLog>, StoreError> {
        let connection = self.connections.dedicated().await?;
        Ok(Box::new(RedisFleetLog::new(connection, self.log()).await?))
    }
}

impl LeaseAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Wait => "wait",
            Self::Release => "release",
        }
    }
}

/// The execution of a script with a number of keys.
fn eval(script: &str, keys: usize) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(keys);
    command
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unexpected() -> StoreError {
    crate::trouble::Failure::new(Trouble::Refused, "the reply is not one of the script").into()
}

#[cfg(test)]
mod tests;
