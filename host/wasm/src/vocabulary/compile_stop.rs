//! Why a compilation was stopped before its end, and what follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;
/// How long a file stays in quarantine if the machine may have been the reason.
const DOUBTFUL: Duration = Duration::from_secs(3600);

/// Why the compilation of a component did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CompileStop {
    /// The compiler needed more memory than it may have.
    #[error("compiling was stopped at its limit of {} MiB of memory", limit / MIB)]
    Memory {
        /// The limit in bytes.
        limit: u64,
    },
    /// The compiler needed more processor time than it may have.
    #[error("compiling was stopped at its limit of {seconds} s of processor time")]
    Processor {
        /// The limit.
        seconds: u64,
    },
    /// Compiling took too long, although it did not need too much processor time: the machine was busy.
    #[error("compiling was stopped after {seconds} s, because the machine was too busy to complete it")]
    Deadline {
        /// The limit.
        seconds: u64,
    },
    /// The operating system ended the compiler.
    #[error("the operating system ended the compiler by SIGKILL, as it does when the machine is out of memory")]
    Killed,
    /// The compiler crashed.
    #[error("the compiler crashed: {how}")]
    Crashed {
        /// Signal or message.
        how: String,
    },
}

impl CompileStop {
    /// Returns the class (see "Error codes" in `plugins/README.md`).
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Memory { .. } => "compile-memory",
            Self::Processor { .. } => "compile-cpu",
            Self::Deadline { .. } => "compile-timeout",
            Self::Killed => "compile-killed",
            Self::Crashed { .. } => "compile-crashed",
        }
    }

    /// Returns the time after which the same file is compiled again; `None` if a repetition would end in the same way.
    pub(crate) fn lapses_after(&self) -> Option<Duration> {
        matches!(self, Self::Deadline { .. } | Self::Killed).then_some(DOUBTFUL)
    }

    /// Returns how long the quarantine lasts, as a part of a message.
    pub(super) fn duration(&self) -> &'static str {
        if self.lapses_after().is_some() { "for an hour" } else { "by this version of the gateway" }
    }

    /// Returns what helps besides another file, as a part of a message.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Memory { .. } => ", or raise `plugins.compile_memory` or the memory of the machine by half or more",
            Self::Processor { .. } => ", or raise `plugins.compile_timeout` by half or more",
            Self::Deadline { .. } => ", or give the machine more processors",
            Self::Killed => ", or give the machine more memory",
            Self::Crashed { .. } => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoadError;

    #[test]
    fn refusals_name_the_figure_the_quarantine_and_what_to_do() {
        for (stop, class, text) in [
            (
                CompileStop::Memory { limit: 600 * MIB },
                "compile-memory",
                "compiling was stopped at its limit of 600 MiB of memory; the file is in quarantine, it is not \
                 compiled again by this version of the gateway. Replace it with a better build, or raise \
                 `plugins.compile_memory` or the memory of the machine by half or more",
            ),
            (
                CompileStop::Deadline { seconds: 300 },
                "compile-timeout",
                "compiling was stopped after 300 s, because the machine was too busy to complete it; the file is in \
                 quarantine, it is not compiled again for an hour. Replace it with a better build, or give the machine \
                 more processors",
            ),
            (
                CompileStop::Crashed { how: "SIGSEGV".to_owned() },
                "compile-crashed",
                "the compiler crashed: SIGSEGV; the file is in quarantine, it is not compiled again by this version of \
                 the gateway. Replace it with a better build",
            ),
        ] {
            let error = LoadError::Quarantined { stop };
            assert_eq!((error.code(), error.class(), &*error.to_string()), ("L03", class, text));
        }
    }
}
