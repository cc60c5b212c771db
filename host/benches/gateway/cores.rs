//! On which processor a thread runs, where times depend on it.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors of a gateway and of its client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) gateway: usize,
    /// Another one, if there is more than one.
    pub(crate) client: usize,
}

/// This thread, and what it starts, run on one processor until this is dropped.
pub(crate) struct Pinned(CpuSet);

impl Cores {
    pub(crate) fn choose() -> Result<Self> {
        let available = sched_getaffinity(None).context("the processors of this program")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&cpu| available.is_set(cpu));
        let client = cores.next().context("no processor")?;
        Ok(Self { gateway: cores.next().unwrap_or(client), client })
    }
}

impl Pinned {
    pub(crate) fn to(core: usize) -> Result<Self> {
        let before = sched_getaffinity(None).context("the processors of this thread")?;
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one).with_context(|| format!("processor {core} cannot be chosen"))?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It succeeded before.
        let _ = sched_setaffinity(None, &self.0);
    }
}
