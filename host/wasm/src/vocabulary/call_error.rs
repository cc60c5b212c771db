//! Why a call of a plugin failed, and what it is counted as.

/// Why a plugin returned no usable reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// C01: the guest stopped abnormally.
    #[error("the guest trapped ({kind}): {text}")]
    Trap {
        /// `unreachable`, `out-of-bounds`, `stack`, `divide`, `indirect`, `exit`, `host` or `other`.
        kind: &'static str,
        text: String,
    },
    /// C02: the guest exceeded its deadline.
    #[error("the guest exceeded its deadline")]
    Deadline,
    /// C03: the guest exceeded its memory limit.
    #[error("the guest {0}")]
    Memory(String),
    /// C04: the reply is larger than allowed.
    #[error("the reply has {size} bytes, {limit} are allowed")]
    OutputTooLarge { size: usize, limit: usize },
    /// C04: the reply is invalid.
    #[error("the reply is invalid: {0}")]
    OutputInvalid(String),
    /// C05: the guest returned an error.
    #[error("the guest reports {kind}: {text}")]
    Guest {
        /// `invalid-input`, `temporary` or `internal`.
        kind: &'static str,
        text: String,
    },
    /// C06: all instances are busy.
    #[error("no instance became available in time")]
    PoolExhausted,
    /// C07: the plugin has used up its share of the processors.
    #[error("the plugin uses more than its share of the processors; see `plugins.cpu_share`")]
    CpuShare,
    /// C08: too many recent calls failed.
    #[error("the breaker is open")]
    BreakerOpen,
    /// C09: a required plugin is missing.
    #[error("the required plugin is missing")]
    MissingRequired,
    /// C10: the input of the guest is larger than a hook's input may be. No evidence about the plugin.
    #[error("the input has {size} bytes, more than a hook's input may have")]
    InputTooLarge { size: usize },
}

/// How a call is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allow,
    Deny,
    Abstain,
    /// The reply has no edits.
    Unchanged,
    /// The reply has edits.
    Changed,
    Trap,
    Deadline,
    MemoryLimit,
    OutputTooLarge,
    OutputInvalid,
    GuestError,
    PoolExhausted,
    CpuShare,
    BreakerOpen,
    MissingRequired,
    InputTooLarge,
}

impl CallError {
    /// Returns the stable code (see "Error codes" in `plugins/README.md`).
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "C01",
            Self::Deadline => "C02",
            Self::Memory(_) => "C03",
            Self::OutputTooLarge { .. } | Self::OutputInvalid(_) => "C04",
            Self::Guest { .. } => "C05",
            Self::PoolExhausted => "C06",
            Self::CpuShare => "C07",
            Self::BreakerOpen => "C08",
            Self::MissingRequired => "C09",
            Self::InputTooLarge { .. } => "C10",
        }
    }

    /// Returns how a call with this result is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Trap { .. } => Outcome::Trap,
            Self::Deadline => Outcome::Deadline,
            Self::Memory(_) => Outcome::MemoryLimit,
            Self::OutputTooLarge { .. } => Outcome::OutputTooLarge,
            Self::OutputInvalid(_) => Outcome::OutputInvalid,
            Self::Guest { .. } => Outcome::GuestError,
            Self::PoolExhausted => Outcome::PoolExhausted,
            Self::CpuShare => Outcome::CpuShare,
            Self::BreakerOpen => Outcome::BreakerOpen,
            Self::MissingRequired => Outcome::MissingRequired,
            Self::InputTooLarge { .. } => Outcome::InputTooLarge,
        }
    }
}

impl Outcome {
    /// Returns how a reply of edits is counted.
    pub(crate) fn of_edits<T>(edits: &[T]) -> Self {
        if edits.is_empty() { Self::Unchanged } else { Self::Changed }
    }

    /// Returns whether the call has brought no usable reply.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(self, Self::Allow | Self::Deny | Self::Abstain | Self::Unchanged | Self::Changed)
    }

    /// All outcomes, in the order of their values.
    pub(crate) const ALL: [Self; 16] = [
        Self::Allow,
        Self::Deny,
        Self::Abstain,
        Self::Unchanged,
        Self::Changed,
        Self::Trap,
        Self::Deadline,
        Self::MemoryLimit,
        Self::OutputTooLarge,
        Self::OutputInvalid,
        Self::GuestError,
        Self::PoolExhausted,
        Self::CpuShare,
        Self::BreakerOpen,
        Self::MissingRequired,
        Self::InputTooLarge,
    ];

    /// Returns the name in metrics and in failures reported to vendors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Abstain => "abstain",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::MemoryLimit => "memory-limit",
            Self::OutputTooLarge => "output-too-large",
            Self::OutputInvalid => "output-invalid",
            Self::GuestError => "guest-error",
            Self::PoolExhausted => "pool-exhausted",
            Self::CpuShare => "cpu-share",
            Self::BreakerOpen => "breaker-open",
            Self::MissingRequired => "missing-required",
            Self::InputTooLarge => "input-too-large",
        }
    }
}
