//! Staging: turns bytes into a [`Plugin`] that is checked, compiled, linked, initialized and measured, away from the
//! serving path.
//!
//! A `Plugin` is created nowhere else. Any failure is a [`LoadError`] and changes nothing else.

pub(crate) mod cache;
pub(crate) mod compilation;
pub(crate) mod component_manifest;
pub(crate) mod exports;
pub(crate) mod imports;
pub(crate) mod inspection;
pub(crate) mod manifest;
pub(crate) mod sections;
pub(crate) mod signature;
mod warm_up;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;
use wasmtime::component::Component;
use yardarm_core::{Lifecycle, supervisor};

use self::compilation::{Compilation, Source};
use self::component_manifest::ComponentManifest;
use self::inspection::Inspection;
use self::manifest::Manifest;
use self::signature::{SignatureMode, SignaturePolicy};
use crate::background;
use crate::breaker::Breaker;
use crate::call::BindingInstance;
use crate::cases::{self, Captures, Runner};
use crate::notices::Mailboxes;
use crate::plugin::{Figures, Plugin};
use crate::pool::Pool;
use crate::runtime::cpu_share::CpuShares;
use crate::runtime::engine::Engine;
use crate::runtime::guest::{Guest, INIT_DEADLINE, PluginContext};
use crate::services::Services;
use crate::services::kv::KvSpace;
use crate::services::secrets::{Resolved, Secrets};
use crate::vocabulary::{
    Bind, CallError, CalledVersion, Grants, Hook, Isolation, LoadError, PluginCounters, Progress, RolloutMode,
    RolloutPolicy, SignatureStatus, StagingStep, StatePolicy, apply_wanted_limits, clean, config_schema, largest_file,
};

/// A guest whose fresh instance is created in less time gets one per call: isolation at almost no cost.
const CHEAP_INSTANCE: Duration = Duration::from_micros(50);
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// The dependencies of staging.
#[derive(Clone)]
pub(crate) struct Stager {
    pub(crate) engine: Arc<Engine>,
    pub(crate) compilation: Compilation,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) shares: CpuShares,
    pub(crate) services: Services,
    pub(crate) mailboxes: Mailboxes,
    /// Where failed calls are kept, if they are.
    pub(crate) captures: Option<Arc<Captures>>,
    pub(crate) signatures: Arc<SignaturePolicy>,
    /// Notified when the background task of a plugin has published something new.
    pub(crate) published: Arc<Notify>,
}

/// A file to be staged.
pub(crate) struct Candidate {
    /// File name without extension.
    pub(crate) stem: Arc<str>,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) sha256: [u8; 32],
    /// The binding file, if there is one.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) generation: u64,
    /// Whether it replaces the running version at once.
    pub(crate) rollout: RolloutPolicy,
    /// The compiled form of the same bytes, if another plugin runs it already.
    pub(crate) compiled: Option<Component>,
    /// Shows the step in which the staging is.
    pub(crate) progress: Progress,
}

impl Stager {
    /// Stages a file. `counters` returns the counters for the name that the component declares.
    pub(crate) async fn stage(
        &self,
        candidate: Candidate,
        counters: impl Fn(&str) -> Arc<PluginCounters>,
    ) -> Result<Plugin, LoadError> {
        let Candidate { stem, bytes, sha256, manifest, generation, rollout, compiled, progress } = candidate;
        let automatic = manifest.is_none();
        let manifest = manifest.unwrap_or_else(Manifest::automatic);
        if let Some(expected) = manifest.sha256
            && expected != sha256
        {
            return Err(LoadError::HashMismatch { expected: hex::encode(expected), actual: hex::encode(sha256) });
        }
        progress.enter(StagingStep::Checking);
        let limit = largest_file(manifest.large);
        let inspected = Arc::clone(&bytes);
        let inspect = move || check_bytes(&inspected, limit).and_then(|()| Inspection::of(&inspected));
        let inspection = supervisor::blocking("plugin inspection", inspect).await;
        let inspection = inspection.map_err(|error| LoadError::CompileFailed { text: error.to_string() })??;
        let file = format!("{stem}.toml");
        let exported = exports::check(&inspection, !manifest.config.is_empty())?;
        let declared = ComponentManifest::of(&inspection)?;
        let name = check_name(declared.name.as_deref().unwrap_or(&stem), manifest.name.as_deref(), &file)?;
        let signature = self.check_signature(&bytes, &name, &declared.version)?;
        let requested = imports::check(&inspection.imports, declared.wanted(), &manifest.grants, &file)?;
        let binds = bindings(&manifest, automatic, &exported, &file)?;
        let binds = apply_wanted_limits(binds, &manifest.limits, &declared.limits, &file)?;
        let grants = declared.effective(&manifest.grants);
        let is_shadow = rollout.mode == RolloutMode::Shadow;
        let (resolved, kv) = self.open_services(&name, &manifest, &grants, &file).await?;
        let Resolved { config, redactor, digest: secrets } = resolved;
        config_schema::check(declared.config.as_ref(), &config)
            .map_err(|error| error.redacted(|text| redactor.redact(text).into_owned()))?;

        let began = Instant::now();
        let (component, cached) = match compiled {
            Some(component) => (component, true),
            None => {
                let (complexity, kind) = (inspection.complexity, inspection.engine_kind());
                let source = Source { bytes, sha256, complexity, kind };
                self.compilation.compile(source, &progress).await?
            }
        };
        let compile = began.elapsed();

        progress.enter(StagingStep::Initializing);
        let memory_mb = binds.iter().map(|bind| bind.memory_mb).max().unwrap_or(16);
        let _ticking = self.engine.enter();
        let mut context = PluginContext::new(
            Arc::clone(&name),
            CalledVersion { version: declared.version.as_str().into(), generation },
            grants,
            &config,
            Arc::clone(&self.engine.fingerprints),
            if is_shadow {
                // Its calls are not calls of the plugin, and must not have an effect.
                (Arc::default(), self.shares.shadow(), self.services.shadow(redactor))
            } else {
                (counters(&name), self.shares.of(&name), self.services.of(kv, redactor))
            },
        );
        context.captures = self.captures.clone().map(|it| it as _);
        let guest = Arc::new(Guest::link(&self.engine, &component, context)?);
        let (fresh, memory) = first_instances(&guest, &exported, &binds, memory_mb).await?;

        let needed = imports::needed(&inspection.imports);
        let runner = Runner {
            engine: Arc::clone(&self.engine),
            component: guest.pre.component().clone(),
            name: Arc::clone(&name),
            state: declared.state,
            schema: declared.config.clone(),
            // What the cases expect must not depend on an operator's configuration.
            config: serde_json::Map::new(),
            grants: declared.all_grants(&needed),
            needed,
            limits: declared.limits.clone(),
            secrets: Secrets::None,
            binds: Vec::new(),
            is_muted: true,
        };
        Box::pin(cases::self_test(&runner, &declared.cases)).await?;

        let breakers = Hook::ALL.map(|_| Arc::new(Breaker::new()));
        let binding = |bind: Bind| {
            let default = match declared.state {
                // What instances keep is worth nothing if each call gets its own.
                Some(StatePolicy::Cache) => Isolation::Pool,
                _ if fresh < CHEAP_INSTANCE => Isolation::Call,
                _ => Isolation::Pool,
            };
            Arc::new(BindingInstance {
                guest: Arc::clone(&guest),
                isolation: bind.isolation.unwrap_or(default),
                pool: Pool::new(Pool::usual_limit(bind.hook)),
                breaker: Arc::clone(&breakers[bind.hook.index()]),
                creation: (fresh * 4).min(INIT_DEADLINE),
                lifecycle: self.lifecycle.clone(),
                identity: identity(&sha256, &name, &manifest, (&secrets, &bind)),
                bind,
            })
        };
        let bindings: Vec<_> = binds.into_iter().map(binding).collect();
        for binding in &bindings {
            warm_up::warm_up(binding).await;
        }
        let mut background = None;
        if let Some(binding) = bindings.iter().find(|it| it.bind.hook == Hook::Background) {
            // What the other hooks do without a publication is theirs to decide, so a failure is no reason not to load.
            let is_fresh = Box::pin(background::refresh(binding)).await.is_ok();
            background = Some(background::start(binding, is_fresh, Arc::clone(&self.published)));
        }
        Ok(Plugin {
            mailbox: self.mailboxes.of(&name),
            secrets,
            config: manifest.config,
            wanted_limits: declared.limits,
            background,
            stem,
            name,
            version: declared.version,
            about: declared.about,
            state: declared.state,
            sha256,
            signature,
            rollout,
            generation,
            automatic,
            requested,
            exported,
            guest,
            bindings,
            figures: Figures { fresh, memory, compile, cached },
        })
    }
}

impl Stager {
    /// Checks the signature of a component, if signatures are checked.
    fn check_signature(&self, bytes: &[u8], name: &str, version: &str) -> Result<SignatureStatus, LoadError> {
        if !self.signatures.is_active() {
            return Ok(SignatureStatus::Unchecked);
        }
        match self.signatures.check(bytes, name, version) {
            Ok(key) => Ok(SignatureStatus::Valid { key: key.to_string() }),
            Err(error) if self.signatures.mode == SignatureMode::Require => Err(error),
            Err(error) => {
                let (code, class) = (error.code(), error.class());
                tracing::warn!(plugin = name, code, class, %error, "a plugin without a valid signature is loaded");
                Ok(SignatureStatus::Invalid { text: error.to_string() })
            }
        }
    }

    /// Reads the secrets in a configuration, and the stored values of the plugin.
    async fn open_services(
        &self,
        name: &Arc<str>,
        manifest: &Manifest,
        grants: &Grants,
        file: &str,
    ) -> Result<(Resolved, Arc<KvSpace>), LoadError> {
        let (services, name, storage) = (self.services.clone(), Arc::clone(name), manifest.kv);
        let (config, grants, file) = (manifest.config.clone(), grants.clone(), file.to_owned());
        let open = move || {
            let resolved = services.secrets.resolve(&config, &grants)?;
            let kv = services.open_kv(&name, storage).map_err(|setting| {
                let fault = format!("`plugin.kv`: `redis` needs the setting `{setting}`, the address of the database");
                LoadError::ManifestInvalid { file, faults: vec![fault] }
            })?;
            Ok((resolved, kv))
        };
        let opened = supervisor::blocking("plugin services", open).await;
        opened.unwrap_or_else(|error| Err(LoadError::InitFailed { what: "init", error: error.to_string() }))
    }
}

/// Rejects files that are not components before compilation.
pub(crate) fn check_bytes(bytes: &[u8], limit: u64) -> Result<(), LoadError> {
    let no = |what: &str| Err(LoadError::NotAComponent { what: what.to_owned() });
    if bytes.len() as u64 > limit {
        return Err(LoadError::TooLarge { size: bytes.len() as u64, limit });
    }
    if bytes.is_empty() {
        return no("the file is empty");
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() || bytes.starts_with(b"\x7fELF") {
        return no("the file is native code; drop in the .wasm component that it was compiled from");
    }
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else { return no("the file is truncated") };
    if magic != b"\0asm" {
        return no("the file is not WebAssembly");
    }
    match rest.first_chunk::<4>() {
        Some(&COMPONENT) => Ok(()),
        Some(&CORE_MODULE) => no(
            "the file is a core module; make a component of it with `wasm-tools component new`, or build for wasm32-wasip2",
        ),
        Some(_) => no("the file is WebAssembly of an unknown version"),
        None => no("the file is truncated"),
    }
}

fn bindings(manifest: &Manifest, automatic: bool, exported: &[Hook], file: &str) -> Result<Vec<Bind>, LoadError> {
    if automatic {
        return Ok(exported.iter().copied().map(Bind::automatic).collect());
    }
    for (index, bind) in manifest.binds.iter().enumerate() {
        if !exported.contains(&bind.hook) {
            let has = exported.iter().map(|hook| format!("`{hook}`")).collect::<Vec<_>>().join(", ");
            let fault = format!("`bind[{index}].hook`: the component does not answer `{}`, only {has}", bind.hook);
            return Err(LoadError::ManifestInvalid { file: file.to_owned(), faults: vec![fault] });
        }
    }
    Ok(manifest.binds.clone())
}

pub(crate) fn check_name(name: &str, expected: Option<&str>, file: &str) -> Result<Arc<str>, LoadError> {
    let fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !fine || name.is_empty() || name.len() > 64 {
        return Err(LoadError::BadName { name: clean(name) });
    }
    match expected {
        Some(expected) if expected != name => Err(LoadError::NameMismatch {
            file: file.to_owned(),
            expected: expected.to_owned(),
            actual: name.to_owned(),
        }),
        _ => Ok(name.into()),
    }
}

/// Creates instances for each hook, so that wrong types and a failing `init` are detected now; returns the shortest
/// time and the largest linear memory.
async fn first_instances(
    guest: &Arc<Guest>,
    exported: &[Hook],
    binds: &[Bind],
    memory_mb: u32,
) -> Result<(Duration, usize), LoadError> {
    let (mut best, mut memory) = (Duration::MAX, 0);
    for hook in exported {
        let bound = binds.iter().filter(|bind| bind.hook == *hook).map(|bind| bind.memory_mb).min();
        for _ in 0..3 {
            let began = Instant::now();
            let instance = guest.instantiate(*hook, bound.unwrap_or(memory_mb), INIT_DEADLINE, true).await;
            memory = memory.max(instance.map_err(LoadError::of_init)?.memory_at_birth);
            best = best.min(began.elapsed());
        }
    }
    Ok((best, memory))
}

/// Returns a digest that is equal for equal bytes, grants, configuration with its secrets, and position.
fn identity(sha256: &[u8; 32], name: &str, manifest: &Manifest, (secrets, bind): (&[u8; 32], &Bind)) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(sha256);
    digest.update(secrets);
    let place = serde_json::json!({
        "name": name,
        "grants": manifest.grants,
        "config": manifest.config,
        "bind": bind,
    });
    digest.update(place.to_string());
    digest.finalize().into()
}

impl LoadError {
    fn of_init(error: CallError) -> Self {
        match error {
            CallError::OutputInvalid(text) => Self::WrongTypes { text },
            CallError::Guest { kind: "invalid-input", text } => Self::ConfigInvalid { text },
            CallError::Deadline => Self::InitTimeout { seconds: INIT_DEADLINE.as_secs() },
            error => Self::InitFailed { what: "init", error: error.to_string() },
        }
    }
}
