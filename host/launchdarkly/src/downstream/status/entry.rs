//! One environment in `/status`.

use std::time::Duration;

use serde::Serialize;
use yardarm_core::status::{Connection, ConnectionStatus, ErrorKind};
use yardarm_core::time::unix_ms;

use super::expect::Shape;
use crate::config::Config;
use crate::environments::{LdEnvironment, Phase};
use crate::identity::{Accepted, mask};

/// The entry of an environment. Keys are masked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    sdk_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    env_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    env_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    proj_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    proj_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiring_sdk_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk_keys: Option<Vec<ListedKey>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile_keys: Option<Vec<ListedKey>>,
    status: &'static str,
    connection_status: ConnectionEntry,
    data_store_status: StoreStatusEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    big_segment_status: Option<BigSegmentStatus>,
}

/// A key of several. Names of these properties are those of auto-configuration (V046).
#[derive(Serialize)]
struct ListedKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u64>,
}

/// State of a connection to LaunchDarkly.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionEntry {
    state: &'static str,
    state_since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastError {
    kind: &'static str,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreStatusEntry {
    state: &'static str,
    state_since: u64,
    #[serde(flatten)]
    place: Option<StorePlace>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StorePlace {
    database: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    db_server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    db_prefix: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    db_table: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BigSegmentStatus {
    available: bool,
    potentially_stale: bool,
    last_synchronized_on: u64,
}

const CONNECTED: &str = "connected";
const PLAIN: Shape = Shape::Plain;

/// All properties of a [`ConnectionEntry`].
pub(super) const CONNECTION_SHAPE: Shape = Shape::Object(&[
    ("state", PLAIN),
    ("stateSince", PLAIN),
    ("lastError", Shape::Object(&[("kind", PLAIN), ("time", PLAIN), ("statusCode", PLAIN)])),
]);

const KEYS_SHAPE: Shape = Shape::List(&Shape::Object(&[("key", PLAIN), ("value", PLAIN), ("expiry", PLAIN)]));

/// All properties of an [`Entry`].
pub(super) const SHAPE: Shape = Shape::Object(&[
    ("sdkKey", PLAIN),
    ("envId", PLAIN),
    ("envKey", PLAIN),
    ("envName", PLAIN),
    ("projKey", PLAIN),
    ("projName", PLAIN),
    ("mobileKey", PLAIN),
    ("expiringSdkKey", PLAIN),
    ("sdkKeys", KEYS_SHAPE),
    ("mobileKeys", KEYS_SHAPE),
    ("status", PLAIN),
    ("connectionStatus", CONNECTION_SHAPE),
    (
        "dataStoreStatus",
        Shape::Object(&[
            ("state", PLAIN),
            ("stateSince", PLAIN),
            ("database", PLAIN),
            ("dbServer", PLAIN),
            ("dbPrefix", PLAIN),
            ("dbTable", PLAIN),
        ]),
    ),
    (
        "bigSegmentStatus",
        Shape::Object(&[("available", PLAIN), ("potentiallyStale", PLAIN), ("lastSynchronizedOn", PLAIN)]),
    ),
]);

impl Entry {
    pub(super) fn of(environment: &LdEnvironment, settings: &Config) -> Self {
        let limit = settings.disconnected_status_time;
        let config = environment.config();
        let credentials = &config.credentials;
        let identity = config.identity.clone().unwrap_or_default();
        let (sdk_keys, mobile_keys) = credentials
            .listed()
            .map(|(sdk, mobile)| (list(sdk, |it| it.expose().to_owned()), list(mobile, |it| it.expose().to_owned())))
            .unzip();
        let report = environment.status.current();
        let is_starting = environment.phase() == Phase::Starting;
        let unwell_for = Duration::from_millis(unix_ms().saturating_sub(report.since_ms));
        let is_connected = report.has_received_data && !(report.connection != Connection::Valid && unwell_for >= limit);
        Self {
            sdk_key: mask(credentials.sdk_key().expose()),
            env_id: credentials.env_id().map(|it| it.as_str().to_owned()),
            env_key: identity.env_key,
            env_name: identity.env_name,
            proj_key: identity.proj_key,
            proj_name: identity.proj_name,
            mobile_key: credentials.mobile_key().map(|it| mask(it.expose())),
            expiring_sdk_key: credentials.expiring_sdk_key().map(|it| mask(it.expose())),
            sdk_keys,
            mobile_keys,
            status: if is_connected { CONNECTED } else { "disconnected" },
            data_store_status: StoreStatusEntry::of(environment, is_starting, report.since_ms),
            big_segment_status: BigSegmentStatus::of(environment, settings.store.big_segments.stale_threshold),
            connection_status: ConnectionEntry::of(report, false),
        }
    }

    /// Whether nothing about it makes the gateway degraded.
    pub(super) fn is_well(&self, settings: &Config) -> bool {
        let stale_as_degraded = settings.store.big_segments.stale_as_degraded;
        let is_in_order = |it: &BigSegmentStatus| it.available && !(it.potentially_stale && stale_as_degraded);
        self.status == CONNECTED && self.big_segment_status.as_ref().is_none_or(is_in_order)
    }
}

impl ConnectionEntry {
    /// The connection of an environment, or with `is_list` that of auto-configuration, which only newer releases have: they
    /// show the HTTP status of an error, and `OFF` only for a connection that is never tried again (V045).
    pub(super) fn of(report: ConnectionStatus, is_list: bool) -> Self {
        Self {
            state: match report.connection {
                Connection::Initializing => "INITIALIZING",
                Connection::Valid => "VALID",
                Connection::Interrupted => "INTERRUPTED",
                Connection::Off if is_list => "INTERRUPTED",
                Connection::Off => "OFF",
            },
            state_since: report.since_ms,
            last_error: report.last_error.map(|it| LastError {
                kind: match it.kind {
                    ErrorKind::Network => "NETWORK_ERROR",
                    ErrorKind::Response(_) => "ERROR_RESPONSE",
                    ErrorKind::InvalidData => "INVALID_DATA",
                    ErrorKind::Store => "STORE_ERROR",
                    ErrorKind::Unknown => "UNKNOWN",
                },
                time: it.at_ms,
                status_code: match it.kind {
                    ErrorKind::Response(status) if is_list => Some(status),
                    _ => None,
                },
            }),
        }
    }
}

impl StoreStatusEntry {
    /// Without a database, the state of the data store is that of the environment.
    fn of(environment: &LdEnvironment, is_starting: bool, since_ms: u64) -> Self {
        let (is_available, since_ms) = match &environment.store {
            None => (true, since_ms),
            Some(store) => {
                let report = store.status.report();
                (report.is_available(), report.since_ms)
            }
        };
        let (state, state_since) = match (is_starting, is_available) {
            (true, _) => ("INITIALIZING", 0),
            (false, true) => ("VALID", since_ms),
            (false, false) => ("INTERRUPTED", since_ms),
        };
        let place = environment.store.as_ref().map(|it| it.place()).map(|it| StorePlace {
            database: it.database,
            db_server: it.server.to_string(),
            db_prefix: it.prefix.to_string(),
            db_table: it.table.to_string(),
        });
        Self { state, state_since, place }
    }
}

impl BigSegmentStatus {
    /// `None` until flag data has contained a Big Segment.
    fn of(environment: &LdEnvironment, threshold: Duration) -> Option<Self> {
        let freshness = environment.store.as_ref()?.big_segments.as_ref()?.freshness()?;
        let age = Duration::from_millis(unix_ms().saturating_sub(freshness.synchronized_on));
        Some(Self {
            available: freshness.is_available,
            potentially_stale: freshness.is_available && age > threshold,
            last_synchronized_on: freshness.synchronized_on,
        })
    }
}

fn list<K>(keys: Vec<Accepted<K>>, expose: impl Fn(&K) -> String) -> Vec<ListedKey> {
    let show = |it: Accepted<K>| ListedKey {
        key: it.name.map(|name| name.to_string()),
        value: mask(&expose(&it.key)),
        expiry: it.expires_ms,
    };
    keys.into_iter().map(show).collect()
}
