//! TLS of upstream connections.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// TLS settings of upstream connections, with the root certificates of the system. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

/// TLS of upstream connections cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// There are root certificates, and none of them can be used.
    #[error("none of the system's root certificates ({0}) can be used")]
    Roots(usize),
    /// The TLS library refuses its own defaults.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

impl UpstreamTls {
    /// Reads the root certificates of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Blocks for
    /// several milliseconds.
    ///
    /// # Errors
    /// When none of the certificates can be used. Without any certificates, connections with TLS fail later.
    pub fn load() -> Result<Self, UpstreamTlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // The stores of systems contain old certificates that are not valid any more.
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() && unusable > 0 {
            return Err(UpstreamTlsError::Roots(unusable));
        }
        if roots.is_empty() {
            let problem = found.errors.first().map(|it| format!(": {it}")).unwrap_or_default();
            tracing::warn!(
                "the system has no root certificates, so upstream services cannot be reached by TLS{problem}"
            );
        }
        Self::build(roots, None)
    }

    /// Returns these settings with further authorities, and with a certificate that is presented to services.
    ///
    /// # Errors
    /// When a certificate or the key cannot be used.
    pub(super) fn with(
        &self,
        authorities: Vec<CertificateDer<'static>>,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, UpstreamTlsError> {
        let mut roots = (*self.roots).clone();
        for authority in authorities {
            roots.add(authority)?;
        }
        Self::build(roots, own)
    }

    fn build(
        roots: RootCertStore,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, UpstreamTlsError> {
        let roots = Arc::new(roots);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots));
        let mut config = match own {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), roots })
    }

    /// The settings for an HTTP client.
    pub(super) fn config(&self) -> ClientConfig {
        (*self.config).clone()
    }
}
