//! The machine: its properties, its load, and the number of sockets a process may have.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

/// Properties that are needed to interpret figures.
pub(crate) struct Machine {
    cores: usize,
    model: String,
    kernel: String,
    descriptors: u64,
    load_before: String,
}

impl Machine {
    /// Reads the properties, and raises the limit on file descriptors as far as allowed.
    pub(crate) fn prepare() -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, it)| it.to_owned()));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            model: model.unwrap_or_else(|| "unknown".to_owned()),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            descriptors: raise_descriptors(65_536),
            load_before: load(),
        }
    }

    /// Returns the number of streams that a process may have open, with some descriptors left for other uses.
    pub(crate) fn streams(&self) -> usize {
        usize::try_from(self.descriptors).unwrap_or(usize::MAX).saturating_sub(500)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "model": self.model,
            "kernel": self.kernel,
            "descriptors": self.descriptors,
            "load_before": self.load_before,
            "load_after": load(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, model, kernel, descriptors, load_before } = self;
        write!(
            f,
            "{cores} cores ({model}), Linux {kernel}, {descriptors} descriptors, load {load_before} before and {} after",
            load()
        )
    }
}

/// Returns the load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Raises the limit on file descriptors, which child processes inherit.
fn raise_descriptors(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Only a privileged process may raise the hard limit; others raise the soft limit up to it.
    let attempts = [(wanted, hard.max(wanted)), (wanted.min(hard), hard)];
    let raised = attempts.into_iter().find(|(current, maximum)| {
        setrlimit(Resource::Nofile, Rlimit { current: Some(*current), maximum: Some(*maximum) }).is_ok()
    });
    raised.map_or(current, |(now, _)| now)
}
