//! The manifest inside a component: a custom section in which the author says what the plugin is and what it wants.
//!
//! It is read from the bytes of the file, before anything is compiled. A component without one is named by its file.

use serde::{Deserialize, Serialize};

use super::inspection::Inspection;
use crate::cases::Case;
use crate::vocabulary::{Grants, LimitsByHook, LoadError, NeededGrant, StatePolicy, WantedGrant, WantedLimits, clean};

/// Maximum size of the section in bytes.
const LARGEST: usize = 1 << 20;

/// What a component says about itself, as JSON. Unknown properties are those of later versions, and are ignored.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct ComponentManifest {
    /// Name of the plugin: 1 to 64 letters, digits, `-` and `_`. The file's if absent.
    pub(crate) name: Option<String>,
    /// Version of the plugin, for display.
    #[serde(default)]
    pub(crate) version: String,
    /// One-line description.
    #[serde(default)]
    pub(crate) about: String,
    /// Grants that the plugin wants; `None` for a plugin that does not say.
    pub(crate) grants: Option<Vec<WantedGrant>>,
    /// Limits that the plugin wants.
    #[serde(default)]
    pub(crate) limits: LimitsByHook,
    /// JSON Schema of the configuration.
    pub(crate) config: Option<serde_json::Value>,
    /// Whether instances may keep state between calls.
    pub(crate) state: Option<StatePolicy>,
    /// Cases that are run whenever the plugin is loaded.
    #[serde(default)]
    pub(crate) cases: Vec<Case>,
}

impl ComponentManifest {
    /// Parses the manifest of a component; the default if it has none.
    ///
    /// # Errors
    /// If it is not valid.
    pub(crate) fn of(inspection: &Inspection) -> Result<Self, LoadError> {
        inspection.manifests.first().map_or_else(|| Ok(Self::default()), |section| Self::parse(section))
    }

    /// Parses the content of the section.
    ///
    /// # Errors
    /// If it is not valid.
    pub(crate) fn parse(section: &[u8]) -> Result<Self, LoadError> {
        let invalid = |text: String| LoadError::ComponentManifestInvalid { text };
        if section.len() > LARGEST {
            return Err(invalid(format!("it has {} bytes, {LARGEST} are allowed", section.len())));
        }
        let manifest: Self = serde_json::from_slice(section).map_err(|error| invalid(clean(&error.to_string())))?;
        for wanted in manifest.wanted() {
            if !wanted.is_known() {
                return Err(invalid(format!("`{}` is not a grant that this host knows", clean(&wanted.grant))));
            }
        }
        for (hook, limits) in &manifest.limits {
            limits.check(hook).map_err(invalid)?;
        }
        let cleaned =
            |(hook, it): (&String, &WantedLimits)| (clean(hook), WantedLimits { why: clean(&it.why), ..it.clone() });
        let limits = manifest.limits.iter().map(cleaned).collect();
        Ok(Self { version: clean(&manifest.version), about: clean(&manifest.about), limits, ..manifest })
    }

    /// Returns the grants that the plugin wants.
    pub(crate) fn wanted(&self) -> &[WantedGrant] {
        self.grants.as_deref().unwrap_or_default()
    }

    /// Returns all grants that the plugin wants and that its imports need, as if they were given, for its cases.
    pub(crate) fn all_grants(&self, needed: &[NeededGrant]) -> Grants {
        let mut grants = Grants::default();
        for wanted in self.wanted() {
            grants.add_wanted(&wanted.grant);
        }
        for needed in needed {
            if !grants.gives(needed.grant) {
                grants.add_needed(needed.grant);
            }
        }
        grants
    }

    /// Returns the given grants that the plugin wants, or all of them if it does not say what it wants.
    pub(crate) fn effective(&self, given: &Grants) -> Grants {
        match &self.grants {
            None => given.clone(),
            Some(wanted) => given.restricted_to(|grant| wanted.iter().any(|it| it.covers(grant))),
        }
    }
}

#[cfg(test)]
mod tests {
    use yardarm_testkit::guests::{ALLOW, Guest, GuestHook};

    use super::*;

    fn parse(json: &str) -> Result<ComponentManifest, LoadError> {
        ComponentManifest::parse(json.as_bytes())
    }

    #[test]
    fn a_manifest_is_read_from_the_component_or_a_module_inside() {
        let json = r#"{"name":"gate","version":"2.0.0","state":"cache","later":[1]}"#;
        let nested = Guest::new("zoo").hook(GuestHook::RequestAuth, ALLOW).manifest(json).component().unwrap();
        let of_component = |bytes: &[u8]| ComponentManifest::of(&Inspection::of(bytes).unwrap()).unwrap();
        let manifest = of_component(&nested);
        assert_eq!((manifest.name.as_deref(), &*manifest.version), (Some("gate"), "2.0.0"));
        assert_eq!(manifest.state, Some(StatePolicy::Cache));
        let (section, json) = (b"yardarm:manifest", br#"{"name":"outer"}"#);
        let mut outer = nested.clone();
        let size = u8::try_from(1 + section.len() + json.len()).unwrap();
        outer.extend_from_slice(&[0, size, u8::try_from(section.len()).unwrap()]);
        outer.extend_from_slice(section);
        outer.extend_from_slice(json);
        assert_eq!(of_component(&outer).name.as_deref(), Some("outer"));
        assert_eq!(ComponentManifest::of(&Inspection::default()), Ok(ComponentManifest::default()));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (json, expected) in [
            ("{", "EOF"),
            (r#"{"name":7}"#, "expected a string"),
            (r#"{"state":"much"}"#, "unknown variant `much`"),
            (r#"{"grants":[{"grant":"sockets"}]}"#, "`sockets` is not a grant"),
            (r#"{"limits":{"request-auth":{"memory_mb":257}}}"#, "`limits.request-auth.memory_mb` must be"),
            (r#"{"limits":{"request-auth":{"deadline_ms":-1}}}"#, "invalid value"),
        ] {
            let error = parse(json).unwrap_err();
            assert_eq!((error.code(), error.class()), ("L07", "manifest-invalid"));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn only_wanted_grants_are_given() {
        let mut given = Grants::default();
        assert!(["clock", "header:x-tenant", "flag-data"].iter().all(|grant| given.add(grant)));
        let wanted = r#"{"grants":[{"grant":"clock","why":"to expire"},{"grant":"path","optional":true}]}"#;
        let manifest = parse(wanted).unwrap();
        assert_eq!(manifest.effective(&given).names(), ["clock"]);
        assert_eq!(ComponentManifest::default().effective(&given), given);
        assert!(["header:cookie", "secret:app-key", "secret:other"].iter().all(|grant| given.add(grant)));
        let manifest = parse(r#"{"grants":[{"grant":"header:X-*"},{"grant":"secret:app-*"}]}"#).unwrap();
        assert_eq!(manifest.effective(&given).names(), ["header:x-tenant", "secret:app-key"]);
    }
}
