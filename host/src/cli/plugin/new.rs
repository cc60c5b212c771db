//! `yardarm plugin new`: a complete plugin to start from.

mod templates;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::templates::Template;
use super::outcome::{Format, Report, ToolError, finish, write};
use super::wit::write_package;

/// Arguments of `plugin new`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes source, interface, manifest, binding file, cases, a Makefile and a README. Nothing is installed; `make` \
    fetches what it needs from the package registry of the language.\n\n\
    Example:\n  yardarm plugin new gate --lang js --hook request-auth\n  cd gate && make test"
)]
pub(super) struct NewArgs {
    /// Name of the plugin: lower-case letters, digits and hyphens, beginning with a letter
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// Language
    #[arg(long, value_enum)]
    lang: Language,
    /// Hook
    #[arg(long, value_enum)]
    hook: HookName,
    /// Folder to create [default: the name]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Folder of the crate `yardarm-plugin`, instead of the published one; for Rust
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

/// A language with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Rust, with the crate `yardarm-plugin`
    Rust,
    /// JavaScript, in QuickJS
    Js,
    /// Python
    Python,
    /// Go
    Go,
    /// C, with the compiler of Zig
    C,
    /// WebAssembly text
    Wat,
}

/// A hook, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HookName {
    /// May a request or stream proceed?
    RequestAuth,
    /// Which analytics events leave, and how?
    EventFilter,
    /// Which flag data do SDKs receive?
    PayloadTransform,
    /// What else is known of the context?
    ContextEnrichment,
    /// Which results do SDKs receive that do not evaluate themselves?
    EvaluationTransform,
    /// What do the other hooks need? Together with `request-auth`
    Background,
    /// Who else wants to know of changes?
    ChangeListener,
    /// Which environment is a request for?
    RouteResolver,
}

#[derive(Serialize)]
struct Created {
    folder: PathBuf,
    written: Vec<PathBuf>,
}

pub(super) async fn run(args: NewArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let folder = args.dir.unwrap_or_else(|| PathBuf::from(&args.name));
        let template = Template::new(&args.name, args.lang, args.hook, sdk(args.sdk.as_deref())?);
        create(&folder, &template)
    })
    .await
}

/// Writes all files into a folder that is empty or does not exist.
fn create(folder: &Path, template: &Template) -> Result<Created, ToolError> {
    if let Ok(mut entries) = folder.read_dir()
        && entries.next().is_some()
    {
        return Err(ToolError::of_file(folder, "the folder is not empty; choose another one with --dir"));
    }
    let mut written = Vec::new();
    for (name, text) in template.files() {
        let file = folder.join(name);
        write(&file, text.as_bytes())?;
        written.push(file);
    }
    if template.has_wit() {
        written.extend(write_package(&folder.join("wit"))?);
    }
    Ok(Created { folder: folder.to_owned(), written })
}

/// Returns the dependency on the SDK, as in `Cargo.toml`.
fn sdk(path: Option<&Path>) -> Result<String, ToolError> {
    let Some(path) = path else { return Ok(format!("\"{}\"", env!("CARGO_PKG_VERSION"))) };
    let absolute = path.canonicalize().map_err(|error| ToolError::of_file(path, error))?;
    if !absolute.join("Cargo.toml").exists() {
        return Err(ToolError::of_file(
            path,
            "there is no `Cargo.toml`; --sdk is the folder of the crate `yardarm-plugin`",
        ));
    }
    let mut dependency = toml::Table::new();
    dependency.insert("path".to_owned(), absolute.to_string_lossy().into_owned().into());
    Ok(toml::Value::Table(dependency).to_string())
}

fn parse_name(name: &str) -> Result<String, String> {
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_first = |word: &str| word.starts_with(|first: char| first.is_ascii_lowercase());
    if name.len() <= 64 && name.split('-').all(|word| is_word(word) && is_first(word)) {
        return Ok(name.to_owned());
    }
    Err("a name has words of lower-case letters and digits, each beginning with a letter, with hyphens between them"
        .into())
}

impl Report for Created {
    fn text(&self) -> String {
        let mut text: String = self.written.iter().map(|file| format!("{}\n", file.display())).collect();
        text += &format!("next: cd {} && make test\n", self.folder.display());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_the_interface_language() {
        for (name, is_valid) in
            [("gate", true), ("my-gate2", true), ("Gate", false), ("my--gate", false), ("2gate", false), ("a-1", false)]
        {
            assert_eq!(parse_name(name).is_ok(), is_valid, "{name}");
        }
    }

    #[test]
    fn every_template_is_complete() {
        for lang in Language::value_variants() {
            for hook in HookName::value_variants() {
                let template = Template::new("my-gate", *lang, *hook, "\"0.1\"".to_owned());
                for (name, text) in template.files() {
                    assert!(!text.contains("{{"), "{name}: {text}");
                }
            }
        }
    }
}
