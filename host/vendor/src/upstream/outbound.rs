//! How the services of a vendor are reached: through a proxy, with further certificates, with which pool of connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use yardarm_core::Secret;
use yardarm_core::settings::Reader;

use super::{UpstreamTls, UpstreamTlsError};

/// Settings of the connections to the services of one vendor.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Proxy for all requests; `None` for those of the environment variables. It may contain a password.
    pub proxy: Option<Secret>,
    /// Files with certificates of authorities that are trusted beside those of the system, in PEM.
    pub ca_files: Vec<PathBuf>,
    /// Files with the certificate chain and the private key that are presented to services, in PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Time after which an unused connection is closed.
    pub idle_timeout: Duration,
    /// Unused connections that are retained per host; 0 for none.
    pub max_idle_per_host: usize,
}

/// A file or an address of [`Outbound`] cannot be used. The texts about authorities are those of ld-relay (U155).
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// A file of authorities cannot be read.
    #[error("can't read CA certificate file: {}: {source}", .path.display())]
    UnreadableAuthority {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file of authorities contains no certificate, or an invalid one.
    #[error("invalid CA certificate data: {}", .0.display())]
    InvalidAuthority(PathBuf),
    /// The own certificate or its key cannot be read.
    #[error("client certificate cannot be used: {}: {problem}", .path.display())]
    ClientCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The TLS library refuses the certificates.
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            proxy: None,
            ca_files: Vec::new(),
            client_certificate: None,
            idle_timeout: Duration::from_secs(90),
            max_idle_per_host: 100,
        }
    }
}

impl Outbound {
    /// Returns the TLS settings of `system` with the certificates of this vendor. Reads files.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn tls(&self, system: &UpstreamTls) -> Result<UpstreamTls, OutboundError> {
        if self.ca_files.is_empty() && self.client_certificate.is_none() {
            return Ok(system.clone());
        }
        let mut authorities = Vec::new();
        for path in &self.ca_files {
            authorities.extend(self::authorities(path)?);
        }
        let own = match &self.client_certificate {
            Some((chain, key)) => Some(client_certificate(chain, key)?),
            None => None,
        };
        Ok(system.with(authorities, own)?)
    }

    /// Returns the address of the proxy with `xxxxx` in place of a password, for the log.
    #[must_use]
    pub fn shown_proxy(&self) -> Option<String> {
        let mut url = url::Url::parse(self.proxy.as_ref()?.expose()).ok()?;
        if url.password().is_some() {
            url.set_password(Some("xxxxx")).ok()?;
        }
        Some(url.to_string())
    }
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, OutboundError> {
    let bytes =
        std::fs::read(path).map_err(|source| OutboundError::UnreadableAuthority { path: path.to_owned(), source })?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    all.ok().filter(|it| !it.is_empty()).ok_or_else(|| OutboundError::InvalidAuthority(path.to_owned()))
}

type OwnCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(chain: &Path, key: &Path) -> Result<OwnCertificate, OutboundError> {
    let unusable = |path: &Path, problem: String| OutboundError::ClientCertificate { path: path.to_owned(), problem };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable(chain, "contains no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    Ok((certificates, key))
}

/// Checks values that belong together; `section` is the section of the settings.
pub fn checked(outbound: Outbound, section: &str, halves: (bool, bool), reader: &mut Reader<'_>) -> Outbound {
    let is_url = |it: &Secret| {
        url::Url::parse(it.expose()).is_ok_and(|it| matches!(it.scheme(), "http" | "https") && it.has_host())
    };
    if outbound.proxy.as_ref().is_some_and(|it| !is_url(it)) {
        reader.reject(&format!("{section}.proxy"), "must be an address such as `http://user:password@proxy:3128`");
    }
    match halves {
        (true, false) => reader.reject(&format!("{section}.client_key"), "is required with `client_cert`"),
        (false, true) => reader.reject(&format!("{section}.client_cert"), "is required with `client_key`"),
        _ => (),
    }
    outbound
}

/// Declares `OutboundSettings`, the settings of [`Outbound`] in a section of a vendor.
#[macro_export]
macro_rules! outbound_settings {
    ($section:literal) => {
        yardarm_core::settings! {
            pub(crate) struct OutboundSettings in $section {
                /// HTTP proxy for all requests to the vendor, such as `http://user:password@proxy:3128`. Unless set, the
                /// environment variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` apply.
                proxy: Option<yardarm_core::Secret>,
                /// Files with certificates of authorities (PEM) that are trusted beside those of the system.
                ca_files: Vec<String>,
                /// File with a certificate chain (PEM) that is presented to the vendor's services.
                client_cert: Option<std::path::PathBuf>,
                /// File with the private key of `client_cert` (PEM).
                client_key: Option<std::path::PathBuf>,
                /// Time after which an unused connection to the vendor is closed.
                idle_timeout: std::time::Duration = "90s",
                    in std::time::Duration::from_millis(100)..=std::time::Duration::from_secs(24 * 3600),
                /// Unused connections that are retained per host; `0` is none.
                max_idle_per_host: usize = "100", in 0..=10_000,
            }
        }

        impl OutboundSettings {
            /// Reads the settings of outgoing connections.
            pub(crate) fn read(reader: &mut yardarm_core::settings::Reader<'_>) -> $crate::upstream::Outbound {
                let keys = Self::read_keys(reader);
                let halves = (keys.client_cert.is_some(), keys.client_key.is_some());
                let outbound = $crate::upstream::Outbound {
                    proxy: keys.proxy,
                    ca_files: keys.ca_files.into_iter().map(Into::into).collect(),
                    client_certificate: keys.client_cert.zip(keys.client_key),
                    idle_timeout: keys.idle_timeout,
                    max_idle_per_host: keys.max_idle_per_host,
                };
                $crate::upstream::check_outbound(outbound, $section, halves, reader)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u155_unusable_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let outbound = Outbound { ca_files: vec![path.clone()], ..Outbound::default() };
        let system = UpstreamTls::load().unwrap();
        let error = outbound.tls(&system).err().unwrap().to_string();
        assert!(error.starts_with(&format!("can't read CA certificate file: {}: ", path.display())), "{error}");
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            let error = outbound.tls(&system).err().unwrap().to_string();
            assert_eq!(error, format!("invalid CA certificate data: {}", path.display()));
        }
        let own = Outbound { client_certificate: Some((path.clone(), path.clone())), ..Outbound::default() };
        assert!(own.tls(&system).err().unwrap().to_string().starts_with("client certificate cannot be used: "));
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let proxy = Some(Secret::new("http://user:canary@proxy:3128"));
        let outbound = Outbound { proxy, ..Outbound::default() };
        assert_eq!(outbound.shown_proxy().as_deref(), Some("http://user:xxxxx@proxy:3128/"));
        assert!(!format!("{outbound:?}").contains("canary"));
    }
}
