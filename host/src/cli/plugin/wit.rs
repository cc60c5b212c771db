//! `yardarm plugin wit`: the interface of plugins, which the program carries.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::outcome::{Format, Report, ToolError, finish, write};

/// Folder of the package below the author's folder `wit`, where `wit-bindgen`, `wasm-tools`, `jco`, `componentize-qjs` and
/// `componentize-py` look for dependencies.
const PACKAGE_FOLDER: &str = "deps/yardarm-plugin";

macro_rules! package {
    ($($file:literal),+ $(,)?) => {
        /// The files of the package, by name.
        pub(super) const PACKAGE: &[(&str, &str)] =
            &[$(($file, include_str!(concat!("../../../../wit/v0.1/", $file)))),+];
    };
}

package!(
    "types.wit",
    "host.wit",
    "request.wit",
    "request-auth.wit",
    "event-filter.wit",
    "payload-transform.wit",
    "context-enrichment.wit",
    "evaluation-transform.wit",
    "kv.wit",
    "http.wit",
    "background.wit",
    "change-listener.wit",
    "route-resolver.wit",
    "worlds.wit",
);

/// Arguments of `plugin wit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yardarm plugin wit --out wit    # writes wit/deps/yardarm-plugin/*.wit; put your world into wit/world.wit:\n\n  \
    package acme:gate;\n  world gate { include yardarm:plugin/request-auth-plugin@0.1.0; }"
)]
pub(super) struct WitArgs {
    /// Folder with the WIT files of your plugin; the package is written to `deps/yardarm-plugin` in it. Without it, the
    /// package is printed as one text
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// The package, written or printed.
#[derive(Serialize)]
struct WitReport {
    /// Name and version of the package.
    package: String,
    /// The files that were written.
    written: Vec<PathBuf>,
    /// The whole package as one text, unless files were written.
    text: Option<String>,
}

pub(super) async fn run(args: WitArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let package = package().to_owned();
        Ok(match args.out {
            Some(folder) => WitReport { package, written: write_package(&folder)?, text: None },
            None => WitReport { package, written: Vec::new(), text: Some(joined()) },
        })
    })
    .await
}

/// Writes the package below an author's folder of WIT files; returns the files.
pub(super) fn write_package(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let folder = folder.join(PACKAGE_FOLDER);
    PACKAGE.iter().map(|(name, text)| write(&folder.join(name), text.as_bytes()).map(|()| folder.join(name))).collect()
}

/// Returns the name of the package, with its version.
fn package() -> &'static str {
    let line = PACKAGE[0].1.lines().next().unwrap_or_default();
    line.trim_start_matches("package ").trim_end_matches(';')
}

/// Returns all files as one: the package is named once.
fn joined() -> String {
    let declaration = format!("package {};\n", package());
    let parts = PACKAGE.iter().map(|(_, text)| text.strip_prefix(&*declaration).unwrap_or(text));
    format!("{declaration}{}", parts.collect::<String>())
}

impl Report for WitReport {
    fn text(&self) -> String {
        match &self.text {
            Some(text) => text.clone(),
            None => self.written.iter().map(|file| format!("{}\n", file.display())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_has_every_file_of_the_interface() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v0.1");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut carried: Vec<&str> = PACKAGE.iter().map(|(name, _)| *name).collect();
        carried.sort_unstable();
        assert_eq!(files, carried);
        assert_eq!(package(), "yardarm:plugin@0.1.0");
        let declarations = joined().lines().filter(|line| line.starts_with("package ")).count();
        assert_eq!(declarations, 1);
    }
}
