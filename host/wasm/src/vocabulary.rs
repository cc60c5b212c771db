//! What the other modules speak of: hooks, bindings, grants, limits, errors and counters. Nothing here runs a guest.

mod binding;
mod call_error;
mod compile_stop;
pub(crate) mod config_schema;
mod counters;
mod evidence;
mod field_class;
mod grants;
mod guest_metrics;
mod http_grant;
mod last_errors;
mod limits;
mod load_error;
mod log_gate;
mod missing_grants;
mod pattern;
mod progress;
mod required;
mod rollback;
mod rollout;
mod signature_status;
mod text;
mod wanted;
mod wanted_limits;

pub use self::binding::{
    AdmissionRules, AllAbstain, Bind, DelegatedEnvironments, Hook, Isolation, Phase, Policy, StatePolicy,
};
pub(crate) use self::binding::{KvStorage, LARGEST_MEMORY_MB, LONGEST_DEADLINE_MS, only_required};
pub(crate) use self::call_error::{CallError, Outcome};
pub use self::compile_stop::CompileStop;
pub(crate) use self::counters::{AllCounters, HookMeters, PluginCounters};
pub use self::counters::{CALL_SECONDS, HookMetrics, InstanceMetrics};
pub(crate) use self::evidence::{Ending, Evidence, Tally};
pub use self::field_class::FieldClass;
pub(crate) use self::grants::{GRANTS, Grants, HTTP_OUT};
pub(crate) use self::guest_metrics::{GuestMetricError, GuestMetrics, Labels};
pub use self::guest_metrics::{GuestSeries, GuestValue};
pub(crate) use self::http_grant::HttpGrant;
pub(crate) use self::last_errors::CalledVersion;
pub use self::last_errors::LastError;
pub use self::limits::LARGEST_COMPONENT;
pub(crate) use self::limits::largest_file;
pub use self::load_error::LoadError;
pub(crate) use self::log_gate::LogGate;
pub(crate) use self::missing_grants::MissingGrants;
pub use self::pattern::Pattern;
pub(crate) use self::progress::Progress;
pub use self::progress::StagingStep;
pub use self::required::Required;
pub(crate) use self::rollback::RollbackMeter;
pub use self::rollback::RollbackReason;
pub use self::rollout::RolloutMode;
pub(crate) use self::rollout::{LONGEST_PROMOTION_S, RolloutPolicy};
pub use self::signature_status::SignatureStatus;
pub(crate) use self::text::clean;
pub(crate) use self::wanted::{GrantPattern, GrantPlace, NeededGrant, WantedGrant, require};
pub use self::wanted_limits::{LimitsByHook, WantedLimits};
pub(crate) use self::wanted_limits::{SetLimits, apply as apply_wanted_limits, bind_as_wanted};

/// The version of `yardarm:plugin` that the host speaks; guests built for another patch release of it work too.
pub(crate) const INTERFACE_VERSION: &str = "0.1.0";
