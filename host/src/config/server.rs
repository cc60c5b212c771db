//! Settings of the listeners of SDKs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use yardarm_core::settings::{Reader, Size};
use yardarm_core::{choices, settings};

use super::network::Networks;
use super::{HOUR, TENTH};

/// TLS on the listener of SDKs.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Certificate chain in PEM, the own certificate first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Oldest version that is accepted.
    pub min_version: TlsVersion,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

settings! {
    pub(super) struct ServerSettings in "server" {
        /// Address for the SDKs of both vendors.
        pub(super) listen: SocketAddr = "0.0.0.0:8030",
        /// Separate address for LaunchDarkly's SDKs.
        pub(super) launchdarkly: LaunchDarklyListener => LaunchDarklyListener::read_keys,
        /// Separate address for Harness' SDKs.
        pub(super) harness: HarnessListener => HarnessListener::read_keys,
        /// Whether responses are compressed with gzip for clients that accept it. Streams are never compressed.
        pub(super) compression: bool = "false",
        /// TLS on the listeners of SDKs.
        pub(super) tls: Option<TlsConfig> => TlsSettings::read,
        /// Maximum number of connections, streams included. Further ones wait, and meanwhile idle ones are closed.
        /// Limited by the open files that the system allows, some of which are reserved for probes and upstream;
        /// `/api/status` shows the limit in effect.
        pub(super) max_connections: usize = "50000", in 1..=10_000_000,
        /// Maximum number of streams. Further ones are answered 503. A tenth of the connections, at most 1,000, is
        /// always reserved for other requests.
        pub(super) max_streams: usize = "40000", in 1..=10_000_000,
        /// Idle time after which a connection is closed between two requests. Keep it above the idle timeout of
        /// balancers and connection pools in front.
        pub(super) idle_timeout: Duration = "75s", in TENTH..=HOUR,
        /// Longest time for which a client may read nothing of a response or stream; then its connection is closed.
        pub(super) write_timeout: Duration = "2m", in TENTH..=HOUR,
        /// Maximum number of bytes that the kernel buffers for one client that does not read, beyond those in flight.
        pub(super) send_buffer: u64 as Size = "256KiB",
        /// Addresses of balancers in front, or networks such as `10.0.0.0/8`. Their `X-Forwarded-For` or `Forwarded`
        /// header determines the client address, for plugins with the grant `client-address` and for the log. None
        /// unless set.
        pub(super) trusted_proxies: Vec<IpNet> as Networks,
        /// Whether connections from `server.trusted_proxies` begin with a header of the PROXY protocol, version 1 or 2.
        /// Those without a valid one are closed.
        pub(super) proxy_protocol: bool = "false",
        /// Largest request head. Larger ones are answered 431. Contexts in URLs count. Regardless of this setting, a
        /// request target of more than 65,534 bytes is answered 414, or reset over HTTP/2; SDKs send large contexts
        /// with REPORT instead.
        pub(super) max_head: usize as Size = "64KiB",
        /// Maximum number of header lines of a request. Requests with more are answered 431.
        pub(super) max_headers: usize = "1000", in 16..=20_000,
        /// Largest request body on any route, before decompression.
        pub(super) max_body: u64 as Size = "32MiB",
        /// Longest time for a request that is not a stream, its body included; then it is answered 503.
        pub(super) request_timeout: Duration = "30s", in TENTH..=HOUR,
    }
}

settings! {
    pub(super) struct LaunchDarklyListener in "launchdarkly" {
        /// Separate address for LaunchDarkly's SDKs. TLS and limits are those of `[server]`.
        pub(super) listen: Option<SocketAddr>,
    }
}

settings! {
    pub(super) struct HarnessListener in "harness" {
        /// Separate address for Harness' SDKs. TLS and limits are those of `[server]`.
        pub(super) listen: Option<SocketAddr>,
    }
}

settings! {
    struct TlsSettings in "server.tls" {
        /// Certificate chain in PEM, the leaf certificate first. If set, SDKs must connect by HTTPS. Plain HTTP unless
        /// set.
        cert: Option<PathBuf>,
        /// Private key of the certificate, in PEM.
        key: Option<PathBuf>,
        /// Oldest accepted version of TLS: `1.2` or `1.3`.
        min_version: TlsVersion = "1.2",
    }
}

choices! {
    TlsVersion as TlsVersion { "1.2" => TlsVersion::Tls12, "1.3" => TlsVersion::Tls13 }
    "; older ones are not safe"
}

impl TlsSettings {
    /// Reads the settings of TLS; `None` without a certificate.
    fn read(reader: &mut Reader<'_>) -> Option<TlsConfig> {
        let Self { cert, key, min_version } = Self::read_keys(reader);
        match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsConfig { cert, key, min_version }),
            (None, None) => None,
            (Some(_), None) => {
                reader.reject("server.tls.key", "is required with `server.tls.cert`");
                None
            }
            (None, Some(_)) => {
                reader.reject("server.tls.cert", "is required with `server.tls.key`");
                None
            }
        }
    }
}
