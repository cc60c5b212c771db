//! What is run: the component, its binding file, and the command that builds it.

use std::path::{Path, PathBuf};

use yardarm_wasm::inspect_file;

use super::super::outcome::ToolError;
use super::build::Build;
use super::sources::Sources;

/// Build scripts of a folder, and the command for each.
const SCRIPTS: [(&str, &str); 4] =
    [("GNUmakefile", "make"), ("makefile", "make"), ("Makefile", "make"), ("build.sh", "sh build.sh")];

/// A plugin that is run while its author changes it.
#[derive(Debug)]
pub(super) struct Project {
    /// The component, which may not exist before the first build.
    pub(super) component: PathBuf,
    /// The binding file, which may not exist.
    pub(super) binding: PathBuf,
    /// The command that builds the component.
    pub(super) command: Option<String>,
    /// Where the command runs, and what is watched.
    pub(super) folder: PathBuf,
}

impl Project {
    /// Finds out what is meant by the arguments.
    ///
    /// # Errors
    /// If there is no such file, or no way to build it.
    pub(super) fn find(
        plugin: &Path,
        command: Option<&str>,
        sources: Option<&Path>,
        binding: Option<&Path>,
    ) -> Result<Self, ToolError> {
        let (component, command) = match (plugin.is_dir(), command) {
            (true, Some(command)) => (component_of(plugin)?, Some(command.to_owned())),
            (true, None) => {
                let command = default_command(plugin).ok_or_else(|| {
                    let advice = "there is neither a Makefile nor a `build.sh`; name the command with --build, or run a component";
                    ToolError::of_file(plugin, advice)
                })?;
                (component_of(plugin)?, Some(command.to_owned()))
            }
            (false, None) if !plugin.exists() => {
                return Err(ToolError::of_file(plugin, "there is no such file or folder"));
            }
            (false, command) => (plugin.to_owned(), command.map(str::to_owned)),
        };
        let folder = match (sources, plugin.is_dir()) {
            (Some(folder), _) => folder,
            (None, true) => plugin,
            (None, false) => plugin.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        };
        if !folder.is_dir() {
            return Err(ToolError::of_file(folder, "there is no such folder"));
        }
        if let Some(binding) = binding.filter(|binding| !binding.is_file()) {
            return Err(ToolError::of_file(binding, "there is no such file"));
        }
        let binding = binding.map_or_else(|| component.with_extension("toml"), Path::to_owned);
        Ok(Self { component, binding, command, folder: folder.to_owned() })
    }

    /// Returns the name of the plugin: that of its binding file, which is that of the component unless it was named.
    pub(super) fn name(&self) -> String {
        self.binding.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn build(&self) -> Option<Build> {
        self.command.as_deref().map(|command| Build::new(command, &self.folder))
    }

    /// Returns what is watched: all sources if there is a command that builds them, otherwise only component and binding
    /// file.
    pub(super) fn sources(&self) -> Sources {
        let files = vec![self.component.clone(), self.binding.clone()];
        match &self.command {
            Some(_) => Sources::of_folder(&self.folder, vec![self.binding.clone()]),
            None => Sources::of_files(files),
        }
    }

    /// Checks that the component is one.
    ///
    /// # Errors
    /// If it is not there, or is not a component.
    pub(super) fn check(&self) -> Result<(), ToolError> {
        if !self.component.is_file() {
            let built =
                self.command.as_ref().map_or(String::new(), |command| format!("`{command}` has not written it; "));
            let advice = "there is no such file; name the component that the command writes in place of its folder";
            return Err(ToolError::of_file(&self.component, format!("{built}{advice}")));
        }
        inspect_file(&self.component).map(drop).map_err(|error| ToolError::refused(&self.component, &error))
    }
}

fn default_command(folder: &Path) -> Option<&'static str> {
    SCRIPTS.iter().find(|(script, _)| folder.join(script).is_file()).map(|(_, command)| *command)
}

/// Returns the component that a folder of sources becomes: the first target NAME.wasm of its Makefile, or else that of its
/// only binding file.
fn component_of(folder: &Path) -> Result<PathBuf, ToolError> {
    let makefiles = SCRIPTS.iter().filter(|(_, command)| *command == "make");
    let targets = makefiles.filter_map(|(script, _)| std::fs::read_to_string(folder.join(script)).ok());
    if let Some(target) = targets.filter_map(|text| component_target(&text)).next() {
        return Ok(folder.join(target));
    }
    let bindings = bindings_in(folder);
    match &bindings[..] {
        [binding] => Ok(binding.with_extension("wasm")),
        _ => {
            let advice = "it is not clear which component is built here: no Makefile has a target NAME.wasm, and there is not \
                          exactly one binding file NAME.toml; name the component in place of its folder, with --build";
            Err(ToolError::of_file(folder, advice))
        }
    }
}

/// Returns the first target of a Makefile that is a component.
fn component_target(makefile: &str) -> Option<String> {
    let target = |line: &str| {
        let (target, _) = line.split_once(':')?;
        let is_file = target.ends_with(".wasm") && !target.contains(['%', '$', ' ', '\t', '#']);
        is_file.then(|| target.to_owned())
    };
    makefile.lines().find_map(target)
}

/// Returns the binding files in a folder: tables in TOML with `plugin` or `bind`.
fn bindings_in(folder: &Path) -> Vec<PathBuf> {
    let is_binding = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("plugin") || table.contains_key("bind"))
    };
    let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|file| file.extension().is_some_and(|it| it == "toml")).filter(is_binding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_target_of_the_makefile() {
        for (makefile, expected) in [
            ("X ?= y\n\n# a.wasm: comment\n%.wasm: %.c\n\ngate.wasm: src/lib.rs\n\tcargo build\n", Some("gate.wasm")),
            ("all:\n\tcp x.wasm: y\n", None),
        ] {
            assert_eq!(component_target(makefile).as_deref(), expected, "{makefile}");
        }
    }

    #[test]
    fn a_folder_needs_a_command_and_one_component() {
        let dir = tempfile::tempdir().unwrap();
        let find = |command: Option<&str>| Project::find(dir.path(), command, None, None);
        assert!(find(None).unwrap_err().to_string().contains("--build"));
        std::fs::write(dir.path().join("build.sh"), "").unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "[package]\n").unwrap();
        assert!(find(None).unwrap_err().to_string().contains("which component"));
        std::fs::write(dir.path().join("gate.toml"), "[[bind]]\n").unwrap();
        let found = find(None).unwrap();
        assert_eq!((found.command.as_deref(), found.name()), (Some("sh build.sh"), "gate".to_owned()));
        std::fs::write(dir.path().join("Makefile"), "door.wasm: x\n").unwrap();
        let found = find(Some("ninja")).unwrap();
        assert_eq!((found.command.as_deref(), found.name()), (Some("ninja"), "door".to_owned()));
        assert!(found.check().unwrap_err().to_string().contains("`ninja` has not written it"));
        let absent = Project::find(&dir.path().join("x.wasm"), None, None, None).unwrap_err();
        assert!(absent.to_string().contains("no such file"), "{absent}");
    }
}
