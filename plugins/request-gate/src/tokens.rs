//! Tokens, compared in constant time.

use std::fmt::{self, Write};
use std::hint::black_box;

use sha2::{Digest, Sha256};
use yardarm_plugin::{PluginError, Result};

/// The digest by which a token is compared: of fixed length, and not guessable byte by byte.
type TokenDigest = [u8; 32];

/// The accepted tokens; only their digests are kept in memory.
pub(crate) struct Tokens(Vec<TokenDigest>);

impl Tokens {
    /// Parses tokens as configured by the operator.
    pub(crate) fn new(written: &[String]) -> Result<Self> {
        let read = |(index, token): (usize, &String)| {
            let fault = |text| PluginError::invalid_input(format_args!("`tokens[{index}]`: {text}"));
            match token.strip_prefix("sha256:") {
                Some(digits) => from_hex(digits).ok_or_else(|| fault("`sha256:` wants 64 hexadecimal digits")),
                None if token.is_empty() => Err(fault("an empty token would admit every caller")),
                None => Ok(Sha256::digest(token).into()),
            }
        };
        written.iter().enumerate().map(read).collect::<Result<_>>().map(Self)
    }

    /// Returns whether there are no tokens.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Finds a token; returns a mark of it for logs, the first digits of its digest. Compares with all tokens in any
    /// case, so that the time reveals neither which one matched nor how similar a wrong one is.
    pub(crate) fn find(&self, presented: &[u8]) -> Option<String> {
        let presented: TokenDigest = Sha256::digest(presented).into();
        let mut found = false;
        for known in &self.0 {
            found |= same(known, &presented);
        }
        found.then(|| mark(&presented))
    }
}

/// Shows only the number of tokens.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

fn same(a: &TokenDigest, b: &TokenDigest) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    difference == 0
}

fn mark(digest: &TokenDigest) -> String {
    digest.iter().take(4).fold(String::new(), |mut mark, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(mark, "{byte:02x}");
        mark
    })
}

fn from_hex(digits: &str) -> Option<TokenDigest> {
    let digits = digits.as_bytes();
    let mut digest = TokenDigest::default();
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum`, the test vector of the standard.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015AD";

    #[test]
    fn a_token_may_be_written_as_its_digest() {
        let tokens = Tokens::new(&["plain".to_owned(), ABC.to_owned()]).unwrap();
        assert_eq!(tokens.find(b"abc").as_deref(), Some("ba7816bf"));
        assert!(tokens.find(b"plain").is_some());
        for wrong in [&b""[..], b"ab", b"Plain", ABC.as_bytes()] {
            assert_eq!(tokens.find(wrong), None);
        }
    }

    #[test]
    fn tokens_are_not_printed() {
        assert_eq!(format!("{:?}", Tokens::new(&["plain".to_owned()]).unwrap()), "Tokens(1)");
    }
}
