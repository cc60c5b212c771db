//! Keys of the configuration: name, kind, default and description of each.

use yardarm_core::settings::{Key, Kind};

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

/// Keys of the process itself.
const OWN_KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "0.0.0.0:8030", "Where SDKs connect, of both vendors."),
    key(
        "launchdarkly.listen",
        Kind::Address,
        "",
        "Where SDKs of LaunchDarkly connect instead, so that each vendor has an address of its own. TLS and limits are those \
         of `[server]`.",
    ),
    key("harness.listen", Kind::Address, "", "The same for SDKs of Harness."),
    key(
        "server.compression",
        Kind::Bool,
        "false",
        "Whether answers are compressed with gzip for clients that accept it. Streams never are.",
    ),
    key(
        "server.tls.cert",
        Kind::Path,
        "",
        "Certificate chain in PEM, the own certificate first. With it SDKs must connect by HTTPS. Plain HTTP unless set.",
    ),
    key("server.tls.key", Kind::Path, "", "Private key of the certificate, in PEM."),
    key("server.tls.min_version", Kind::Text, "1.2", "Oldest version of TLS that is spoken: `1.2` or `1.3`."),
    key(
        "server.max_connections",
        Kind::Count,
        "50000",
        "Connections at once, streams included. Further ones wait, and meanwhile idle ones are closed. Limited by the \
         open files that the system allows, of which some are kept for probes and upstream; `/api/status` shows what \
         is in effect.",
    ),
    key(
        "server.max_streams",
        Kind::Count,
        "40000",
        "Streams at once. Further ones are answered 503. A tenth of the connections, 1,000 at most, is always kept for \
         other requests.",
    ),
    key(
        "server.idle_timeout",
        Kind::Duration,
        "75s",
        "Silence after which a connection is closed between two requests. Keep it above the idle time of balancers and \
         connection pools in front.",
    ),
    key(
        "server.write_timeout",
        Kind::Duration,
        "2m",
        "Longest time in which a client takes nothing of an answer or a stream; then its connection is closed.",
    ),
    key(
        "server.send_buffer",
        Kind::Size,
        "256KiB",
        "Most bytes that wait in the kernel for one client that does not read, beyond what is on its way.",
    ),
    key(
        "server.trusted_proxies",
        Kind::List,
        "",
        "Addresses or networks such as `10.0.0.0/8` of balancers in front. Their `X-Forwarded-For` or `Forwarded` says \
         where a request comes from, for plugins with the grant `client-address` and for the log. None unless set.",
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
        "Largest request head. Larger ones are answered 431. Contexts in URLs count. Whatever the setting, a request \
         target of more than 65,534 bytes is answered 414, or reset over HTTP/2; SDKs send large contexts with REPORT \
         instead.",
    ),
    key("server.max_headers", Kind::Count, "1000", "Most header lines of a request. More are answered 431."),
    key("server.max_body", Kind::Size, "32MiB", "Largest request body on any route, before decompression."),
    key(
        "server.request_timeout",
        Kind::Duration,
        "30s",
        "Longest time for a request that is not a stream, its body included; then 503.",
    ),
    key(
        "admin.listen",
        Kind::Address,
        "127.0.0.1:8040",
        "Where operators connect: probes, metrics, status, page. Keep it off public networks.",
    ),
    key(
        "admin.allowed_hosts",
        Kind::List,
        "",
        "Host names under which the admin listener may be reached, such as `yardarm.ops.svc` or `*.ops.svc`. IP addresses \
         and `localhost` always may; a request under any other name is answered 421.",
    ),
    key(
        "admin.ready",
        Kind::Text,
        "all",
        "What `/ready` waits for: `all` environments that are known at the start, apart from those whose keys upstream \
         rejects while others are served; `any` environment; or just that the process has `started`. Once ready, a \
         gateway stays so until it ends.",
    ),
    key(
        "data.dir",
        Kind::OptionalPath,
        "./data",
        "Folder for last good data and compiled plugins, for one process at a time. Made with mode 0700. An empty text \
         is a choice of its own: it keeps nothing.",
    ),
    key(
        "data.required",
        Kind::Bool,
        "true",
        "Whether the gateway refuses to start when this folder cannot be used. When off, it warns and keeps nothing, \
         which suits containers with a read-only file system.",
    ),
    key("plugins.dir", Kind::Path, "./plugins.d", "Folder that is watched for plugins."),
    key(
        "plugins.trust",
        Kind::Text,
        "owner",
        "From where plugins are loaded. `owner`: from a read-only mount, and from a folder and files that belong to root or \
         the user of the process and that no other user can write to. `any`: from everywhere, if everybody who can write \
         there may decide what runs here.",
    ),
    key(
        "plugins.auto_bind",
        Kind::Bool,
        "true",
        "Whether a component without a binding file serves the hooks it exports, in all environments, with default limits and grants.",
    ),
    key(
        "plugins.verify_interval",
        Kind::Duration,
        "30s",
        "How often the content of all plugin files is compared with what was loaded. Changes are noticed at once; this finds \
         those that leave no trace in size and times.",
    ),
    key(
        "plugins.cache_max_size",
        Kind::Size,
        "256MiB",
        "Size of the compiled plugins in `data.dir`. Beyond it, those that were not used for the longest time are removed, \
         but never one that runs.",
    ),
    key(
        "plugins.cache_max_age",
        Kind::Duration,
        "30d",
        "Time after which a compiled plugin that was not used is removed from `data.dir`.",
    ),
    key(
        "plugins.recheck_window",
        Kind::Duration,
        "30s",
        "Time over which open streams are asked again after request plugins changed; `0s` is all at once.",
    ),
    key(
        "shutdown.grace",
        Kind::Duration,
        "0s",
        "Time after SIGTERM in which `/ready` says no and everything is still served; `0s` is none.",
    ),
    key(
        "shutdown.drain",
        Kind::Duration,
        "5s",
        "Time over which the ends of open streams are spread, so that SDKs do not reconnect elsewhere all at once; `0s` \
         ends them together.",
    ),
    key("shutdown.timeout", Kind::Duration, "20s", "Longest time for what remains: requests under way, events, disk."),
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
