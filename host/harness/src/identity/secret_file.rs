//! A secret that is made up once and kept: tokens must outlive a restart.

use std::io::{Error, ErrorKind};
use std::path::Path;

use rand::Rng;
use yardarm_core::{Secret, atomic_file};

/// Reads the secret at `path`, or makes one; its folder is there. Only the owner may read it.
pub(crate) fn read_or_make(path: &Path) -> std::io::Result<Secret> {
    if let Some(bytes) = atomic_file::read(path, 1024)? {
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let is_one = text.len() >= 32;
        return if is_one {
            Ok(text.into())
        } else {
            Err(Error::new(ErrorKind::InvalidData, "there is no secret in it"))
        };
    }
    let secret = make_up();
    atomic_file::replace(path, &[secret.expose().as_bytes()])?;
    Ok(secret)
}

/// Reads the secret at `path` if an earlier version made one; a damaged one is logged and of no use.
pub(crate) fn read(path: &Path) -> Option<Secret> {
    let bytes = match atomic_file::read(path, 1024) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "tokens of an earlier version are not accepted");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes);
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
