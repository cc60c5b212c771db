//! The trust check: whether code may be loaded from a location, depending on who can write to it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, fstatvfs};

use crate::vocabulary::LoadError;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Which folders plugins are loaded from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Folders and files on a read-only mount, and those that belong to root or to the user of the process and that
    /// no other user can write to. Members of the groups of the process count as its user: volumes that Kubernetes
    /// prepares with `fsGroup` belong to such a group.
    #[default]
    Owner,
    /// All folders and files.
    Any,
}

/// The user and groups of the process.
struct Identity {
    user: u32,
    groups: Vec<u32>,
}

impl Trust {
    /// Rejects an open file or folder that other users may have written to.
    pub(crate) fn check(self, path: &Path, file: &File, metadata: &Metadata) -> Result<(), LoadError> {
        let is_read_only = || fstatvfs(file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
        self.judge(path, metadata, is_read_only)
    }

    fn judge(self, path: &Path, metadata: &Metadata, is_read_only: impl FnOnce() -> bool) -> Result<(), LoadError> {
        let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
        let Some(problem) = Identity::of_process().find_writer(owner, group, mode) else { return Ok(()) };
        if self == Self::Any || is_read_only() {
            return Ok(());
        }
        let (path, mode) = (path.display(), mode & 0o7777);
        Err(LoadError::UnsafeFolder {
            text: format!(
                "{problem} `{path}` (mode {mode:04o}, user {owner}, group {group}), so its content is not loaded; run \
                 `chmod go-w {path}` and `chown {user} {path}`, mount it read-only, or set `plugins.trust = \"any\"` if \
                 every user who can write there may run code in the gateway",
                user = rustix::process::geteuid().as_raw(),
            ),
        })
    }
}

impl Identity {
    fn of_process() -> Self {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        // Without the list, only the primary group counts, which is the stricter choice.
        groups.extend(rustix::process::getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw));
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }

    /// Returns a description of another user who can write to a file with this owner, group and mode.
    fn find_writer(&self, owner: u32, group: u32, mode: u32) -> Option<&'static str> {
        if mode & OTHERS_WRITE != 0 {
            return Some("every user can write to");
        }
        if owner != 0 && owner != self.user {
            return Some("another user owns");
        }
        let is_foreign_group = group != 0 && !self.groups.contains(&group);
        (mode & GROUP_WRITES != 0 && is_foreign_group).then_some("another group can write to")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn other_users_are_neither_root_nor_the_process_nor_in_its_groups() {
        let identity = Identity { user: 1000, groups: vec![1000, 2000] };
        for (owner, group, mode, expected) in [
            (1000, 1000, 0o755, None),
            (0, 0, 0o755, None),
            (0, 0, 0o775, None),
            (1000, 1000, 0o775, None),
            // `fsGroup` in Kubernetes.
            (0, 2000, 0o2775, None),
            (0, 3000, 0o2775, Some("another group can write to")),
            (0, 3000, 0o2755, None),
            // `emptyDir` in Kubernetes.
            (0, 0, 0o777, Some("every user can write to")),
            (0, 0, 0o1777, Some("every user can write to")),
            (1000, 1000, 0o757, Some("every user can write to")),
            (1001, 1000, 0o755, Some("another user owns")),
            (65534, 65534, 0o700, Some("another user owns")),
        ] {
            assert_eq!(identity.find_writer(owner, group, mode), expected, "{owner} {group} {mode:o}");
        }
    }

    #[test]
    fn world_writable_files_are_trusted_only_with_trust_any() {
        let dir = tempfile::tempdir().unwrap();
        let check = |trust: Trust| {
            let file = File::open(dir.path()).unwrap();
            trust.check(dir.path(), &file, &file.metadata().unwrap())
        };
        assert_eq!(check(Trust::Owner), Ok(()));
        for mode in [0o777, 0o1777] {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let error = check(Trust::Owner).unwrap_err();
            assert_eq!(error.code(), "L12");
            assert!(error.to_string().contains("plugins.trust"), "{error}");
            assert_eq!(check(Trust::Any), Ok(()));
        }
    }

    #[test]
    fn a_read_only_mount_is_trusted_whatever_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let metadata = std::fs::metadata(dir.path()).unwrap();
        assert!(Trust::Owner.judge(dir.path(), &metadata, || false).is_err());
        assert_eq!(Trust::Owner.judge(dir.path(), &metadata, || true), Ok(()));
    }
}
