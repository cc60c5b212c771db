//! Keys of the configuration: name, kind, default and description of each.

use yardarm_core::settings::{Key, Kind};

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

/// Keys of the process itself.
const OWN_KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "0.0.0.0:8030", "Address for the SDKs of both vendors."),
    key(
        "launchdarkly.listen",
        Kind::Address,
        "",
        "Separate address for LaunchDarkly's SDKs. TLS and limits are those of `[server]`.",
    ),
    key(
        "harness.listen",
        Kind::Address,
        "",
        "Separate address for Harness' SDKs. TLS and limits are those of `[server]`.",
    ),
    key(
        "server.compression",
        Kind::Bool,
        "false",
        "Whether responses are compressed with gzip for clients that accept it. Streams are never compressed.",
    ),
    key(
        "server.tls.cert",
        Kind::Path,
        "",
        "Certificate chain in PEM, the leaf certificate first. If set, SDKs must connect by HTTPS. Plain HTTP unless \
         set.",
    ),
    key("server.tls.key", Kind::Path, "", "Private key of the certificate, in PEM."),
    key("server.tls.min_version", Kind::Text, "1.2", "Oldest accepted version of TLS: `1.2` or `1.3`."),
    key(
        "server.max_connections",
        Kind::Count,
        "50000",
        "Maximum number of connections, streams included. Further ones wait, and meanwhile idle ones are closed. \
         Limited by the open files that the system allows, some of which are reserved for probes and upstream; \
         `/api/status` shows the limit in effect.",
    ),
    key(
        "server.max_streams",
        Kind::Count,
        "40000",
        "Maximum number of streams. Further ones are answered 503. A tenth of the connections, at most 1,000, is \
         always reserved for other requests.",
    ),
    key(
        "server.idle_timeout",
        Kind::Duration,
        "75s",
        "Idle time after which a connection is closed between two requests. Keep it above the idle timeout of \
         balancers and connection pools in front.",
    ),
    key(
        "server.write_timeout",
        Kind::Duration,
        "2m",
        "Longest time for which a client may read nothing of a response or stream; then its connection is closed.",
    ),
    key(
        "server.send_buffer",
        Kind::Size,
        "256KiB",
        "Maximum number of bytes that the kernel buffers for one client that does not read, beyond those in flight.",
    ),
    key(
        "server.trusted_proxies",
        Kind::List,
        "",
        "Addresses of balancers in front, or networks such as `10.0.0.0/8`. Their `X-Forwarded-For` or `Forwarded` \
         header determines the client address, for plugins with the grant `client-address` and for the log. None \
         unless set.",
    ),
    key(
        "server.proxy_protocol",
        Kind::Bool,
        "false",
        "Whether connections from `server.trusted_proxies` begin with a header of the PROXY protocol, version 1 or 2. \
         Those without a valid one are closed.",
    ),
    key(
        "server.max_head",
        Kind::Size,
        "64KiB",
        "Largest request head. Larger ones are answered 431. Contexts in URLs count. Regardless of this setting, a \
         request target of more than 65,534 bytes is answered 414, or reset over HTTP/2; SDKs send large contexts \
         with REPORT instead.",
    ),
    key(
        "server.max_headers",
        Kind::Count,
        "1000",
        "Maximum number of header lines of a request. Requests with more are answered 431.",
    ),
    key("server.max_body", Kind::Size, "32MiB", "Largest request body on any route, before decompression."),
    key(
        "server.request_timeout",
        Kind::Duration,
        "30s",
        "Longest time for a request that is not a stream, its body included; then it is answered 503.",
    ),
    key(
        "admin.listen",
        Kind::Address,
        "127.0.0.1:8040",
        "Address for operators: probes, metrics, status, page. Keep it off public networks.",
    ),
    key(
        "admin.allowed_hosts",
        Kind::List,
        "",
        "Host names under which the admin listener may be reached, such as `yardarm.ops.svc` or `*.ops.svc`. IP \
         addresses and `localhost` are always accepted; a request to any other name is answered 421.",
    ),
    key(
        "admin.ready",
        Kind::Text,
        "all",
        "What `/ready` waits for: `all` environments that are known at the start, except those whose keys upstream \
         rejects while others are served; `any` environment; or only that the process has `started`. Once ready, a \
         gateway stays ready until it shuts down.",
    ),
    key(
        "data.dir",
        Kind::OptionalPath,
        "./data",
        "Folder for last good data and compiled plugins, for one process at a time. Created with mode 0700. An empty \
         text is a choice of its own: nothing is persisted.",
    ),
    key(
        "data.required",
        Kind::Bool,
        "true",
        "Whether the gateway refuses to start when this folder cannot be used. If `false`, it logs a warning and \
         persists nothing, which suits containers with a read-only file system.",
    ),
    key("plugins.dir", Kind::Path, "./plugins.d", "Folder that is watched for plugins."),
    key(
        "plugins.trust",
        Kind::Text,
        "owner",
        "Where plugins are loaded from. `owner`: a read-only mount, or a folder and files that belong to root or the \
         user of the process and that no other user can write to. `any`: every folder; all users who can write to it \
         decide which code runs in the gateway.",
    ),
    key(
        "plugins.auto_bind",
        Kind::Bool,
        "true",
        "Whether a component without a binding file is bound to the hooks it exports, in all environments, with \
         default limits and grants.",
    ),
    key(
        "plugins.verify_interval",
        Kind::Duration,
        "30s",
        "How often the content of all plugin files is compared with the loaded content. Changes are detected at once; \
         this finds those that leave size and times unchanged.",
    ),
    key(
        "plugins.cache_max_size",
        Kind::Size,
        "256MiB",
        "Maximum size of the compiled plugins in `data.dir`. Beyond it, the least recently used ones are removed, but \
         never one in use.",
    ),
    key(
        "plugins.cache_max_age",
        Kind::Duration,
        "30d",
        "Time after which an unused compiled plugin is removed from `data.dir`.",
    ),
    key(
        "plugins.recheck_window",
        Kind::Duration,
        "30s",
        "Time over which open streams are checked again after request plugins changed; `0s` checks all at once.",
    ),
    key(
        "shutdown.grace",
        Kind::Duration,
        "0s",
        "Time after SIGTERM for which `/ready` is 503 and everything is still served; `0s` is none.",
    ),
    key(
        "shutdown.drain",
        Kind::Duration,
        "5s",
        "Time over which the ends of open streams are spread, so that SDKs do not all reconnect elsewhere at once; \
         `0s` ends them together.",
    ),
    key(
        "shutdown.timeout",
        Kind::Duration,
        "20s",
        "Longest time for the remaining work: requests in progress, events, disk.",
    ),
    key(
        "log.level",
        Kind::Text,
        "info",
        "`error`, `warn`, `info`, `debug`, `trace`, or levels by part such as `info,yardarm_wasm=debug`; parts that are \
         not named log at `info`.",
    ),
    key("log.format", Kind::Text, "text", "`text` or `json`."),
];

/// Returns the keys of the process and of both vendors.
#[must_use]
pub fn keys() -> Vec<Key> {
    OWN_KEYS.iter().chain(yardarm_launchdarkly::config::KEYS).chain(yardarm_harness::config::KEYS).copied().collect()
}
