//! The source of environments: their keys, a proxy key, or a folder.

use std::path::PathBuf;
use std::time::Duration;

use yardarm_core::secret::is_sendable;
use yardarm_core::settings::{Reader, Url};
use yardarm_core::{Secret, settings};

/// Shortest interval that can be set.
pub(super) const MOMENT: Duration = Duration::from_millis(10);
/// Longest interval that can be set.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Source of the environments.
#[derive(Debug, Clone)]
pub enum Source {
    /// One server key per environment, as in version 1 of the vendor's relay.
    Keys(AdminConfig, Vec<EnvironmentConfig>),
    /// One key that leads to any number of environments, as in version 2 of the vendor's relay.
    ProxyKey(Secret),
    /// A folder of exported environments; nothing is requested from the network.
    Offline(OfflineConfig),
    /// A Redis database that another gateway, or version 2 of the vendor's relay, writes; nothing is requested from
    /// upstream.
    Replica,
}

/// Access to the admin service.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Service that lists hashes of keys, and targets.
    pub service: String,
    /// Account.
    pub account: String,
    /// Organisation.
    pub organization: String,
    /// Service account token.
    pub token: Secret,
}

/// The setting of a read replica.
const REPLICA: &str = "harness.read_replica";

settings! {
    pub(super) struct AdminSettings in "harness" {
        /// Service that lists key hashes and targets.
        admin_service: String as Url = "https://app.harness.io/gateway/cf",
        /// Account identifier, for the admin service. Required with environments.
        account: Option<String>,
        /// Organisation identifier, for the admin service. Required with environments.
        organization: Option<String>,
        /// Service account token, for the admin service. Required with environments.
        admin_token: Option<Secret>,
    }
}

settings! {
    /// Settings of one environment.
    #[derive(Debug, Clone)]
    pub struct EnvironmentConfig in "harness.environments[]" {
        /// Name in logs, metrics and plugin bindings; Harness' own name unless set.
        pub name: Option<String>,
        /// A server API key of the environment. Required.
        pub api_key: Secret,
    }
}

settings! {
    pub(super) struct ProxyKeySettings in "harness" {
        /// In place of environments: one key for any number of them, which are added and removed without a restart. All
        /// requests are sent to `harness.client_service`.
        proxy_key: Secret,
    }
}

settings! {
    pub(super) struct ReplicaSettings in "harness" {
        /// In place of environments: whether this gateway serves what a primary, which may be version 2 of the vendor's
        /// relay, writes to the database of `harness.redis`. Nothing is requested from upstream.
        read_replica: bool = "false",
    }
}

settings! {
    /// The folder of offline mode.
    #[derive(Debug, Clone)]
    pub struct OfflineConfig in "harness.offline" {
        /// In place of environments: folder with files of the vendor's offline mode, read again when they change.
        /// Nothing is requested from the network.
        pub dir: PathBuf,
        /// How often that folder is checked for changes.
        pub monitoring_interval: Duration = "1s", in MOMENT..=DAY,
    }
}

impl Source {
    /// Reads the source; `None` if none is configured, so that this side is not started.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let sections = ["harness.environments", "harness.proxy_key", "harness.offline"];
        let mut present: Vec<_> = sections.into_iter().filter(|section| reader.has_section(section)).collect();
        if ReplicaSettings::read_keys(reader).read_replica {
            present.push(REPLICA);
        }
        if let [first, others @ ..] = &present[..] {
            for other in others {
                reader.reject(other, format!("cannot be combined with `{first}`"));
            }
        }
        match *present.first()? {
            REPLICA => Some(Self::Replica),
            "harness.environments" => Some(Self::Keys(
                AdminConfig::read(reader),
                reader.each("harness.environments", EnvironmentConfig::read),
            )),
            "harness.proxy_key" => {
                let ProxyKeySettings { proxy_key } = ProxyKeySettings::read_keys(reader);
                refuse_unsendable(reader, "harness.proxy_key", &proxy_key);
                Some(Self::ProxyKey(proxy_key))
            }
            _ => {
                let folder = OfflineConfig::read_keys(reader);
                if folder.dir.as_os_str().is_empty() {
                    reader.reject("harness.offline.dir", "is required with other keys of this section");
                }
                Some(Self::Offline(folder))
            }
        }
    }
}

impl AdminConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let keys = AdminSettings::read_keys(reader);
        Self {
            token: reader.require("harness.admin_token", keys.admin_token),
            service: keys.admin_service,
            account: reader.require("harness.account", keys.account),
            organization: reader.require("harness.organization", keys.organization),
        }
    }
}

impl EnvironmentConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let environment = Self::read_keys(reader);
        refuse_unsendable(reader, "api_key", &environment.api_key);
        environment
    }
}

/// A key with such a character could not be sent in a header, and HTTP libraries would print it in their error.
fn refuse_unsendable(reader: &mut Reader<'_>, path: &str, key: &Secret) {
    if !is_sendable(key.expose()) {
        reader.reject(path, "contains characters that no key has");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use yardarm_core::settings::Values;

    use super::super::KEYS;
    use super::*;

    /// Reads a source; returns it with the keys of errors.
    fn read(harness: &Value) -> (Option<Source>, Vec<String>) {
        let mut values = Values::default();
        values.add_file(&json!({ "harness": harness }), KEYS).unwrap();
        let mut reader = Reader::new(&values, KEYS, &|_| None);
        let source = Source::read(&mut reader);
        (source, reader.into_errors().into_iter().map(|it| it.key).collect())
    }

    #[test]
    fn a_proxy_key_needs_nothing_else() {
        let (source, problems) = read(&json!({"proxy_key": "proxy-canary"}));
        assert!(matches!(&source, Some(Source::ProxyKey(key)) if key.expose() == "proxy-canary"));
        assert!(problems.is_empty() && !format!("{source:?}").contains("canary"), "{problems:?}");
        assert!(read(&json!({"bypass_auth": true})).0.is_none());
        assert!(read(&json!({"proxy_key": ""})).0.is_none(), "an empty value is no value");
    }

    #[test]
    fn there_is_one_source() {
        let environments = json!([{"api_key": "a"}]);
        for (harness, expected) in [
            (json!({"proxy_key": "p", "offline": {"dir": "d"}}), &["harness.offline"][..]),
            (
                json!({"proxy_key": "p", "environments": environments, "account": "a", "organization": "o", "admin_token": "t"}),
                &["harness.proxy_key"],
            ),
            (json!({"proxy_key": "two words"}), &["harness.proxy_key"]),
            (json!({"proxy_key": "p", "read_replica": true}), &["harness.read_replica"]),
            (json!({"proxy_key": "p", "read_replica": false}), &[]),
            (json!({"read_replica": true}), &[]),
        ] {
            assert_eq!(read(&harness).1, expected, "{harness}");
        }
    }
}
