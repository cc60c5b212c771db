//! A component file that was read and inspected, but neither compiled nor checked against a binding file.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::folder::Trust;
use crate::folder::files;
use crate::staging::component_manifest::ComponentManifest;
pub(super) use crate::staging::imports::grant_of;
use crate::staging::inspection::Inspection;
use crate::staging::{check_bytes, check_name, exports, imports};
use crate::vocabulary::{Grants, Hook, LARGEST_COMPONENT, LoadError};

/// What a component file contains.
pub(super) struct ComponentFile {
    pub(super) bytes: Arc<[u8]>,
    pub(super) sha256: [u8; 32],
    pub(super) inspection: Inspection,
    /// What it says of itself; the default if it says nothing.
    pub(super) declared: ComponentManifest,
    /// Its own name, or that of the file.
    pub(super) name: Arc<str>,
    pub(super) hooks: Vec<Hook>,
}

impl ComponentFile {
    /// Reads a file of up to the largest size that any binding allows.
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let bytes: Arc<[u8]> = files::read(path, LARGEST_COMPONENT, Trust::Any)?.into();
        check_bytes(&bytes, LARGEST_COMPONENT)?;
        let inspection = Inspection::of(&bytes)?;
        let hooks = exports::check(&inspection, false)?;
        let declared = ComponentManifest::of(&inspection)?;
        let stem = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy());
        let name = check_name(declared.name.as_deref().unwrap_or(&stem), None, "")?;
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Self { bytes, sha256, inspection, declared, name, hooks })
    }

    /// Returns the grants that the manifest wants, optional ones included, and those that the imports need.
    pub(super) fn all_grants(&self) -> Grants {
        self.declared.all_grants(&imports::needed(&self.inspection.imports))
    }
}
