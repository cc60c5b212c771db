//! `yardarm plugin inspect`: what a component is and wants, without compiling or running it.

use std::path::Path;

use serde::Serialize;

use super::component_file::{ComponentFile, grant_of};
use super::sizes::Sizes;
use crate::vocabulary::{HTTP_OUT, Hook, INTERFACE_VERSION, LimitsByHook, LoadError, StatePolicy, WantedGrant, clean};

/// The properties of a component.
#[derive(Debug, Clone, Serialize)]
pub struct InspectReport {
    /// Name of the plugin.
    pub name: String,
    /// Version that the plugin declares; empty if it declares none.
    pub version: String,
    /// One-line description.
    pub about: String,
    /// Digest of the file.
    pub sha256: String,
    /// Size of the file in bytes.
    pub bytes: usize,
    /// Version of the interface between this host and plugins.
    pub interface: &'static str,
    /// Whether the component has a manifest.
    pub has_manifest: bool,
    /// Hooks that it exports.
    pub hooks: Vec<Hook>,
    /// Names of its exports.
    pub exports: Vec<String>,
    /// Its imports.
    pub imports: Vec<InterfaceUse>,
    /// Grants that its imports need or its manifest wants.
    pub grants: Vec<WantedGrantReport>,
    /// Limits that its manifest wants, by hook.
    pub limits: LimitsByHook,
    /// JSON Schema of its configuration, if it has one.
    pub config: Option<serde_json::Value>,
    /// Whether instances may keep state, if the manifest says so.
    pub state: Option<StatePolicy>,
    /// What the file consists of.
    pub sizes: Sizes,
}

/// An import of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceUse {
    /// Name with version.
    pub name: String,
    /// The grant that it needs, if any.
    pub grant: Option<&'static str>,
    /// Why this host does not offer it; `None` if it does.
    pub unavailable: Option<&'static str>,
}

/// A grant that a component wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WantedGrantReport {
    /// The grant, as in a binding file, or a pattern over grants, such as `http-out:*`.
    pub grant: String,
    /// What it is for, if the manifest says so.
    pub why: String,
    /// Whether the plugin works without it.
    pub optional: bool,
}

/// Inspects a component file.
///
/// # Errors
/// If the file is not a component, is absurdly large or complex, exports no hook of this version, or has an invalid
/// manifest.
pub fn inspect_file(path: &Path) -> Result<InspectReport, LoadError> {
    let file = ComponentFile::read(path)?;
    let imports = file.inspection.imports.iter().map(|import| {
        let (grant, unavailable) = match grant_of(import) {
            Ok(grant) => (grant, None),
            Err(reason) => (None, Some(reason)),
        };
        InterfaceUse { name: import.name.clone(), grant, unavailable }
    });
    let imports: Vec<_> = imports.collect();
    let mut grants: Vec<_> = file.declared.wanted().iter().map(WantedGrantReport::from).collect();
    for grant in imports.iter().filter_map(|import| import.grant) {
        let is_kind = |it: &WantedGrantReport| grant == HTTP_OUT && it.grant.starts_with("http-out:");
        match grants.iter_mut().find(|it| it.grant == grant || is_kind(it)) {
            // Without it the component cannot be linked.
            Some(wanted) => wanted.optional = false,
            None => grants.push(WantedGrantReport { grant: grant.to_owned(), why: String::new(), optional: false }),
        }
    }
    Ok(InspectReport {
        name: file.name.to_string(),
        version: file.declared.version.clone(),
        about: file.declared.about.clone(),
        sha256: hex::encode(file.sha256),
        bytes: file.bytes.len(),
        interface: INTERFACE_VERSION,
        has_manifest: !file.inspection.manifests.is_empty(),
        hooks: file.hooks,
        exports: file.inspection.exports.clone(),
        imports,
        grants,
        limits: file.declared.limits.clone(),
        config: file.declared.config.clone(),
        state: file.declared.state,
        sizes: Sizes::of(&file.bytes)?,
    })
}

impl From<&WantedGrant> for WantedGrantReport {
    fn from(wanted: &WantedGrant) -> Self {
        Self { grant: wanted.grant.clone(), why: clean(&wanted.why), optional: wanted.optional }
    }
}
