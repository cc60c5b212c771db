//! Settings of the plugin folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use yardarm_core::settings::{Kind, Reader, Setting, Size};
use yardarm_core::{Secret, choices, settings};
use yardarm_store::RedisAddress;
use yardarm_wasm::{
    AdmissionRules, AllAbstain, CacheLimits, CompileLimits, Compiler, CpuLimits, DelegatedEnvironments, FieldClass,
    Pattern, RedisSettings, ServiceSettings, SignatureMode, SignaturePolicy, Trust, TrustedKey,
};

use super::HOUR;
use super::network::Networks;

/// Minimum length of `plugins.fingerprint_key` in bytes.
const SHORTEST_FINGERPRINT_KEY: usize = 16;
const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

settings! {
    /// Settings of the plugin folder.
    #[derive(Debug, Clone)]
    pub struct PluginConfig in "plugins" with {
        /// Where components are compiled.
        pub compiler: Compiler,
    } {
        /// Folder that is watched for plugins.
        pub dir: PathBuf = "./plugins.d",
        /// Where plugins are loaded from. `owner`: a read-only mount, or a folder and files that belong to root or the
        /// user of the process and that no other user can write to. `any`: every folder; all users who can write to it
        /// decide which code runs in the gateway.
        pub trust: Trust as TrustedFolders = "owner",
        /// Whether a component without a binding file is bound to the hooks it exports, in all environments, with
        /// default limits and grants.
        pub auto_bind: bool = "true",
        /// What happens to a request when every request plugin of its environment abstains. `unavailable`: it is rejected
        /// with 503 and SDKs retry. `forbidden`: it is rejected with 403, after which SDKs stop. `allow`: it is admitted.
        pub all_abstain: AllAbstain as Abstention = "unavailable",
        /// Environments that a `route-resolver` plugin may choose for a request that has no credential of them, if request
        /// plugins are bound to them: these alone decide about their callers. Patterns for names, or for `vendor/name`, with
        /// `*` and `?`.
        pub delegated_auth: DelegatedEnvironments as Patterns,
        /// What happens with a component that no key in `plugins.trusted_keys` has signed for its name. `require`: it is refused
        /// (L11). `warn`: it is loaded, and reported in the log and in status, if any key is trusted. `off`: signatures are
        /// not checked.
        pub signatures: SignatureMode as Signatures = "warn",
        /// Public keys whose signatures are trusted, as `yardarm plugin keygen` prints them. Patterns for names of plugins can
        /// follow a key after spaces, which is then trusted for these only: `ed25519:… acme-*`.
        pub trusted_keys: Vec<TrustedKey> as TrustedKeys,
        /// How long a component without a binding file waits for it before it is bound to the hooks it exports, so that a
        /// component that is copied before its binding file does not run without it; `0s` does not wait.
        pub settle_time: Duration = "500ms", in Duration::ZERO..=Duration::from_secs(60),
        /// How often the content of all plugin files is compared with the loaded content. Changes are detected at once;
        /// this finds those that leave size and times unchanged.
        pub verify_interval: Duration = "30s", in Duration::from_secs(1)..=HOUR,
        /// Limits of size and age for compiled plugins in the data folder.
        pub cache: CacheLimits => CacheSettings::read,
        /// What the compilation of a plugin may cost.
        pub compile: CompileLimits => CompileSettings::read,
        /// How much processor time plugins may use.
        pub cpu: CpuLimits => CpuSettings::read,
        /// How long a new version of a plugin is on probation: the version before it stays loaded, and returns if the new one
        /// fails or is slow. It ends earlier after 1,000 calls of each hook; `0s` keeps every version that loads.
        pub probation: Duration = "60s", in Duration::ZERO..=HOUR,
        /// Whether the input of failed calls is kept.
        pub captures: Option<Vec<FieldClass>> => CaptureSettings::read,
        /// Folder with a file per secret, as container platforms mount them. The configuration of a plugin refers to a
        /// secret with `{ secret = "NAME" }`, if `secret:NAME` is granted. Changes are noticed within
        /// `plugins.verify_interval`.
        pub secrets_dir: Option<PathBuf>,
        /// Private networks that plugins may send requests to by host name, if `http-out:` is granted. Without it, a host
        /// name whose address is private, local or reserved is refused.
        pub http_private_networks: Vec<IpNet> as Networks,
        /// Database of the values of plugins with `kv = "redis"`.
        pub kv_redis: Option<RedisSettings> => KvRedisSettings::read,
        /// Key of the fingerprints that plugins see in place of credentials and keys of contexts, of 16 bytes or more.
        /// Random at each start unless set. Gateways whose plugins share values by fingerprint need the same key, and so
        /// does a gateway whose plugins keep such values on disk.
        pub fingerprint_key: Option<Secret> as FingerprintKey,
        /// Time over which open streams are checked again after request plugins changed; `0s` checks all at once.
        pub recheck_window: Duration = "30s", in Duration::ZERO..=HOUR,
    }
}

settings! {
    struct CacheSettings in "plugins" {
        /// Maximum size of the compiled plugins in `data.dir`. Beyond it, the least recently used ones are removed, but
        /// never one in use.
        cache_max_size: u64 as Size = "256MiB",
        /// Time after which an unused compiled plugin is removed from `data.dir`.
        cache_max_age: Duration = "30d", in HOUR..=TEN_YEARS,
    }
}

settings! {
    struct CompileSettings in "plugins" {
        /// Maximum memory of the process that compiles a plugin. Small plugins may use less: 512 MiB and 64 times the size
        /// of the file, and never more than seven eighths of what the machine or the container has left. At this limit the
        /// process is killed, and the plugin is refused.
        compile_memory: u64 as Size = "2GiB",
        /// Maximum time for compiling one plugin, and maximum processor time. The processor time for small plugins is
        /// less: 30 seconds, and 15 for each megabyte of the file. Compiling has idle priority, so it takes long on a busy
        /// machine.
        compile_timeout: Duration = "5m", in Duration::from_secs(1)..=HOUR,
    }
}

settings! {
    struct CpuSettings in "plugins" {
        /// Processor time that each plugin may use, in percent of one processor. Beyond it, its calls run one at a time; they
        /// wait until the share covers them if they take longer than a millisecond, or if all plugins together exceed
        /// `plugins.total_cpu_share`. A call that would wait too long fails with C07.
        cpu_share: u64 = "25", in 1..=100_000,
        /// Processor time that all plugins together may use before those beyond their share wait, in percent of the machine.
        total_cpu_share: u64 = "50", in 1..=100,
    }
}

settings! {
    struct CaptureSettings in "plugins" {
        /// Whether the input of failed calls is kept in memory, for `yardarm plugin captures` and `replay`: the last 100, and
        /// 10 of the same plugin, hook and class of failure. It has what the plugin was granted to read. Texts and numbers are
        /// masked, so that their form remains; credentials always are.
        capture: bool = "false",
        /// Fields of these calls that are not masked: `targets` (path and query), `headers`, `addresses`, `identities`,
        /// `contexts`, `events`, `data` (flags, segments and results).
        capture_plain: Vec<FieldClass> as FieldClasses,
    }
}

/// Format of `plugins.capture_plain`.
enum FieldClasses {}

impl Setting<Vec<FieldClass>> for FieldClasses {
    const KIND: Kind = Kind::List;

    fn read(reader: &mut Reader<'_>, path: &str) -> Vec<FieldClass> {
        let mut classes = Vec::new();
        for text in reader.list(path) {
            match FieldClass::ALL.into_iter().find(|class| class.name() == &*text) {
                Some(class) => classes.push(class),
                None => {
                    let names = FieldClass::ALL.map(FieldClass::name).join("`, `");
                    reader.reject(path, format!("`{text}` is none of `{names}`"));
                }
            }
        }
        classes
    }
}

settings! {
    struct KvRedisSettings in "plugins.kv_redis" {
        /// Redis server for the values of plugins with `kv = "redis"` in their binding file, which all gateways with the
        /// same server and prefix share: `redis://user:password@host:6379/0`, `rediss://` for TLS. Redis 5 or later, not a
        /// cluster. No such database unless set.
        url: Option<Secret>,
        /// Password, in place of the one in the address.
        password: Option<Secret>,
        /// Beginning of all keys: `<prefix>:kv:{<plugin>}`.
        prefix: String = "yardarm",
    }
}

/// Format of `plugins.delegated_auth`.
enum Patterns {}

impl Setting<DelegatedEnvironments> for Patterns {
    const KIND: Kind = Kind::List;

    fn read(reader: &mut Reader<'_>, path: &str) -> DelegatedEnvironments {
        reader.list(path).iter().map(|text| Pattern::from(&**text)).collect()
    }
}

/// Format of `plugins.signatures`.
enum Signatures {}

choices! { Signatures as SignatureMode {
    "off" => SignatureMode::Off,
    "warn" => SignatureMode::Warn,
    "require" => SignatureMode::Require,
} }

/// Format of `plugins.trusted_keys`.
enum TrustedKeys {}

impl Setting<Vec<TrustedKey>> for TrustedKeys {
    const KIND: Kind = Kind::List;

    fn read(reader: &mut Reader<'_>, path: &str) -> Vec<TrustedKey> {
        let mut keys = Vec::new();
        for text in reader.list(path) {
            match text.parse() {
                Ok(key) => keys.push(key),
                Err(fault) => reader.reject(path, fault),
            }
        }
        keys
    }
}

/// Format of `plugins.fingerprint_key`.
enum FingerprintKey {}

impl Setting<Option<Secret>> for FingerprintKey {
    const KIND: Kind = Kind::Secret;

    fn read(reader: &mut Reader<'_>, path: &str) -> Option<Secret> {
        let key = reader.secret(path)?;
        // A shorter one could be found by trying all, given a fingerprint and its credential.
        if key.expose().len() < SHORTEST_FINGERPRINT_KEY {
            reader.reject(
                path,
                format!("must have {SHORTEST_FINGERPRINT_KEY} bytes or more, such as of `openssl rand -hex 32`"),
            );
            return None;
        }
        Some(key)
    }
}

/// Format of `plugins.trust`.
enum TrustedFolders {}

/// Format of `plugins.all_abstain`.
enum Abstention {}

choices! { Abstention as AllAbstain {
    "unavailable" => AllAbstain::Unavailable,
    "forbidden" => AllAbstain::Forbidden,
    "allow" => AllAbstain::Allow,
} }

choices! { TrustedFolders as Trust { "owner" => Trust::Owner, "any" => Trust::Any } }

impl PluginConfig {
    /// Returns the settings for the plugin host, with the cache of compiled plugins below `data_dir`.
    pub(crate) fn folder(&self, data_dir: Option<&std::path::Path>) -> yardarm_wasm::Settings {
        yardarm_wasm::Settings {
            dir: self.dir.clone(),
            trust: self.trust,
            auto_bind: self.auto_bind,
            admission: AdmissionRules {
                all_abstain: self.all_abstain,
                vendor_headers: yardarm_launchdarkly::HEADER_PREFIXES,
            },
            settle_time: self.settle_time,
            verify_interval: self.verify_interval,
            cache_dir: data_dir.map(|dir| dir.join("compiled-plugins")),
            cache_limits: self.cache,
            kept_dir: data_dir.map(|dir| dir.join("plugin-versions")),
            cpu_limits: self.cpu,
            probation: self.probation,
            captures: self.captures.clone(),
            compiler: self.compiler.clone(),
            compile_limits: self.compile,
            delegated_auth: Arc::clone(&self.delegated_auth),
            signatures: Arc::new(SignaturePolicy { mode: self.signatures, keys: self.trusted_keys.clone() }),
            fingerprint_key: self.fingerprint_key.clone(),
            services: ServiceSettings {
                secrets_dir: self.secrets_dir.clone(),
                private_networks: self.http_private_networks.clone(),
                kv_redis: self.kv_redis.clone(),
            },
            ..yardarm_wasm::Settings::default()
        }
    }
}

impl KvRedisSettings {
    /// Reads the settings; `None` without a database.
    fn read(reader: &mut Reader<'_>) -> Option<RedisSettings> {
        const URL: &str = "plugins.kv_redis.url";
        let Self { url, password, prefix } = Self::read_keys(reader);
        let Some(url) = url else {
            if reader.has_section("plugins.kv_redis") {
                reader.reject(URL, "is required where other settings of this database are given");
            }
            return None;
        };
        // Braces decide in which slot of a cluster a key is.
        if prefix.is_empty() || prefix.contains(['{', '}']) || prefix.contains(char::is_whitespace) {
            reader.reject("plugins.kv_redis.prefix", "must be a text without braces and spaces");
        }
        match RedisAddress::parse(url.expose(), false, None, password.as_ref().map(Secret::expose)) {
            Ok(address) => Some(RedisSettings { address, prefix }),
            Err(error) => {
                reader.reject(URL, error.to_string());
                None
            }
        }
    }
}

impl CacheSettings {
    fn read(reader: &mut Reader<'_>) -> CacheLimits {
        let Self { cache_max_size, cache_max_age } = Self::read_keys(reader);
        CacheLimits { max_size: cache_max_size, max_age: cache_max_age }
    }
}

impl CaptureSettings {
    fn read(reader: &mut Reader<'_>) -> Option<Vec<FieldClass>> {
        let Self { capture, capture_plain } = Self::read_keys(reader);
        capture.then_some(capture_plain)
    }
}

impl CpuSettings {
    fn read(reader: &mut Reader<'_>) -> CpuLimits {
        let Self { cpu_share, total_cpu_share } = Self::read_keys(reader);
        let share = |percent: u64| percent as f64 / 100.0;
        CpuLimits { per_plugin: share(cpu_share), total: share(total_cpu_share) }
    }
}

impl CompileSettings {
    fn read(reader: &mut Reader<'_>) -> CompileLimits {
        let Self { compile_memory, compile_timeout } = Self::read_keys(reader);
        CompileLimits { memory: compile_memory, time: compile_timeout }
    }
}
