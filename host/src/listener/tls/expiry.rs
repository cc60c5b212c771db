//! The end of a certificate's validity, read from its DER: no library in the tree shows it.

use std::time::SystemTime;

/// Tags of ASN.1.
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns when the certificate expires, in Unix seconds; `None` if it is not a certificate, or has expired before 1970.
pub(super) fn expiry(der: &[u8]) -> Option<u64> {
    let certificate = Der(der).read_as(SEQUENCE)?;
    let mut fields = Der(Der(certificate).read_as(SEQUENCE)?);
    // Version, which certificates of version 1 lack; serial number, algorithm, issuer.
    let (tag, _) = fields.read()?;
    let skipped = if tag == EXPLICIT_VERSION { 3 } else { 2 };
    for _ in 0..skipped {
        fields.read()?;
    }
    let mut validity = Der(fields.read_as(SEQUENCE)?);
    validity.read()?;
    let (tag, text) = validity.read()?;
    seconds(tag, std::str::from_utf8(text).ok()?)
}

/// Values one after the other, each with a tag and a length.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Returns tag and content of the next value; `None` at the end and where the encoding is not valid.
    fn read(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match usize::from(first) {
            short @ 0..0x80 => (short, rest),
            // The number of bytes of the length; contents here have at most two gigabytes.
            long => {
                let (bytes, rest) = rest.split_at_checked(long - 0x80).filter(|it| (1..=4).contains(&it.0.len()))?;
                (bytes.iter().fold(0, |length, it| (length << 8) | usize::from(*it)), rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn read_as(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.read().filter(|it| it.0 == tag).map(|it| it.1)
    }
}

/// Returns the seconds of a time in the forms of RFC 5280: `YYMMDDHHMMSSZ` from 1950 to 2049, `YYYYMMDDHHMMSSZ` beyond.
fn seconds(tag: u8, text: &str) -> Option<u64> {
    let text = match (tag, text.len()) {
        (UTC_TIME, 13) => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let part = |range| text.get(range);
    let date = [part(0..4)?, part(4..6)?, part(6..8)?].join("-");
    let time = [part(8..10)?, part(10..12)?, part(12..14)?].join(":");
    let time = humantime::parse_rfc3339(&format!("{date}T{time}{}", part(14..15)?)).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_end_of_the_validity_is_read() {
        let pem = include_bytes!("../../../../tests/certificates/first.cert.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        // 2126-11-06T18:28:29Z
        assert_eq!(expiry(&certificate), Some(4_949_663_309));
        for length in 0..certificate.len().min(300) {
            // No part of a certificate makes it panic.
            let _ = expiry(&certificate[..length]);
        }
        assert_eq!(expiry(b"\x30\x84\xff\xff\xff\xff"), None);
    }

    #[test]
    fn both_forms_of_times_are_read() {
        assert_eq!(seconds(UTC_TIME, "261203105601Z"), Some(1_796_295_361));
        assert_eq!(seconds(UTC_TIME, "500101000000Z"), None, "1950");
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(seconds(GENERALIZED_TIME, "2050010100000"), None);
        assert_eq!(seconds(UTC_TIME, "20500101000000Z"), None);
    }
}
