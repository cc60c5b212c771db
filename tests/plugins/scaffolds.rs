//! What `yardarm plugin new` creates is built by its Makefile, loads, and passes its cases: every hook in Rust, JavaScript, C
//! and text, and some in Python and Go, which take longer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::program::run;

const HOOKS: [&str; 8] = [
    "request-auth",
    "event-filter",
    "payload-transform",
    "context-enrichment",
    "evaluation-transform",
    "background",
    "change-listener",
    "route-resolver",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("a folder")
}

/// Returns the folder of tools that `make example-plugins` installs; `None` with a note if they are not there, which fails in
/// CI.
#[expect(clippy::print_stderr, reason = "a skipped test prints a note")]
pub(super) fn tools(lang: &str, tool: &str) -> Option<PathBuf> {
    let folder = repository().join("examples/plugins/.tools");
    if folder.join(tool).exists() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{tool} is not installed: `make example-plugins`");
    eprintln!("skipped: {tool} for plugins in {lang} is not installed, run `make example-plugins`");
    None
}

/// Runs a command that must succeed; returns all it has printed.
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the command");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Packages the crate for Rust as it is published, and unpacks it in a folder; returns the folder of the crate.
pub(super) fn packaged_sdk(folder: &Path) -> PathBuf {
    let mut package = Command::new("cargo");
    package
        .args(["package", "--no-verify", "--allow-dirty", "--package", "yardarm-plugin", "--target-dir"])
        .arg(folder);
    succeeds(package.current_dir(repository().join("plugins")));
    let name = concat!("yardarm-plugin-", env!("CARGO_PKG_VERSION"));
    let packages = folder.join("package");
    succeeds(Command::new("tar").args(["-xzf", &format!("{name}.crate")]).current_dir(&packages));
    packages.join(name)
}

/// Creates, builds and tests a plugin for each hook. What the first one installs into `installed`, the others use.
fn build_and_test(lang: &str, hooks: &[&str], installed: Option<(&str, &str)>) {
    let dir = TempDir::new().expect("a folder");
    let root = repository();
    let sdk = (lang == "rust").then(|| packaged_sdk(dir.path()));
    let mut first: Option<PathBuf> = None;
    for hook in hooks {
        let name = format!("my-{hook}");
        let folder = dir.path().join(&name);
        let mut arguments = vec!["plugin", "new", &name, "--lang", lang, "--hook", hook];
        arguments.extend(sdk.iter().flat_map(|sdk| ["--sdk", sdk.to_str().expect("a path of text")]));
        let created = run(dir.path(), &arguments);
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let mut make = Command::new("make");
        make.arg("test")
            .arg(format!("YARDARM={}", env!("CARGO_BIN_EXE_yardarm")))
            .arg(format!("TARGET_DIR={}", dir.path().join("target").display()))
            .env("YARDARM_TOOLS", root.join("examples/plugins/.tools"))
            .current_dir(&folder);
        if let (Some((shared, mark)), Some(first)) = (installed, &first) {
            symlink(first.join(shared), folder.join(shared)).expect("a link");
            // It is older than the files of this plugin, and installed all the same.
            make.arg(format!("--old-file={shared}/{mark}"));
        }
        let text = succeeds(&mut make);
        let cases = fs::read_to_string(folder.join(format!("{name}.cases.jsonl"))).expect("cases").lines().count();
        for line in ["fine: a gateway loads it".to_owned(), format!("{cases} cases passed")] {
            assert!(text.lines().any(|it| it == line), "{lang}, {hook}: {text}");
        }
        first.get_or_insert(folder);
    }
}

/// With the crate as it is published, outside of the repository.
#[test]
fn new_plugins_in_rust_pass_their_cases() {
    build_and_test("rust", &HOOKS, None);
}

#[test]
fn new_plugins_in_javascript_pass_their_cases() {
    build_and_test("js", &HOOKS, Some(("node_modules", ".package-lock.json")));
}

/// One plugin with two hooks: a component in Python is so large that it takes half a minute to compile in this profile.
#[test]
fn new_plugins_in_python_pass_their_cases() {
    build_and_test("python", &["background"], None);
}

/// Two plugins with three hooks, at ten seconds each.
#[test]
fn new_plugins_in_go_pass_their_cases() {
    if tools("go", "wasi_snapshot_preview1.reactor.wasm").is_some() {
        build_and_test("go", &["background", "event-filter"], None);
    }
}

#[test]
fn new_plugins_in_c_pass_their_cases() {
    if tools("c", "zig").is_some() {
        build_and_test("c", &HOOKS, None);
    }
}

#[test]
fn new_plugins_in_webassembly_text_pass_their_cases() {
    if tools("wat", "bin/wasm-tools").is_some() {
        build_and_test("wat", &HOOKS, None);
    }
}
