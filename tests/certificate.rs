//! Certificates for `localhost` that tests use, with their keys. They are valid until 2126 and protect nothing.

use std::path::Path;

use reqwest::Certificate;

/// A self-signed certificate and its key, in PEM.
pub(crate) struct TestCertificate {
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

pub(crate) const FIRST: TestCertificate = TestCertificate {
    certificate: include_str!("certificates/first.cert.pem"),
    key: include_str!("certificates/first.key.pem"),
};

/// Another certificate for the same name.
pub(crate) const SECOND: TestCertificate = TestCertificate {
    certificate: include_str!("certificates/second.cert.pem"),
    key: include_str!("certificates/second.key.pem"),
};

impl TestCertificate {
    /// Writes `cert.pem` and `key.pem`; returns the root certificate that a client needs.
    pub(crate) fn write(&self, dir: &Path) -> Certificate {
        std::fs::write(dir.join("cert.pem"), self.certificate).expect("a file");
        std::fs::write(dir.join("key.pem"), self.key).expect("a file");
        Certificate::from_pem(self.certificate.as_bytes()).expect("a certificate")
    }
}
