//! Files that are replaced atomically: a reader sees the old content or the new one, even after a crash or a loss of
//! power.
//!
//! Other users of the machine may be able to write to the folder. Functions here do not follow a symbolic link in place
//! of a file, do not wait for the other end of a pipe, and do not read files of another user.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Write permission of the group and of all other users.
const OTHERS_WRITE: u32 = 0o022;

/// Replaces the file at `path` with the concatenation of `parts`, readable by its owner only. Blocks.
///
/// # Errors
/// When the file system refuses; the old file is then unchanged.
pub fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace_through(&System, path, parts)
}

/// The steps of a replacement that touch the disk, so that tests can record their order and let each of them fail.
trait Disk {
    /// Creates the file, accessible to its owner only, and writes `parts`.
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<File>;
    /// Waits until the content of a file, or the entries of a folder, are on the disk.
    fn flush(&self, file: &File) -> io::Result<()>;
    /// Renames `from` to `to`, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The operating system's disk.
struct System;

fn replace_through(disk: &impl Disk, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    // A random name, so that another user cannot prepare a file under it.
    let temporary = path.with_extension(format!("tmp-{:016x}", rand::random::<u64>()));
    // The content must be on the disk before its name is: otherwise a loss of power could leave an empty file under the
    // name.
    let written =
        disk.write(&temporary, parts).and_then(|file| disk.flush(&file)).and_then(|()| disk.rename(&temporary, path));
    if let Err(error) = written {
        // Only this process uses the name, so nothing of value is lost.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Without this flush, a loss of power may undo the rename.
    path.parent().map_or(Ok(()), |folder| disk.flush(&File::open(folder)?))
}

/// Reads a whole file of at most `max` bytes; returns `None` if there is none. Blocks, but only for the disk.
///
/// # Errors
/// When it is not a regular file, is larger, belongs to another user than its folder, or cannot be read.
pub fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    if about.len() > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("is larger than {max} bytes")));
    }
    check_owner(&about, path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Checks that no other user can have written the file at `path`: it belongs to this user, to root or to the owner of its
/// folder, and not everyone may write to it.
///
/// # Errors
/// When another user can have written it, or the folder cannot be read.
pub(crate) fn check_owner(about: &Metadata, path: &Path) -> io::Result<()> {
    let folder = path.parent().map(fs::metadata).transpose()?;
    let is_trusted = |uid| uid == own_user() || uid == 0 || folder.as_ref().is_some_and(|it| it.uid() == uid);
    if !is_trusted(about.uid()) || about.mode() & 0o002 != 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "can be written by other users, so it is not trusted"));
    }
    Ok(())
}

/// Checks that a folder belongs to this user or to root. In any other folder, [`read`] trusts files that the owner of the
/// folder has written, which is enough for data but not for code.
///
/// # Errors
/// When it belongs to another user, or cannot be read.
pub fn check_folder_owner(folder: &Path) -> io::Result<()> {
    let uid = fs::metadata(folder)?.uid();
    if uid != own_user() && uid != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!("`{}` belongs to another user", folder.display()),
        ));
    }
    Ok(())
}

/// Opens a regular file without following a symbolic link and without waiting for the other end of a pipe.
///
/// # Errors
/// When it is not a regular file, or the file system refuses.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0)).open(path);
    let irregular = || io::Error::new(ErrorKind::InvalidInput, "is not a regular file");
    let is_link = || fs::symlink_metadata(path).is_ok_and(|it| !it.is_file());
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(irregular()),
        Err(error) if error.kind() != ErrorKind::NotFound && is_link() => Err(irregular()),
        Err(error) => Err(error),
    }
}

/// Creates a folder for such files, accessible to its owner only, and removes temporary files that an earlier process
/// left behind.
///
/// # Errors
/// When the folder cannot be created or read, is a symbolic link, or is writable by other users and its permissions
/// cannot be changed.
pub fn prepare_folder(folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err(io::Error::new(ErrorKind::NotADirectory, "is a symbolic link or no folder"));
    }
    if !mend_permissions(folder)? {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "other users can write to it, and it belongs to one"));
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path.extension().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with("tmp-"));
        if is_ours {
            // A leftover that cannot be removed is harmless.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

impl Disk for System {
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<File> {
        // Flag data may be confidential, so the file is accessible to its owner only. `create_new` never follows a
        // link.
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = match create() {
            // The folder was emptied while the process runs. A folder that is gone altogether is not created again.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), |it| DirBuilder::new().mode(0o700).create(it))?;
                create()?
            }
            created => created?,
        };
        for part in parts {
            file.write_all(part)?;
        }
        Ok(file)
    }

    fn flush(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// Creates a folder and its missing parents, accessible to their owner only.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes the write permission of all users but the owner; returns whether other users cannot write now. A folder that
/// belongs to another user, or that has the sticky bit set, is left unchanged.
pub(crate) fn mend_permissions(folder: &Path) -> io::Result<bool> {
    let about = fs::metadata(folder)?;
    let mode = about.mode() & 0o7777;
    if mode & OTHERS_WRITE == 0 {
        return Ok(true);
    }
    if about.uid() != own_user() || mode & 0o1000 != 0 {
        return Ok(false);
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode & !OTHERS_WRITE))?;
    tracing::warn!(folder = %folder.display(), mode = format!("{mode:o}"), "a folder of the gateway was writable by other users; it is now writable by its owner only");
    Ok(true)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_folder_is_created_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("folder/file");
        replace(&path, &[b"one"]).unwrap();
        fs::remove_dir_all(parent.path().join("folder")).unwrap();
        replace(&path, &[b"two"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let mode = fs::metadata(parent.path().join("folder")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::remove_dir_all(parent.path()).unwrap();
        assert_eq!(replace(&path, &[b"three"]).unwrap_err().kind(), ErrorKind::NotFound, "the whole data folder");
    }

    #[test]
    fn a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, &[b"old"]).unwrap();
        replace(&path, &[b"ne", b"w"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Records the steps, and lets one of them fail.
    #[derive(Default)]
    struct Recorder {
        steps: std::cell::RefCell<Vec<String>>,
        fails_at: Option<usize>,
    }

    impl Recorder {
        fn step<T>(&self, step: String, done: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
            let mut steps = self.steps.borrow_mut();
            steps.push(step);
            if self.fails_at == Some(steps.len() - 1) { Err(io::Error::other("injected")) } else { done() }
        }
    }

    impl Disk for Recorder {
        fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<File> {
            let is_target = path.extension().is_none();
            self.step(format!("write {}", if is_target { "in place" } else { "beside" }), || System.write(path, parts))
        }

        fn flush(&self, file: &File) -> io::Result<()> {
            let kind = if file.metadata()?.is_dir() { "folder" } else { "file" };
            self.step(format!("flush {kind}"), || System.flush(file))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.step("rename".to_owned(), || System.rename(from, to))
        }
    }

    #[test]
    fn content_is_flushed_before_the_rename_and_the_folder_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let recorder = Recorder::default();
        replace_through(&recorder, &path, &[b"new"]).unwrap();
        assert_eq!(*recorder.steps.borrow(), ["write beside", "flush file", "rename", "flush folder"]);
        for fails_at in 0..3 {
            let recorder = Recorder { fails_at: Some(fails_at), ..Recorder::default() };
            assert!(replace_through(&recorder, &path, &[b"newer"]).is_err());
            assert_eq!(recorder.steps.borrow().len(), fails_at + 1, "nothing follows a failure");
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying about");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn replacing_a_file_flushes_it_to_the_disk() {
        // `/dev/null` cannot be flushed, so success would mean that no flush was requested.
        let device = File::open("/dev/null").unwrap();
        assert!(System.flush(&device).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_reader_never_sees_half_a_file() {
        use std::os::unix::fs::MetadataExt;
        use std::sync::atomic::{AtomicBool, Ordering};
        const SIZE: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, &[&vec![b'a'; SIZE]]).unwrap();
        let first = fs::metadata(&path).unwrap().ino();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !is_over.load(Ordering::Relaxed) || reads == 0 {
                    let bytes = fs::read(&path).unwrap();
                    assert_eq!(bytes.len(), SIZE);
                    assert!(bytes.iter().all(|it| *it == bytes[0]), "a mixture of two writes");
                    reads += 1;
                }
            });
            for round in 0..40_u8 {
                // In two parts, so that there is a moment between the writes.
                let half = vec![b'a' + round % 2; SIZE / 2];
                replace(&path, &[&half, &half]).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().expect("whole files only");
        });
        // The old file is kept open, so that its inode number is not reused at once.
        let old = File::open(&path).unwrap();
        replace(&path, &[b"x"]).unwrap();
        assert_ne!(
            fs::metadata(&path).unwrap().ino(),
            old.metadata().unwrap().ino(),
            "written beside, {first} at first"
        );
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        assert!(replace(&path, &[b"new"]).is_err(), "a folder is in the way");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying about");
    }

    #[test]
    fn files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, &[b"x"]).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file.tmp-123"), "half").unwrap();
        prepare_folder(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn anything_but_a_regular_file_is_rejected_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "x").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["link", "folder", "pipe", "socket"] {
            let error = read(&path(name), 10).unwrap_err();
            assert_eq!(error.to_string(), "is not a regular file", "{name}");
        }
        assert_eq!(read(&path("nowhere"), 10).unwrap(), None);
        assert_eq!(read(&path("file"), 1).unwrap(), Some(b"x".to_vec()));
        assert_eq!(read(&path("file"), 0).unwrap_err().kind(), ErrorKind::FileTooLarge);
        fs::set_permissions(path("file"), fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(read(&path("file"), 1).unwrap_err().kind(), ErrorKind::PermissionDenied);
        // The obstacle itself is replaced, not what it points to.
        for name in ["link", "pipe", "socket"] {
            replace(&path(name), &[b"new"]).unwrap();
            assert_eq!(read(&path(name), 10).unwrap(), Some(b"new".to_vec()), "{name}");
        }
        assert_eq!(fs::read(path("file")).unwrap(), b"x");
    }

    #[test]
    fn a_file_of_another_user_is_trusted_in_a_folder_of_that_user_only() {
        if own_user() != 0 {
            // Only root may change the owner of a file.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let gives = |path: &Path| std::os::unix::fs::chown(path, Some(54_321), None).unwrap();
        gives(&file);
        assert_eq!(read(&file, 1).unwrap_err().kind(), ErrorKind::PermissionDenied);
        check_folder_owner(folder.path()).unwrap();
        gives(folder.path());
        assert_eq!(read(&file, 1).unwrap(), Some(b"x".to_vec()));
        assert_eq!(check_folder_owner(folder.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn write_permission_of_other_users_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o777)).unwrap();
        prepare_folder(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o755);
        for (mode, is_mended, then) in
            [(0o755, true, 0o755), (0o775, true, 0o755), (0o1755, true, 0o1755), (0o1777, false, 0o1777)]
        {
            fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(mend_permissions(&inner).unwrap(), is_mended, "{mode:o}");
            assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o7777, then, "{mode:o}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert_eq!(prepare_folder(&link).unwrap_err().kind(), ErrorKind::NotADirectory);
    }
}
