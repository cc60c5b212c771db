//! The temporary folder of the gateway: its plugin folder and its data.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::event::RunEvent;
use super::project::Project;

/// A plugin folder with one plugin, which is removed when it is dropped.
pub(super) struct RunFolder {
    dir: TempDir,
    component: PathBuf,
    binding: PathBuf,
}

impl RunFolder {
    /// Creates the folder, to which only this user has access.
    ///
    /// # Errors
    /// If there is no folder for temporary files, or no space in it.
    pub(super) fn create(plugin: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("yardarm-run-").tempdir()?;
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins)?;
        Ok(Self {
            component: plugins.join(format!("{plugin}.wasm")),
            binding: plugins.join(format!("{plugin}.toml")),
            dir,
        })
    }

    /// Returns the folder that the gateway watches for plugins.
    pub(super) fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Returns the data folder of the gateway.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Copies what has changed, the binding file first, so that a new component is never bound by the binding file of the
    /// version before.
    pub(super) fn copy(&self, project: &Project) -> RunEvent {
        let copied = || -> Result<RunEvent, (&Path, io::Error)> {
            let binding = replace(&project.binding, &self.binding).map_err(|error| (&*project.binding, error))?;
            let component = replace(&project.component, &self.component);
            Ok(RunEvent::Copied { component: component.map_err(|error| (&*project.component, error))?, binding })
        };
        copied().unwrap_or_else(|(file, error)| RunEvent::CopyFailed {
            text: format!("{} cannot be copied: {error}", file.display()),
        })
    }
}

/// Makes `to` a copy of `from`, by a rename, or removes it; returns whether that changed anything.
fn replace(from: &Path, to: &Path) -> io::Result<bool> {
    let absent = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) };
    let new = std::fs::read(from).map(Some).or_else(absent)?;
    let old = std::fs::read(to).map(Some).or_else(absent)?;
    if new == old {
        return Ok(false);
    }
    match new {
        Some(content) => {
            let temporary = to.with_extension("part");
            std::fs::write(&temporary, content)?;
            std::fs::rename(temporary, to)?;
        }
        None => std::fs::remove_file(to)?,
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_copied_and_all_is_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let component = dir.path().join("gate.wasm");
        std::fs::write(&component, "1").unwrap();
        let project = Project::find(&component, None, None, None).unwrap();
        let folder = RunFolder::create("gate").unwrap();
        let plugins = folder.plugins();
        let copied = |folder: &RunFolder| match folder.copy(&project) {
            RunEvent::Copied { component, binding } => (component, binding),
            other => panic!("{other:?}"),
        };
        assert_eq!(copied(&folder), (true, false));
        assert_eq!(copied(&folder), (false, false));
        std::fs::write(&project.binding, "[[bind]]").unwrap();
        assert_eq!(copied(&folder), (false, true));
        std::fs::remove_file(&project.binding).unwrap();
        std::fs::write(&component, "2").unwrap();
        assert_eq!(copied(&folder), (true, true));
        assert_eq!(plugins.read_dir().unwrap().count(), 1);
        drop(folder);
        assert!(!plugins.parent().unwrap().exists());
    }
}
