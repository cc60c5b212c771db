//! LaunchDarkly's description of an environment, in messages of auto-configuration and in archives.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use yardarm_core::Secret;
use yardarm_core::secret::is_sendable;
use yardarm_launchdarkly_eval::model::as_version;

use crate::config::{CommonConfig, EnvironmentConfig, Identity, LogLevel};
use crate::identity::{Accepted, Credentials, EnvironmentId, KeyError, MobileKey, OfferedKeys, SdkKey};

/// The description of an environment.
#[derive(Debug, Clone)]
pub(crate) struct Representation {
    pub(crate) id: String,
    pub(crate) version: i64,
    identity: Identity,
    keys: OfferedKeys,
    ttl: Option<Duration>,
    secure_mode: bool,
}

/// Name of the property with the version.
const VERSION: &str = "version";

/// A property has a wrong type or value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("property `{property}` {problem}")]
pub(crate) struct Malformed {
    pub(crate) property: &'static str,
    problem: &'static str,
}

/// An object whose properties are found in any letter case, as in Go's decoder: LaunchDarkly writes `envID` in
/// some places and `envId` in others.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a>(&'a Map<String, Value>);

impl Malformed {
    pub(crate) fn missing(property: &'static str) -> Self {
        Self { property, problem: "is missing" }
    }
}

impl<'a> Object<'a> {
    pub(crate) fn of(value: &'a Value, property: &'static str) -> Result<Self, Malformed> {
        value.as_object().map(Self).ok_or(Malformed { property, problem: "is not an object" })
    }

    /// A property that is present and not null.
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        let exact = self.0.get(name);
        let found = exact.or_else(|| self.0.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, it)| it));
        found.filter(|it| !it.is_null())
    }

    /// A text; absent is empty.
    pub(crate) fn text(self, name: &'static str) -> Result<&'a str, Malformed> {
        let problem = Malformed { property: name, problem: "is not a text" };
        self.get(name).map_or(Ok(""), |it| it.as_str().ok_or(problem))
    }

    /// A key; absent is empty. A key with other characters could not be sent.
    fn credential(self, name: &'static str) -> Result<&'a str, Malformed> {
        let problem = Malformed { property: name, problem: "has characters that no key has" };
        self.text(name).and_then(|it| if is_sendable(it) { Ok(it) } else { Err(problem) })
    }

    /// A whole number; absent is 0.
    pub(crate) fn number(self, name: &'static str) -> Result<i64, Malformed> {
        let problem = Malformed { property: name, problem: "is not a whole number" };
        // Times in Go may be larger.
        let number = |it: &Value| it.as_i64().or_else(|| it.as_u64().map(|_| i64::MAX));
        self.get(name).map_or(Ok(0), |it| number(it).ok_or(problem))
    }

    /// A version: a whole number that every reader keeps exactly; absent is 0.
    pub(crate) fn version(self) -> Result<i64, Malformed> {
        let problem = Malformed { property: VERSION, problem: "is not a whole number from 0 to 9007199254740991" };
        self.get(VERSION).map_or(Ok(0), |it| it.as_f64().and_then(as_version).ok_or(problem))
    }

    /// An object; absent is `None`.
    pub(crate) fn object(self, name: &'static str) -> Result<Option<Self>, Malformed> {
        self.get(name).map(|it| Self::of(it, name)).transpose()
    }

    /// Names and values.
    pub(crate) fn entries(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.iter()
    }

    fn flag(self, name: &'static str) -> Result<bool, Malformed> {
        let problem = Malformed { property: name, problem: "is not true or false" };
        self.get(name).map_or(Ok(false), |it| it.as_bool().ok_or(problem))
    }

    fn moment(self, name: &'static str) -> Result<u64, Malformed> {
        self.number(name).map(|it| u64::try_from(it).unwrap_or(0))
    }

    fn keys<K>(self, name: &'static str, make: fn(Secret) -> K) -> Result<Option<Vec<Accepted<K>>>, Malformed> {
        let Some(list) = self.get(name) else { return Ok(None) };
        let list = list.as_array().ok_or(Malformed { property: name, problem: "is not a list" })?;
        let entry = |value| {
            let entry = Object::of(value, name)?;
            let identifier = entry.text("key")?;
            // 0 means never; a time before 1970 has passed.
            let expires = entry.number("expiry")?;
            Ok(Accepted {
                key: make(Secret::new(entry.credential("value")?)),
                name: (!identifier.is_empty()).then(|| Arc::from(identifier)),
                expires_ms: (expires != 0).then(|| u64::try_from(expires).unwrap_or(0)),
            })
        };
        list.iter().map(entry).collect::<Result<_, _>>().map(Some)
    }
}

impl Representation {
    /// Parses a description. Unknown properties are ignored.
    pub(crate) fn read(value: &Value) -> Result<Self, Malformed> {
        let all = Object::of(value, "environment")?;
        let some = |text: &str| (!text.is_empty()).then(|| Secret::new(text));
        let (mut sdk_key, mut expiring) = (None, None);
        if let Some(key) = all.object("sdkKey")? {
            sdk_key = some(key.credential("value")?).map(SdkKey::new);
            if let Some(old) = key.object("expiring")? {
                let at = old.moment("timestamp")?;
                expiring = some(old.credential("value")?).map(|it| (SdkKey::new(it), at));
            }
        }
        let minutes = all.moment("defaultTtl")?;
        Ok(Self {
            id: all.text("envID")?.to_owned(),
            version: all.version()?,
            identity: Identity {
                env_key: all.text("envKey")?.to_owned(),
                env_name: all.text("envName")?.to_owned(),
                proj_key: all.text("projKey")?.to_owned(),
                proj_name: all.text("projName")?.to_owned(),
            },
            keys: OfferedKeys {
                sdk_key,
                expiring,
                mobile_key: some(all.credential("mobKey")?).map(MobileKey::new),
                sdk_keys: all.keys("sdkKeys", SdkKey::new)?,
                mobile_keys: all.keys("mobileKeys", MobileKey::new)?,
            },
            ttl: (minutes > 0).then(|| Duration::from_secs(minutes.saturating_mul(60))),
            secure_mode: all.flag("secureMode")?,
        })
    }

    /// Settings of the environment, derived from its previous ones.
    pub(crate) fn settings(
        &self,
        before: Option<&EnvironmentConfig>,
        common: &CommonConfig,
        now_ms: u64,
    ) -> Result<EnvironmentConfig, KeyError> {
        let credentials = match before {
            Some(before) => before.credentials.after(self.keys.clone(), now_ms)?,
            None => Credentials::first(EnvironmentId::new(self.id.as_str()), self.keys.clone(), now_ms)?,
        };
        Ok(EnvironmentConfig {
            name: self.id.clone(),
            identity: Some(self.identity.clone()),
            credentials,
            log_level: LogLevel::default(),
            secure_mode: self.secure_mode,
            ttl: self.ttl,
            filters: Vec::new(),
            prefix: common.prefix.clone(),
            table_name: common.table_name.clone(),
            allowed_origins: common.allowed_origins.clone(),
            allowed_headers: common.allowed_headers.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COMMON: CommonConfig =
        CommonConfig { allowed_origins: Vec::new(), allowed_headers: Vec::new(), prefix: None, table_name: None };

    #[test]
    fn names_are_read_in_any_letter_case() {
        // U060, U061
        for name in ["envID", "envId", "ENVID"] {
            let value =
                json!({name: "e", "sdkkey": {"VALUE": "sdk-1"}, "defaultTTL": 5, "version": 3, "new": {"x": 1}});
            let read = Representation::read(&value).unwrap();
            assert_eq!((read.id.as_str(), read.version), ("e", 3));
            let settings = read.settings(None, &COMMON, 0).unwrap();
            assert_eq!(settings.credentials.sdk_key().expose(), "sdk-1");
            assert_eq!(settings.ttl, Some(Duration::from_secs(300)));
        }
    }

    #[test]
    fn wrong_types_are_errors_that_name_the_property() {
        for (value, property) in [
            (json!([]), "environment"),
            (json!({"envID": 1}), "envID"),
            (json!({"sdkKey": "sdk-1"}), "sdkKey"),
            (json!({"sdkKey": {"value": 1}}), "value"),
            (json!({"sdkKeys": {}}), "sdkKeys"),
            (json!({"mobileKeys": [1]}), "mobileKeys"),
            (json!({"secureMode": 1}), "secureMode"),
            (json!({"version": "1"}), "version"),
            (json!({"sdkKey": {"value": "sdk-\r\nX: y"}}), "value"),
            (json!({"sdkKey": {"value": "sdk-1", "expiring": {"value": "sdk 2", "timestamp": 1}}}), "value"),
            (json!({"mobKey": "mob-\u{e4}"}), "mobKey"),
            (json!({"sdkKeys": [{"value": "a b"}]}), "value"),
            (json!({"defaultTtl": 1.5}), "defaultTtl"),
        ] {
            assert_eq!(Representation::read(&value).unwrap_err().property, property, "{value}");
        }
    }

    #[test]
    fn a_key_whose_time_was_over_before_1970_is_not_accepted() {
        for (expiry, is_accepted) in [(0_i64, true), (-1, false), (1, false), (9_000_000_000_000, true)] {
            let keys = json!([{"value": "sdk-1"}, {"value": "sdk-2", "expiry": expiry}]);
            let read = Representation::read(&json!({"envID": "e", "sdkKey": {"value": "sdk-1"}, "sdkKeys": keys}));
            let settings = read.unwrap().settings(None, &COMMON, 1_000_000).unwrap();
            let credentials = settings.credentials;
            let credentials = credentials.without_expired(1_000_000).unwrap_or(credentials);
            assert_eq!(credentials.accepts(crate::identity::SdkKind::Server, "sdk-2"), is_accepted, "{expiry}");
        }
    }

    #[test]
    fn an_environment_needs_a_key() {
        let read = Representation::read(&json!({"envID": "e"})).unwrap();
        assert_eq!(read.settings(None, &COMMON, 0), Err(KeyError::Missing));
    }
}
