//! A generated secret that is stored in a file, so that tokens outlive a restart.

use std::io::{Error, ErrorKind};
use std::path::Path;

use rand::Rng;
use yardarm_core::{Secret, atomic_file};

/// Reads the secret at `path`, or generates and stores one. The folder must exist. Only the owner may read the file.
///
/// # Errors
/// When the file cannot be read or written, or contains no secret.
pub(crate) fn read_or_generate(path: &Path) -> std::io::Result<Secret> {
    if let Some(bytes) = atomic_file::read(path, 1024)? {
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let is_secret = text.len() >= 32;
        return if is_secret {
            Ok(text.into())
        } else {
            Err(Error::new(ErrorKind::InvalidData, "there is no secret in it"))
        };
    }
    let secret = generate();
    atomic_file::replace(path, &[secret.expose().as_bytes()])?;
    Ok(secret)
}

/// Reads the secret that an earlier version stored at `path`. A file that cannot be read is logged and ignored.
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

/// Generates a secret of 32 random bytes.
pub(crate) fn generate() -> Secret {
    let bytes: [u8; 32] = rand::rng().random();
    Secret::new(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_generated_once_and_only_its_owner_may_read_it() {
        // F047
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-secret");
        let made = read_or_generate(&path).unwrap();
        assert_eq!(made.expose().len(), 64);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_generate(&path).unwrap(), made);
        assert_eq!(read(&path), Some(made));
        assert_eq!(read(&folder.path().join("none")), None);
        std::fs::write(&path, "short").unwrap();
        assert_eq!(read(&path), None);
        assert!(read_or_generate(&path).is_err(), "a damaged secret must not be replaced silently");
    }
}
