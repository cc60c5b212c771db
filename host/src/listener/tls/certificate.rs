//! Certificate and key: loaded at the start, and again when the content of their files changes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use tokio_rustls::rustls::server::ServerConfig;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, SupportedProtocolVersion};
use utoipa::ToSchema;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use yardarm_core::Lifecycle;
use yardarm_core::supervisor::blocking;

use crate::config::{TlsConfig, TlsVersion};

/// How often the files are compared with the certificate in use.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Largest file that is read, in bytes; chains have some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// Certificate and key, ready for handshakes. Cheap to clone; all clones follow the files.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    config: TlsConfig,
    current: ArcSwap<ServerConfig>,
    state: Mutex<State>,
}

struct State {
    served: Files,
    /// The last content that could not be used, and the reason; `None` while the files are in use.
    rejected: Option<(Result<Files, String>, String)>,
    loaded_ms: u64,
    /// When the certificate in use expires, in Unix seconds, if that can be read.
    expires: Option<u64>,
}

/// Content of both files. Does not implement `Debug`, because one of them is the key.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// State of the certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CertificateReport {
    /// When the certificate in use was loaded, in Unix milliseconds.
    pub loaded_ms: u64,
    /// When the certificate in use expires, in Unix milliseconds; `null` if that cannot be read.
    pub expires_ms: Option<u64>,
    /// Why the current files cannot be used; the certificate loaded before stays in use.
    pub error: Option<String>,
}

/// An error of loading certificate and key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or has unexpected content.
    #[error("`{key}`: `{path}` cannot be used: {problem}")]
    File {
        /// Key of the setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// Certificate and key do not match, or their type is not supported.
    #[error("`server.tls.cert` and `server.tls.key` cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

impl Tls {
    /// Reads certificate chain and key.
    ///
    /// # Errors
    /// When a file cannot be used, or the two do not match.
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let served = Files::read(config)?;
        let current = ArcSwap::from(served.server_config(config)?);
        let state = State::new(served);
        Ok(Self(Arc::new(Shared { config: config.clone(), current, state: Mutex::new(state) })))
    }

    /// Returns the TLS configuration for new handshakes.
    pub(in crate::listener) fn current(&self) -> Arc<ServerConfig> {
        self.0.current.load_full()
    }

    /// Reads the files again and uses their content from the next handshake on; returns whether it has changed.
    /// Blocks on file I/O, so it must not run on a serving thread.
    ///
    /// # Errors
    /// When the files cannot be used; the certificate loaded before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = Files::read(&self.0.config);
        let mut state = self.lock();
        let result = match &read {
            Ok(files) if *files == state.served => {
                state.rejected = None;
                return Ok(false);
            }
            Ok(files) => files.server_config(&self.0.config),
            Err(TlsError::File { key, path, problem }) => {
                Err(TlsError::File { key, path: path.clone(), problem: problem.clone() })
            }
            Err(TlsError::Pair(error)) => Err(TlsError::Pair(error.clone())),
        };
        match (result, read) {
            (Ok(current), Ok(files)) => {
                self.0.current.store(current);
                *state = State::new(files);
                tracing::info!(cert = %self.0.config.cert.display(), "new certificate is in use");
                Ok(true)
            }
            (Err(error), read) => {
                let text = error.to_string();
                let content = read.map_err(|_| text.clone());
                // Logged once per cause, however often the files are checked.
                if state.rejected.as_ref().is_none_or(|(rejected, _)| *rejected != content) {
                    tracing::error!(error = %text, "new certificate cannot be used, the previous one stays in use");
                }
                state.rejected = Some((content, text));
                Err(error)
            }
            (Ok(_), Err(error)) => Err(error),
        }
    }

    /// Watches the files until the end of `lifecycle`.
    pub fn watch(&self, lifecycle: &Lifecycle) {
        let tls = self.clone();
        lifecycle.supervise("certificate files", move || {
            let tls = tls.clone();
            async move {
                loop {
                    tokio::time::sleep(CHECK_INTERVAL).await;
                    let tls = tls.clone();
                    // Failures are logged in `reload`, and the next check follows.
                    let _ = blocking("certificate files", move || tls.follow()).await;
                }
            }
        });
    }

    /// Returns the state of the certificate in use.
    #[must_use]
    pub fn report(&self) -> CertificateReport {
        let state = self.lock();
        let error = state.rejected.as_ref().map(|(_, error)| error.clone());
        CertificateReport { loaded_ms: state.loaded_ms, expires_ms: state.expires.map(|it| it * 1000), error }
    }

    /// Checks the files once. Certificate and key are two files that are not written at the same moment, so only
    /// content that has been stable for a moment is loaded.
    fn follow(&self) {
        /// Time for a writer to finish both files.
        const REST: Duration = Duration::from_millis(500);
        let Ok(before) = Files::read(&self.0.config) else {
            std::thread::sleep(REST);
            let _ = self.reload();
            return;
        };
        if before == self.lock().served {
            self.lock().rejected = None;
            return;
        }
        std::thread::sleep(REST);
        if Files::read(&self.0.config).is_ok_and(|after| after == before) {
            let _ = self.reload();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    /// The state of files that have just been loaded.
    fn new(served: Files) -> Self {
        let leaf = CertificateDer::pem_slice_iter(&served.cert).next().and_then(Result::ok);
        let expires = leaf.and_then(|it| expiry(&it));
        Self { served, rejected: None, loaded_ms: yardarm_core::time::unix_ms(), expires }
    }
}

/// Returns when a certificate expires, in Unix seconds; `None` if it is not a certificate.
fn expiry(der: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let read = |key, path: &Path| {
            let unusable = |error: std::io::Error| unusable(key, path, error.to_string());
            // Reading anything but a regular file, such as a pipe, might block or never end.
            if !std::fs::metadata(path).map_err(unusable)?.is_file() {
                return Err(self::unusable(key, path, "it is not a regular file".to_owned()));
            }
            let mut content = Vec::new();
            File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut content)).map_err(unusable)?;
            Ok(content)
        };
        Ok(Self { cert: read("server.tls.cert", &config.cert)?, key: read("server.tls.key", &config.key)? })
    }

    fn server_config(&self, config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable("server.tls.cert", &config.cert, error.to_string()))?;
        if chain.is_empty() {
            return Err(unusable("server.tls.cert", &config.cert, "it has no certificate in PEM".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unusable("server.tls.key", &config.key, error.to_string()))?;
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            TlsVersion::Tls12 => &[&TLS12, &TLS13],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}

fn unusable(key: &'static str, path: &Path, problem: String) -> TlsError {
    TlsError::File { key, path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_and_no_part_of_one_panics() {
        let pem = include_bytes!("../../../../tests/certificates/first.cert.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        // 2126-11-06T18:28:29Z
        assert_eq!(expiry(&certificate), Some(4_949_663_309));
        assert!((0..certificate.len()).all(|length| expiry(&certificate[..length]).is_none()));
    }
}
