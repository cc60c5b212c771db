//! How much memory is left to this process, in its control group and on the machine.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

const GROUPS: &str = "/sys/fs/cgroup";

/// Returns the number of bytes that can be allocated before something is killed; `None` if the system does not tell.
/// Blocks.
pub(super) fn available() -> Option<u64> {
    let machine = read_to_string("/proc/meminfo").ok().as_deref().and_then(of_machine);
    // All of a container may be killed when its group is out of memory.
    let group = own_group().as_deref().and_then(of_group);
    [machine, group].into_iter().flatten().min()
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemAvailable:")?.trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns the folder of the control group, version 2, in which this process is.
fn own_group() -> Option<PathBuf> {
    let groups = read_to_string("/proc/self/cgroup").ok()?;
    let path = field(&groups, "0::")?;
    Some(Path::new(GROUPS).join(path.trim_start_matches('/')))
}

/// Returns what is left of the limit of a group; `None` without a limit. Memory of files is given back under pressure.
fn of_group(folder: &Path) -> Option<u64> {
    let number = |file: &str| read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let stat = read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let files = field(&stat, "inactive_file ").and_then(|it| it.parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// Returns what follows a name at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_left_what_it_does_not_use() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(of_group(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "300\n");
        assert_eq!(of_group(folder.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(of_group(folder.path()), Some(700));
        write("memory.stat", "anon 1\ninactive_file 200\nactive_file 5\n");
        assert_eq!(of_group(folder.path()), Some(900));
        write("memory.max", "50\n");
        assert_eq!(of_group(folder.path()), Some(0));
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(of_machine("MemTotal: 8 kB\nMemAvailable:    5 kB\n"), Some(5 * 1024));
        assert_eq!(of_machine("MemTotal: 8 kB\n"), None);
        #[cfg(target_os = "linux")]
        assert!(available().is_some());
    }
}
