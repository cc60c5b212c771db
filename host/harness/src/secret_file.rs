//! A secret that is made up once and kept: tokens must outlive a restart.

use std::io::Read;
use std::path::Path;

use rand::Rng;
use yardarm_core::{Secret, whole_file};

/// Reads the secret at `path`, or makes one; its folder is there. Only the owner may read it.
pub(crate) fn read_or_make(path: &Path) -> std::io::Result<Secret> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(1024).read_to_string(&mut text)) {
        Ok(_) if text.trim().len() >= 32 => return Ok(Secret::new(text.trim())),
        Ok(_) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "there is no secret in it")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    let secret = make_up();
    whole_file::replace(path, &[secret.expose().as_bytes()])?;
    Ok(secret)
}

/// Reads the secret at `path` if an earlier version made one; a damaged one is logged and of no use.
pub(crate) fn read(path: &Path) -> Option<Secret> {
    let text = match std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(1024).read_to_string(&mut text).map(|_| text)
    }) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "tokens of an earlier version are not accepted");
            return None;
        }
    };
    Some(text.trim()).filter(|it| it.len() >= 32).map(Secret::new)
}

/// A new secret, which nobody else knows.
pub(crate) fn make_up() -> Secret {
    let bytes: [u8; 32] = rand::rng().random();
    Secret::new(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner_alone() {
        // F047
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-secret");
        let made = read_or_make(&path).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap(), made);
        assert_eq!(read(&path), Some(made));
        assert_eq!(read(&folder.path().join("none")), None);
        std::fs::write(&path, "short").unwrap();
        assert_eq!(read(&path), None);
        assert!(read_or_make(&path).is_err(), "a damaged one must not silently become another");
    }
}
