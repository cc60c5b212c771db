//! Why a file is rejected, in messages that explain how to fix it.

use super::{CompileStop, Hook, INTERFACE_VERSION, clean, largest_file};

/// Why a file was rejected. What ran before keeps running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// L01.
    #[error("{what}")]
    NotAComponent {
        /// The actual kind of file.
        what: String,
    },
    /// L02.
    #[error("the file has {size} bytes, {limit} are allowed{}", hint(*limit))]
    TooLarge {
        /// Size of the file in bytes.
        size: u64,
        /// Maximum size in bytes.
        limit: u64,
    },
    /// L02.
    #[error(
        "the folder has {count} plugins, {limit} are allowed; remove some, the last in order of name are not loaded"
    )]
    TooManyPlugins {
        /// Number of plugins in the folder.
        count: usize,
        /// Maximum number of plugins.
        limit: usize,
    },
    /// L02.
    #[error("the component has {count} {what}, {limit} are allowed")]
    TooComplex {
        /// What is counted.
        what: &'static str,
        /// The count; what follows in the file is not counted.
        count: u64,
        /// Maximum count.
        limit: u64,
    },
    /// L03.
    #[error("the component does not compile: {text}")]
    CompileFailed {
        /// Message of the compiler.
        text: String,
    },
    /// L03. The digest of the file is in quarantine.
    #[error(
        "{stop}; the file is in quarantine, it is not compiled again {}. Replace it with a better build{}",
        stop.duration(),
        stop.advice()
    )]
    Quarantined {
        /// Why its compilation was stopped.
        stop: CompileStop,
    },
    /// L03. Says nothing about the file; compiling is retried.
    #[error("the compiler cannot run: {text}")]
    CompilerUnavailable {
        /// What is missing.
        text: String,
    },
    /// L04.
    #[error(
        "built for `{built_for}`, this host supports `yardarm:plugin@{}`; upgrade the older side",
        INTERFACE_VERSION
    )]
    UnsupportedInterface {
        /// The version in the component.
        built_for: String,
    },
    /// L04.
    #[error(
        "the component exports no hook; export one or more of `{}` of `yardarm:plugin@{INTERFACE_VERSION}`",
        Hook::ALL.map(Hook::name).join("`, `")
    )]
    NoHook,
    /// L04.
    #[error("a type differs from `yardarm:plugin@{}`, build against its WIT files: {text}", INTERFACE_VERSION)]
    WrongTypes {
        /// Message of the linker.
        text: String,
    },
    /// L04.
    #[error(
        "exported as `async func`: {functions}; in `yardarm:plugin@{}` they are plain `func`, generate the bindings \
         without `async`",
        INTERFACE_VERSION
    )]
    AsyncExport {
        /// The functions, with their interfaces.
        functions: String,
    },
    /// L05.
    #[error(
        "unknown imports: {imports}; the host offers those of `yardarm:plugin@{INTERFACE_VERSION}`, which `yardarm plugin \
         wit` prints, and of WASI"
    )]
    UnknownImport {
        /// All unknown imports.
        imports: String,
    },
    /// L06.
    #[error("{needs} without the grant; write `{line}` {place}")]
    CapabilityDenied {
        /// All imports that lack a grant, and all grants that the manifest wants.
        needs: String,
        /// The line that grants them, including existing grants.
        line: String,
        /// Where the line belongs.
        place: String,
    },
    /// L06.
    #[error("{wants}, in `{file}`")]
    LimitsDenied {
        /// All limits that the manifest wants beyond the defaults, each with the line that gives it.
        wants: String,
        /// The binding file.
        file: String,
    },
    /// L07.
    #[error("`{file}` cannot be used: {}", faults.join("; "))]
    ManifestInvalid {
        /// The binding file.
        file: String,
        /// Each error with its key path.
        faults: Vec<String>,
    },
    /// L07.
    #[error("the manifest in the component cannot be used: {text}")]
    ComponentManifestInvalid {
        /// What is wrong with it.
        text: String,
    },
    /// L08.
    #[error("`plugin.config` does not match the plugin's schema: {}", faults.join("; "))]
    ConfigMismatch {
        /// Each violation with its JSON pointer.
        faults: Vec<String>,
    },
    /// L08.
    #[error(
        "`plugin.config` is set, but the component exports no `yardarm:plugin/lifecycle@{}` to receive it",
        INTERFACE_VERSION
    )]
    NoConfig,
    /// L07.
    #[error(
        "`{stem}.toml` is missing, which made the plugin required; restore it, or retire the plugin with an empty file \
         `{stem}.retired`"
    )]
    BindingMissing {
        /// File name, without extension, of the plugin.
        stem: String,
    },
    /// L07.
    #[error(
        "`{file}` is for `{expected}`, but the component calls itself `{actual}`; correct `plugin.name`, or use another file"
    )]
    NameMismatch {
        /// The binding file.
        file: String,
        /// Name in the binding file.
        expected: String,
        /// Name in the component.
        actual: String,
    },
    /// L07.
    #[error("the component calls itself `{name}`; a name has 1 to 64 letters, digits, `-` and `_`")]
    BadName {
        /// Name in the component.
        name: String,
    },
    /// L07.
    #[error("`{active}.wasm` has the name `{name}` already and stays; remove one of the two files")]
    DuplicateName {
        /// Name in both components.
        name: String,
        /// File name, without extension, of the plugin that keeps the name.
        active: String,
    },
    /// L08.
    #[error("the plugin does not accept its configuration: {text}")]
    ConfigInvalid {
        /// Message of the plugin.
        text: String,
    },
    /// L08.
    #[error("{}", .faults.join("; "))]
    SecretUnavailable {
        /// Each reference that cannot be resolved, with its place.
        faults: Vec<String>,
    },
    /// L09.
    #[error("`{what}` failed: {error}")]
    InitFailed {
        /// `init`, or the step of loading.
        what: &'static str,
        /// How it ended.
        error: String,
    },
    /// L09.
    #[error("`init` took longer than {seconds} s; leave what takes long to the hook `background`")]
    InitTimeout {
        /// The time limit.
        seconds: u64,
    },
    /// L10.
    #[error("the plugin fails its own case `{case}`: {difference}")]
    SelfTestFailed {
        /// Name of the case.
        case: String,
        /// What is not as expected.
        difference: String,
    },
    /// L11.
    #[error(
        "the file has the SHA-256 {actual}, the binding requires {expected}; correct `plugin.sha256`, or use another file"
    )]
    HashMismatch {
        /// Digest in the binding file.
        expected: String,
        /// Digest of the component file.
        actual: String,
    },
    /// L11.
    #[error("the component has no signature, and `plugins.signatures` requires one; add it with `yardarm plugin sign`")]
    SignatureMissing,
    /// L11.
    #[error("the signature of the component is not valid: {text}")]
    SignatureInvalid {
        /// What is wrong.
        text: String,
    },
    /// L12.
    #[error("{text}")]
    UnsafeFolder {
        /// What is wrong, with the path.
        text: String,
    },
    /// L12.
    #[error("{text}")]
    UnusableFolder {
        /// What is wrong, with the path.
        text: String,
    },
    /// L01.
    #[error("`{path}` is {kind}; only regular files and symbolic links to them are read")]
    NotAFile {
        /// The path.
        path: String,
        /// The kind of file.
        kind: &'static str,
    },
    /// L01.
    #[error("the name of the file is not valid UTF-8 or has control characters; rename it")]
    BadFileName,
    /// S02. The files are in quarantine.
    #[error(
        "version `{version}` was rolled back to `{to}`: {reason}; its files are in quarantine until they change or an \
         operator clears them"
    )]
    RolledBack {
        /// The version that was rolled back.
        version: Box<str>,
        /// The version that it was rolled back to.
        to: Box<str>,
        /// Why, with figures.
        reason: Box<str>,
    },
    /// The file cannot be read; reading is retried.
    #[error("the file cannot be read: {text}")]
    Unreadable {
        /// Message of the operating system.
        text: String,
    },
}

/// Returns advice about a component that is too large.
fn hint(limit: u64) -> &'static str {
    if limit == largest_file(false) {
        "; guests that carry a runtime may have more with `profile = \"large\"` under [plugin]"
    } else {
        ""
    }
}

impl LoadError {
    /// Returns the error with a text without secrets.
    pub(crate) fn redacted(self, redact: impl Fn(&str) -> String) -> Self {
        match self {
            Self::ConfigInvalid { text } => Self::ConfigInvalid { text: redact(&text) },
            Self::ConfigMismatch { faults } => {
                Self::ConfigMismatch { faults: faults.iter().map(|fault| redact(fault)).collect() }
            }
            error => error,
        }
    }

    /// Returns the stable code (see "Error codes" in `plugins/README.md`).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAComponent { .. } | Self::Unreadable { .. } | Self::NotAFile { .. } | Self::BadFileName => "L01",
            Self::TooLarge { .. } | Self::TooComplex { .. } | Self::TooManyPlugins { .. } => "L02",
            Self::CompileFailed { .. } | Self::Quarantined { .. } | Self::CompilerUnavailable { .. } => "L03",
            Self::UnsupportedInterface { .. } | Self::NoHook | Self::WrongTypes { .. } | Self::AsyncExport { .. } => {
                "L04"
            }
            Self::UnknownImport { .. } => "L05",
            Self::CapabilityDenied { .. } | Self::LimitsDenied { .. } => "L06",
            Self::ManifestInvalid { .. }
            | Self::ComponentManifestInvalid { .. }
            | Self::BindingMissing { .. }
            | Self::NameMismatch { .. }
            | Self::BadName { .. }
            | Self::DuplicateName { .. } => "L07",
            Self::ConfigInvalid { .. }
            | Self::ConfigMismatch { .. }
            | Self::NoConfig
            | Self::SecretUnavailable { .. } => "L08",
            Self::InitFailed { .. } | Self::InitTimeout { .. } => "L09",
            Self::SelfTestFailed { .. } => "L10",
            Self::HashMismatch { .. } | Self::SignatureMissing | Self::SignatureInvalid { .. } => "L11",
            Self::UnsafeFolder { .. } | Self::UnusableFolder { .. } => "L12",
            Self::RolledBack { .. } => "S02",
        }
    }

    /// Returns the class (see "Error codes" in `plugins/README.md`).
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotAComponent { .. } | Self::Unreadable { .. } => "not-a-component",
            Self::NotAFile { .. } | Self::BadFileName => "not-a-file",
            Self::BindingMissing { .. } => "binding-missing",
            Self::TooLarge { .. } | Self::TooComplex { .. } => "too-large",
            Self::TooManyPlugins { .. } => "too-many-plugins",
            Self::CompileFailed { .. } => "compile-failed",
            Self::Quarantined { stop } => stop.class(),
            Self::CompilerUnavailable { .. } => "compiler-unavailable",
            Self::UnsupportedInterface { .. } | Self::NoHook | Self::WrongTypes { .. } | Self::AsyncExport { .. } => {
                "unsupported-interface"
            }
            Self::UnknownImport { .. } => "unknown-import",
            Self::CapabilityDenied { .. } => "capability-denied",
            Self::LimitsDenied { .. } => "limits-denied",
            Self::ManifestInvalid { .. } | Self::ComponentManifestInvalid { .. } | Self::BadName { .. } => {
                "manifest-invalid"
            }
            Self::NameMismatch { .. } => "name-mismatch",
            Self::DuplicateName { .. } => "duplicate-name",
            Self::ConfigInvalid { .. }
            | Self::ConfigMismatch { .. }
            | Self::NoConfig
            | Self::SecretUnavailable { .. } => "config-invalid",
            Self::InitFailed { .. } => "init-failed",
            Self::InitTimeout { .. } => "init-timeout",
            Self::SelfTestFailed { .. } => "self-test-failed",
            Self::HashMismatch { .. } => "hash-mismatch",
            Self::SignatureMissing => "signature-missing",
            Self::SignatureInvalid { .. } => "signature-invalid",
            Self::UnsafeFolder { .. } => "unsafe-folder",
            Self::UnusableFolder { .. } => "unusable-folder",
            Self::RolledBack { .. } => "rolled-back",
        }
    }

    /// Returns whether loading the same file may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            // On a busy machine a call may exceed its time.
            Self::CompilerUnavailable { .. }
            | Self::InitTimeout { .. }
            | Self::InitFailed { .. }
            | Self::SelfTestFailed { .. } => true,
            Self::Quarantined { stop } => stop.lapses_after().is_some(),
            _ => false,
        }
    }

    /// Classifies the message of the parser or the compiler.
    pub(crate) fn of_compiler(text: &str) -> Self {
        let text = clean(text);
        if text.contains("unexpected end") || text.contains("unexpected-end") {
            return Self::NotAComponent { what: format!("the file is truncated: {text}") };
        }
        Self::CompileFailed { text }
    }

    /// Creates the error for imports or exports whose types differ from the host's.
    pub(crate) fn wrong_types(error: &wasmtime::Error) -> Self {
        Self::WrongTypes { text: clean(&format!("{error:#}")) }
    }
}
