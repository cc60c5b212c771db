//! Resource usage of another process, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process, by ID.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// CPU time, user and system, used up to a moment.
#[derive(Debug, Clone)]
pub(crate) struct CpuMark {
    /// Nanoseconds by thread; precise, but without threads that have ended.
    threads: HashMap<String, u64>,
    /// Total of the process, including threads that have ended; in steps of 10 ms.
    total: Duration,
}

impl Process {
    /// Returns the CPU time used since `mark`.
    pub(crate) fn cpu_since(self, mark: &CpuMark) -> Result<Duration> {
        let now = self.cpu()?;
        let fine: u64 =
            now.threads.iter().map(|(id, ns)| ns.saturating_sub(mark.threads.get(id).copied().unwrap_or(0))).sum();
        let fine = Duration::from_nanos(fine);
        let has_lost_a_thread = mark.threads.keys().any(|id| !now.threads.contains_key(id));
        Ok(if has_lost_a_thread { fine.max(now.total.saturating_sub(mark.total)) } else { fine })
    }

    /// Returns the CPU time used so far.
    pub(crate) fn cpu(self) -> Result<CpuMark> {
        let mut threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.0)).with_context(|| self.gone())?.flatten() {
            // A thread may end between the listing and this.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let ran = text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
            threads.insert(entry.file_name().to_string_lossy().into_owned(), ran);
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).with_context(|| self.gone())?;
        // The second field is the program's name in parentheses and may contain anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(CpuMark { threads, total: Duration::from_micros(ticks * 1_000_000 / per_second) })
    }

    /// Returns resident bytes. Sums all mappings, because the quick counters lag behind by a few hundred pages.
    pub(crate) fn resident(self) -> Result<u64> {
        self.kib("smaps_rollup", "Rss:")
    }

    /// Returns the peak of resident bytes since the last [`Self::reset_peak`].
    pub(crate) fn peak(self) -> Result<u64> {
        self.kib("status", "VmHWM:")
    }

    /// Returns the bytes that the process has written to disk so far.
    pub(crate) fn written(self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.0)).with_context(|| self.gone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:")).context("no `write_bytes` in io")?;
        Ok(line.trim().parse()?)
    }

    /// Resets the peak to the current value.
    pub(crate) fn reset_peak(self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5")
            .context("the peak memory of a process cannot be reset here")
    }

    fn kib(self, file: &str, name: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0)).with_context(|| self.gone())?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no `{name}` in {file}"))?;
        let kib: u64 =
            line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("`{name}` in {file}"))?;
        Ok(kib * 1024)
    }

    fn gone(self) -> String {
        format!(
            "process {} is gone; its last words are in the error below, or run with `--keep` and read its log",
            self.0
        )
    }
}
