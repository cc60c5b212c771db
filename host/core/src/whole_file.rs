//! Files that are there whole or not at all, whenever the process is killed or the machine loses power.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Puts `parts`, one after the other, in the place of what is at `path`. Only the owner may read it. Blocks.
///
/// # Errors
/// When the file system refuses; what was there before is untouched then.
pub fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    replace_through(&System, path, parts)
}

/// The steps of a replacement that touch the disk, so that tests can see their order and let each of them fail.
trait Disk {
    /// Creates the file, for its owner only, and writes `parts`.
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<File>;
    /// Waits until the content of a file or the entries of a folder are on the disk.
    fn flush(&self, file: &File) -> io::Result<()>;
    /// Puts the file at `from` in the place of the one at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// The operating system's disk.
struct System;

fn replace_through(disk: &impl Disk, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    // The content must be on the disk before its name is: after a loss of power an empty file would have the name.
    let written =
        disk.write(&temporary, parts).and_then(|file| disk.flush(&file)).and_then(|()| disk.rename(&temporary, path));
    if let Err(error) = written {
        // The name is ours alone, so nothing of value is lost.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Without this the rename itself may be forgotten when the machine loses power.
    path.parent().map_or(Ok(()), |folder| disk.flush(&File::open(folder)?))
}

/// Makes a folder for such files, for its owner only, and removes what an earlier process left half-written.
///
/// # Errors
/// When the folder cannot be made or read.
pub fn prepare_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path.extension().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with("tmp-"));
        if is_ours {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Disk for System {
    fn write(&self, path: &Path, parts: &[&[u8]]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // Flag data may hold what is not meant for every user of the machine.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_takes_the_place_of_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, &[b"old"]).unwrap();
        replace(&path, &[b"ne", b"w"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Notes what is done, and lets one step fail.
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
    fn content_is_on_the_disk_before_its_name_and_the_name_before_the_end() {
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
    fn the_operating_system_is_really_asked_to_flush() {
        // Nothing can be flushed there, so success would mean that nothing was asked for.
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
                // In two parts, so that there is a moment between them.
                let half = vec![b'a' + round % 2; SIZE / 2];
                replace(&path, &[&half, &half]).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().expect("whole files only");
        });
        // The old file is kept open, so that its number is not given to a new one at once.
        let old = File::open(&path).unwrap();
        replace(&path, &[b"x"]).unwrap();
        assert_ne!(
            fs::metadata(&path).unwrap().ino(),
            old.metadata().unwrap().ino(),
            "written beside, {first} at first"
        );
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        assert!(replace(&path, &[b"new"]).is_err(), "a folder is in the way");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying about");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
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
}
