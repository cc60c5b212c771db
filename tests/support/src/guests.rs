//! Small guests for tests, built from text without a guest toolchain: well-behaved and hostile ones.
//!
//! A guest is a core module in the WebAssembly text format, wrapped into a component by `wit-component` with the WIT
//! files of this repository. The text of each hook is a *fragment* in `tests/support/guests`: module items, a line
//! `;; body`, and the body of the hook's function. `prelude.wat` there has the helpers that fragments call.

mod fragments;
mod wasi;

pub mod costly;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

pub use self::fragments::*;

const PRELUDE: &str = include_str!("../guests/prelude.wat");

/// A hook that a guest can implement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestHook {
    /// `request-auth`
    RequestAuth,
    /// `event-filter`
    EventFilter,
    /// `payload-transform`
    PayloadTransform,
    /// `context-enrichment`
    ContextEnrichment,
    /// `evaluation-transform`
    EvaluationTransform,
    /// `background`
    Background,
    /// `change-listener`
    ChangeListener,
    /// `route-resolver`
    RouteResolver,
}

/// A guest to be built.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    version: String,
    interface: String,
    init: String,
    hooks: Vec<(GuestHook, String)>,
    /// The manifest; made of name and version if absent.
    manifest: Option<String>,
    has_foreign_import: bool,
    has_wrong_types: bool,
    keeps_handles: bool,
    exports_async: bool,
}

/// Host functions, imported if a fragment calls them: marker, interface, name, type.
const IMPORTS: [(&str, &str, &str, &str); 25] = [
    ("$log", "log", "log", "(param i32 i32 i32)"),
    ("$counter_add", "metrics", "counter-add", "(param i32 i32 i64 i32 i32 i32)"),
    ("$now_ms", "clock", "now-ms", "(result i64)"),
    ("$monotonic_ns", "clock", "monotonic-ns", "(result i64)"),
    ("$request_headers", "request", "[method]request.headers", "(param i32 i32)"),
    ("$request_header", "request", "[method]request.header", "(param i32 i32 i32 i32)"),
    ("$request_credential", "request", "[method]request.credential", "(param i32 i32)"),
    ("$request_client_address", "request", "[method]request.client-address", "(param i32 i32)"),
    ("$request_peer_address", "request", "[method]request.peer-address", "(param i32 i32)"),
    ("$request_forwarded_for", "request", "[method]request.forwarded-for", "(param i32 i32)"),
    ("$request_path", "request", "[method]request.path", "(param i32 i32)"),
    ("$request_query", "request", "[method]request.query", "(param i32 i32)"),
    ("$request_id", "request", "[method]request.id", "(param i32 i32)"),
    ("$request_identity", "request", "[method]request.identity", "(param i32 i32)"),
    ("$batch_len", "events", "[method]batch.len", "(param i32) (result i32)"),
    ("$batch_get", "events", "[method]batch.get", "(param i32 i32 i32)"),
    ("$context_key", "context", "[method]context.key", "(param i32 i32 i32 i32)"),
    ("$context_attribute", "context", "[method]context.attribute", "(param i32 i32 i32 i32 i32 i32)"),
    ("$item_set_get", "items", "[method]item-set.get", "(param i32 i32 i32)"),
    ("$item_set_other", "items", "[method]item-set.other", "(param i32 i32 i32 i32 i32 i32)"),
    ("$item_set_list", "items", "[method]item-set.list", "(param i32 i32 i32 i32)"),
    ("$result_set_get", "results", "[method]result-set.get", "(param i32 i32 i32)"),
    ("$kv_increment", "kv", "increment", "(param i32 i32 i64 i32 i64 i32)"),
    ("$http_send", "http", "send", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)"),
    ("$shared_get", "shared", "get", "(param i32 i32 i32)"),
];

/// A resource that a hook is passed: name of the parameter, interface, name.
type Passed = (&'static str, &'static str, &'static str);

impl Guest {
    /// Creates a guest with this name and no hook yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            interface: "0.1.0".to_owned(),
            init: "(i32.const 128)".to_owned(),
            hooks: Vec::new(),
            manifest: None,
            has_foreign_import: false,
            has_wrong_types: false,
            keeps_handles: false,
            exports_async: false,
        }
    }

    /// Implements a hook with a fragment.
    #[must_use]
    pub fn hook(mut self, hook: GuestHook, fragment: &str) -> Self {
        self.hooks.push((hook, fragment.to_owned()));
        self
    }

    /// Sets the declared version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Sets the version of the interface that the guest is built for.
    #[must_use]
    pub fn interface(mut self, version: &str) -> Self {
        version.clone_into(&mut self.interface);
        self
    }

    /// Sets the body of `init`.
    #[must_use]
    pub fn init(mut self, body: &str) -> Self {
        body.clone_into(&mut self.init);
        self
    }

    /// Adds an import that no host provides.
    #[must_use]
    pub fn foreign_import(mut self) -> Self {
        self.has_foreign_import = true;
        self
    }

    /// Declares one more case of the denials of a request than there is.
    #[must_use]
    pub fn wrong_types(mut self) -> Self {
        self.has_wrong_types = true;
        self
    }

    /// Never drops what it is passed.
    #[must_use]
    pub fn keep_handles(mut self) -> Self {
        self.keeps_handles = true;
        self
    }

    /// Declares the function of `request-auth` as `async`.
    #[must_use]
    pub fn export_async(mut self) -> Self {
        self.exports_async = true;
        self
    }

    /// Sets the text of the manifest in the component.
    #[must_use]
    pub fn manifest(mut self, json: &str) -> Self {
        self.manifest = Some(json.to_owned());
        self
    }

    /// Builds the core module.
    ///
    /// # Errors
    /// If a fragment is not well-formed.
    pub fn core(&self) -> Result<Vec<u8>> {
        let text = self.text();
        wat::parse_str(&text).with_context(|| format!("text of guest `{}`:\n{text}", self.name))
    }

    /// Builds the component.
    ///
    /// # Errors
    /// If a fragment is not well-formed or does not match the WIT files.
    pub fn component(&self) -> Result<Vec<u8>> {
        let mut core = self.core()?;
        let mut resolve = Resolve::default();
        let mut wit = SourceMap::default();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/v0.1");
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let mut text =
                std::fs::read_to_string(&path)?.replace("plugin@0.1.0", &format!("plugin@{}", self.interface));
            if self.has_wrong_types {
                text = text.replace("        unavailable,\n    }", "        unavailable,\n        bored,\n    }");
            }
            if self.exports_async {
                text = text.replace("authenticate: func", "authenticate: async func");
            }
            wit.push_str(&path.display().to_string(), &text);
        }
        let plugin = wit.parse().map_err(|(map, error)| anyhow::anyhow!(error.render(&map)))?;
        resolve.push_group(plugin).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let foreign = "package acme:things@1.0.0; interface stuff { poke: func(); }";
        resolve.push_str("acme.wit", foreign)?;
        for package in wasi::PACKAGES {
            resolve.push_str("wasi.wit", package)?;
        }
        let package = resolve.push_str("guest.wit", &self.world())?;
        let world = resolve.select_world(&[package], Some("guest"))?;
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)?;
        ComponentEncoder::default().validate(true).module(&core)?.encode()
    }

    fn world(&self) -> String {
        let mut lines = vec![format!("import yardarm:plugin/clock@{};", self.interface)];
        for interface in ["kv", "http", "shared"] {
            let is_called = |marker: &str| self.fragments().any(|fragment| fragment.contains(marker));
            if IMPORTS.iter().any(|(marker, from, ..)| *from == interface && is_called(marker)) {
                lines.push(format!("import yardarm:plugin/{interface}@{};", self.interface));
            }
        }
        lines.extend(
            self.hooks
                .iter()
                .map(|(hook, _)| format!("include yardarm:plugin/{}-plugin@{};", hook.interface(), self.interface)),
        );
        let interfaces: BTreeSet<&str> = self.wasi_imports().map(|(_, interface, ..)| *interface).collect();
        lines.extend(interfaces.into_iter().map(|interface| format!("import {interface};")));
        if self.has_foreign_import {
            lines.push("import acme:things/stuff@1.0.0;".to_owned());
        }
        format!("package test:guest; world guest {{ {} }}", lines.join(" "))
    }

    fn wasi_imports(&self) -> impl Iterator<Item = &'static wasi::WasiImport> {
        let is_called = |marker: &str| self.fragments().any(|fragment| fragment.contains(marker));
        wasi::IMPORTS.iter().filter(move |(marker, ..)| is_called(marker))
    }

    fn fragments(&self) -> impl Iterator<Item = &str> {
        self.hooks.iter().map(|(_, fragment)| &**fragment).chain([&*self.init])
    }

    fn text(&self) -> String {
        let short = self.interface.rsplit_once('.').map_or(&*self.interface, |(short, _)| short);
        let fragments: String = self.fragments().collect();
        let mut imports: String = IMPORTS
            .iter()
            .filter(|(marker, ..)| fragments.contains(marker))
            .map(|(marker, interface, name, kind)| {
                format!("(import \"cm32p2|yardarm:plugin/{interface}@{short}\" \"{name}\" (func {marker} {kind}))\n")
            })
            .collect();
        for (marker, interface, name, kind) in self.wasi_imports() {
            imports += &format!("(import \"{interface}\" \"{name}\" (func {marker} {kind}))\n");
        }
        let resources: BTreeSet<Passed> = self.hooks.iter().flat_map(|(hook, _)| hook.resources()).copied().collect();
        for (_, interface, resource) in resources {
            let name = resource.replace('-', "_");
            imports += &format!(
                "(import \"cm32p2|yardarm:plugin/{interface}@{short}\" \"{resource}_drop\" \
                 (func ${name}_drop (param i32)))\n"
            );
        }
        if self.has_foreign_import {
            imports += "(import \"cm32p2|acme:things/stuff@1\" \"poke\" (func $poke))\n";
        }
        let mut items = String::new();
        for (hook, fragment) in &self.hooks {
            let (module, body) = fragment.split_once(";; body").unwrap_or(("", fragment));
            let (interface, function, resources) = (hook.interface(), hook.function(), hook.resources());
            let handles = resources.iter().map(|it| (it.0, "i32"));
            let parameters: Vec<_> = handles.chain(hook.values().iter().copied()).collect();
            let arguments: String = parameters.iter().map(|it| format!("(local.get ${}) ", it.0)).collect();
            let parameters: String = parameters.iter().map(|it| format!("(param ${} {}) ", it.0, it.1)).collect();
            let drops: String = resources
                .iter()
                .filter(|_| !self.keeps_handles)
                .map(|it| format!("(call ${}_drop (local.get ${}))\n", it.2.replace('-', "_"), it.0))
                .collect();
            items += module;
            items += &format!(
                "(func ${interface} {parameters} (result i32)\n{body})\n\
                 (func (export \"cm32p2|yardarm:plugin/{interface}@{short}|{function}\") {parameters} (result i32)\n\
                 (local $result i32)\n(local.set $result (call ${interface} {arguments}))\n{drops}(local.get $result))\n\
                 (func (export \"cm32p2|yardarm:plugin/{interface}@{short}|{function}_post\") (param i32)\n\
                 (global.set $heap (global.get $call_data)))\n"
            );
        }
        let manifest = self.manifest.clone().unwrap_or_else(|| {
            format!(r#"{{"name":"{}","version":"{}","about":"a guest for tests"}}"#, self.name, self.version)
        });
        let manifest: String = manifest.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        PRELUDE
            .replace("{{imports}}", &imports)
            .replace("{{items}}", &items)
            .replace("{{short}}", short)
            .replace("{{name}}", &self.name)
            .replace("{{manifest}}", &manifest)
            .replace("{{init}}", &self.init)
    }
}

impl GuestHook {
    /// Returns the name of the hook and of its interface.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::RequestAuth => "request-auth",
            Self::EventFilter => "event-filter",
            Self::PayloadTransform => "payload-transform",
            Self::ContextEnrichment => "context-enrichment",
            Self::EvaluationTransform => "evaluation-transform",
            Self::Background => "background",
            Self::ChangeListener => "change-listener",
            Self::RouteResolver => "route-resolver",
        }
    }

    fn function(self) -> &'static str {
        match self {
            Self::RequestAuth => "authenticate",
            Self::EventFilter => "filter",
            Self::ContextEnrichment => "enrich",
            Self::PayloadTransform | Self::EvaluationTransform => "transform",
            Self::Background => "refresh",
            Self::ChangeListener => "changed",
            Self::RouteResolver => "resolve",
        }
    }

    fn resources(self) -> &'static [Passed] {
        const REQUEST: Passed = ("request", "request", "request");
        const CONTEXT: Passed = ("context", "context", "context");
        match self {
            Self::RequestAuth | Self::RouteResolver => &[REQUEST],
            Self::EventFilter => &[REQUEST, ("batch", "events", "batch")],
            Self::PayloadTransform => &[("set", "items", "item-set")],
            Self::ContextEnrichment => &[REQUEST, CONTEXT],
            Self::EvaluationTransform => &[REQUEST, CONTEXT, ("set", "results", "result-set")],
            Self::Background | Self::ChangeListener => &[],
        }
    }

    /// Parameters that are no handles: name and type.
    fn values(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ChangeListener => &[
                ("vendor", "i32"),
                ("vendor_length", "i32"),
                ("environment", "i32"),
                ("environment_length", "i32"),
                ("items", "i32"),
                ("count", "i32"),
                ("left_out", "i32"),
                ("at_ms", "i64"),
            ],
            _ => &[],
        }
    }
}
