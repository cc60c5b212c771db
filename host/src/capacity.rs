//! Limits of connections and streams, derived from the configuration, the limit of open files, and reserves for
//! requests that must always be served.

use serde::Serialize;
use utoipa::ToSchema;

/// Limits in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Capacity {
    /// Files that the process may have open; `None` without a limit.
    pub open_files: Option<u64>,
    /// Connections of SDKs at once, streams included.
    pub connections: usize,
    /// Streams at once.
    pub streams: usize,
    /// Connections at once to each listener that is not for SDKs: probes, metrics, status.
    pub operators: usize,
}

impl Capacity {
    /// Derives the limits in effect from the configured ones and the limit of open files.
    ///
    /// A quarter of the files, from 64 to 1,024, is kept for upstream connections, operators, plugins and the disk. A
    /// tenth of the connections, 1,000 at most, is kept for requests that are not streams.
    #[must_use]
    pub fn derive(max_connections: usize, max_streams: usize, open_files: Option<u64>) -> Self {
        let files = open_files.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let reserve = (files / 4).clamp(64, 1024);
        let connections = max_connections.min(files.saturating_sub(reserve)).max(1);
        let short_requests = if connections > 1 { (connections / 10).clamp(1, 1000) } else { 0 };
        Self {
            open_files,
            connections,
            streams: max_streams.min(connections - short_requests),
            operators: (reserve / 4).clamp(8, 256),
        }
    }

    /// Raises the limit of open files as far as the system allows, derives the limits in effect, and logs a warning if
    /// they are below the configured ones.
    #[must_use]
    pub fn establish(max_connections: usize, max_streams: usize) -> Self {
        let capacity = Self::derive(max_connections, max_streams, raise_file_limit());
        let wanted = Self::derive(max_connections, max_streams, None);
        if let Some(open_files) = capacity.open_files
            && (capacity.connections, capacity.streams) != (wanted.connections, wanted.streams)
        {
            tracing::warn!(
                open_files,
                max_connections,
                connections = capacity.connections,
                max_streams,
                streams = capacity.streams,
                "the limit of open files is too low for `server.max_connections` and `server.max_streams`; fewer are \
                 served. Raise it to {} (`ulimit -n`, `LimitNOFILE=`), or lower these settings",
                files_for(max_connections)
            );
        } else if capacity.streams < max_streams {
            tracing::info!(
                max_streams,
                streams = capacity.streams,
                connections = capacity.connections,
                "streams are limited below `server.max_streams`, so that they leave connections for other requests"
            );
        }
        capacity
    }
}

/// Returns the number of open files that this many connections need.
fn files_for(connections: usize) -> usize {
    connections + (connections / 3 + 1).clamp(64, 1024)
}

/// Raises the soft limit of open files, because each connection is an open file and most soft limits are low.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(?current, %error, "the limit of open files cannot be raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(connections: usize, streams: usize, files: Option<u64>) -> (usize, usize) {
        let capacity = Capacity::derive(connections, streams, files);
        (capacity.connections, capacity.streams)
    }

    #[test]
    fn files_bound_connections_and_streams() {
        assert_eq!(derived(50_000, 40_000, None), (50_000, 40_000));
        assert_eq!(derived(50_000, 40_000, Some(1 << 20)), (50_000, 40_000));
        assert_eq!(derived(50_000, 40_000, Some(20_000)), (18_976, 17_976));
        assert_eq!(derived(50_000, 40_000, Some(1024)), (768, 692));
        assert_eq!(derived(50_000, 40_000, Some(256)), (192, 173));
        assert_eq!(derived(50_000, 40_000, Some(10)), (1, 1));
        assert_eq!(derived(100, 10, Some(1024)), (100, 10));
    }

    #[test]
    fn streams_leave_connections_for_short_requests() {
        assert_eq!(derived(60, 40_000, None), (60, 54));
        assert_eq!(derived(2, 40_000, None), (2, 1));
        assert_eq!(derived(1, 40_000, None), (1, 1));
    }

    #[test]
    fn the_recommended_number_of_files_is_enough() {
        for connections in [1, 60, 500, 1000, 5000, 50_000, 1_000_000] {
            let files = files_for(connections) as u64;
            assert_eq!(derived(connections, connections, Some(files)).0, connections, "{files} files");
        }
    }
}
