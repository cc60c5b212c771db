//! The demo's plugin folder: sample plugins with binding files to edit.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// Where the plugin workspace puts its components.
const BUILT: &str = "target/wasm32-wasip2/release";

/// Token that the demo's `request-gate` accepts.
pub(crate) const GATE_TOKEN: &str = "let-me-in";

/// The samples: name of the plugin, and the content of its binding file in the demo.
const SAMPLES: [(&str, &str); 3] = [
    ("flag-override", include_str!("plugins/flag-override.toml")),
    ("event-redactor", include_str!("plugins/event-redactor.toml")),
    ("request-gate", include_str!("plugins/request-gate.toml")),
];

/// The samples that are in the folder.
pub(crate) struct Found {
    folder: String,
    present: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl Found {
    /// Returns whether this sample is in the folder.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.present.contains(&name)
    }
}

/// Adds missing files to the folder. Existing files, which a user may have edited, stay as they are.
pub(super) fn prepare(folder: &Path, samples: &Path) -> anyhow::Result<Found> {
    fs::create_dir_all(folder).with_context(|| format!("folder `{}` cannot be created", folder.display()))?;
    let mut found = Found { folder: folder.display().to_string(), present: Vec::new(), missing: Vec::new() };
    for (name, binding) in SAMPLES {
        let built = samples.join(BUILT).join(format!("{}.wasm", name.replace('-', "_")));
        let (component, bound) = (folder.join(format!("{name}.wasm")), folder.join(format!("{name}.toml")));
        if built.exists() {
            // The binding file is written first, because a component without one would run with defaults for a moment.
            if !bound.exists() {
                fs::write(&bound, binding).with_context(|| format!("`{}` cannot be written", bound.display()))?;
            }
            copy(&built, &component).with_context(|| format!("`{}` cannot be written", component.display()))?;
        }
        if component.exists() { found.present.push(name) } else { found.missing.push(name) }
    }
    Ok(found)
}

/// Copies by rename, as plugins should always be replaced, so that the gateway never reads a partial file.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let temporary = to.with_extension("wasm.part");
    fs::copy(from, &temporary)?;
    fs::rename(temporary, to)
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.missing.is_empty() {
            return write!(f, "plugins in {}/: {}", self.folder, self.present.join(", "));
        }
        write!(
            f,
            "no sample plugins found for: {}. Build them with `make plugins`; the demo continues without them",
            self.missing.join(", ")
        )
    }
}
