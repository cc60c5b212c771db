//! Message framing: requests whose body length is ambiguous are rejected, so that no part of a body is ever parsed as a
//! request (RFC 9112, 6.3).

use http::HeaderMap;
use http::header::TRANSFER_ENCODING;

/// Longest header name that is compared, including its colon.
const NAME: usize = b"transfer-encoding:".len();

/// Looks for a request head with both `Content-Length` and `Transfer-Encoding`.
///
/// The HTTP library serves such a request, closes the connection after it, and hides the length. This scan sees the
/// bytes before the library does. It does not see heads that arrive together with the preceding body; for those, the
/// behaviour of the library is safe.
#[derive(Default)]
pub(super) struct FramingScan {
    /// Beginning of the current line, up to the length of a name.
    line: Vec<u8>,
    has_length: bool,
    has_coding: bool,
    /// Set once a line has been read; empty lines before a head are skipped.
    has_begun: bool,
    has_ended: bool,
}

impl FramingScan {
    /// Scans the next bytes of a head; bytes after its end are ignored.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.has_ended && !rest.is_empty() {
            let end = rest.iter().position(|it| *it == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            let missing = NAME - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(missing)]);
            let Some(end) = end else { return };
            rest = &rest[end + 1..];
            self.end_line();
        }
    }

    /// Returns whether the head has both headers.
    pub(super) fn has_two_lengths(&self) -> bool {
        self.has_length && self.has_coding
    }

    fn end_line(&mut self) {
        if self.line.is_empty() || self.line == b"\r" {
            self.has_ended = self.has_begun;
        } else {
            self.has_begun = true;
            self.has_length |= is_named(&self.line, b"content-length:");
            self.has_coding |= is_named(&self.line, b"transfer-encoding:");
        }
        self.line.clear();
    }
}

fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Returns whether a request has a transfer coding other than exactly one `chunked`.
pub(super) fn has_odd_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(only), None) => !only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_length_beside_a_coding_is_found_in_segments_of_any_size() {
        for (head, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:1\r\n\r\n", true),
            ("POST / HTTP/1.1\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nX: Transfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nX-Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n\nContent-Length: 1\n\r\n", false),
        ] {
            for size in [1, 2, 7, 19, head.len()] {
                let mut scan = FramingScan::default();
                head.as_bytes().chunks(size).for_each(|part| scan.read(part));
                assert_eq!(scan.has_two_lengths(), expected, "{head:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn only_one_chunked_is_accepted() {
        for (values, expected) in [
            (&[][..], false),
            (&["chunked"], false),
            (&["Chunked"], false),
            (&["chunked", "chunked"], true),
            (&["chunked, chunked"], true),
            (&["gzip, chunked"], true),
            (&["identity"], true),
            (&["identity", "chunked"], true),
            (&[""], true),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(has_odd_coding(&headers), expected, "{values:?}");
        }
    }
}
