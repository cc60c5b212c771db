//! Opens files that operators name in settings, without ever waiting for another program.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file for reading. A pipe is rejected, because opening it blocks until another program writes to it, which
/// may never happen.
///
/// # Errors
/// When the file cannot be opened, or is a pipe.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    // `O_NONBLOCK` affects only pipes and devices, and no device with readable content waits.
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is a pipe and not a file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, "content").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut text = String::new();
        open(&file).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is a pipe and not a file");
        assert_eq!(open(folder.path().join("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
        let mut one = [1];
        open("/dev/zero").unwrap().read_exact(&mut one).unwrap();
        assert_eq!(one, [0]);
    }
}
