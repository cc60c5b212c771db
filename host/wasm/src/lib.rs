//! Plugins: WebAssembly components in a watched folder that implement the hooks of [`yardarm_core::hooks`].
//!
//! This is the only part of the host that depends on WebAssembly. Reading order: [`PluginFolder`] detects files
//! (`folder`), reads their binding files (`manifest`), and stages them (`stage`, with `capability`, `engine`, `cache`
//! and `interface`) into `Plugin`s. A `plan` puts them in order; `hooks` implements the host's hooks by calling the
//! plugins of a chain; each `call` runs in an instance (`guest`, `pool`) behind a `breaker`. `status` and `counters`
//! report what happened.

mod vocabulary;

mod services;

mod runtime;

mod pool;

mod breaker;

mod call;

mod background;

mod notices;

mod chain;

mod plugin;

mod plan;

mod cases;

mod staging;

mod status;

mod folder;

mod check;

mod tooling;

pub use self::breaker::BreakerState;
pub use self::cases::{
    AdmissionReply, Capture, Case, CaseEvent, CaseFigures, CaseIdentity, CaseItem, CaseItems, CaseLimits, CaseOutcome,
    CaseRequest, CaseResponse, CaseResult, CaseSent, CaseServices, CasesError, DenialName, DenialReply, Difference,
    EditReply, EditedContent, FailureReply, HeaderValues, Reply, parse_cases,
};
pub use self::chain::{ShadowReport, ShadowSample};
pub use self::check::{CheckError, CheckReport, OperatorFiles, check_file, check_folder};
pub use self::folder::{
    Impossible, OpenError, OrderError, OrderReport, PluginAction, PluginFolder, Settings, Trust, UnknownPlugin,
};
pub use self::pool::PoolStatus;
pub use self::runtime::cpu_share::CpuLimits;
pub use self::runtime::engine::EngineFacts;
pub use self::services::ServiceSettings;
pub use self::services::kv::{KvDatabaseStatus, RedisSettings};
pub use self::staging::cache::CacheLimits;
pub use self::staging::compilation::{COMPILER_COMMAND, CompileLimits, Compiler, run_compiler};
pub use self::staging::manifest::{binding_schema, bindings_document};
pub use self::staging::signature::{PublicKey, SignatureMode, SignaturePolicy, TrustedKey};
pub use self::status::{
    ActiveStatus, BindingStatus, FolderStatus, GenerationMetrics, OrderedPlugin, PluginMetrics, PluginStatus,
    ProbationStatus, QuarantinedStatus, Refusal, RolloutStatus, RowState, SetRow, SetState,
};
pub use self::tooling::{
    BenchReport, CaseCost, CostLimits, InspectReport, InterfaceUse, KeyError, ModuleSize, ProducedBy, ReplayReport,
    ReplayedCall, SignatureReport, SigningKey, Sizes, TestError, TestReport, Times, WantedGrantReport, bench_file,
    inspect_file, pack, replay_file, sign_file, test_file, verify_file,
};
pub use self::vocabulary::{
    AdmissionRules, AllAbstain, Bind, CALL_SECONDS, CompileStop, DelegatedEnvironments, FieldClass, GuestSeries,
    GuestValue, Hook, HookMetrics, InstanceMetrics, Isolation, LARGEST_COMPONENT, LastError, LimitsByHook, LoadError,
    Pattern, Phase, Policy, Required, RollbackReason, RolloutMode, SignatureStatus, StagingStep, StatePolicy,
    WantedLimits,
};

#[cfg(test)]
mod tests;

/// Entry points for `host/fuzz`; compiled only there.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Parses a binding file.
    pub fn manifest(text: &str) {
        let _ = crate::staging::manifest::Manifest::parse(text);
    }

    /// Inspects a component file.
    pub fn component(bytes: &[u8]) {
        let _ = crate::staging::inspection::Inspection::of(bytes);
    }
}
