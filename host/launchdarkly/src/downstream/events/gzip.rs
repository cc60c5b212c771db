//! Checks of gzip headers like in Go's decompressor, which checks the header first and the rest while reading.

use flate2::Crc;

/// Magic, method, flags, time, extra flags, system.
const FIXED: usize = 10;
const HAS_CHECKSUM: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
/// Longest name and longest comment, with their last byte.
const MAX_TEXT: usize = 512;

/// Errors of a header, with Go's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHead {
    Empty,
    Truncated,
    Invalid,
}

impl BadHead {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Empty => "EOF\n",
            Self::Truncated => "unexpected EOF\n",
            Self::Invalid => "gzip: invalid header\n",
        }
    }
}

/// Checks the gzip header of `body`.
pub(super) fn check_head(body: &[u8]) -> Result<(), BadHead> {
    if body.is_empty() {
        return Err(BadHead::Empty);
    }
    let (fixed, mut rest) = body.split_at_checked(FIXED).ok_or(BadHead::Truncated)?;
    if fixed[..3] != [0x1f, 0x8b, 8] {
        return Err(BadHead::Invalid);
    }
    let flags = fixed[3];
    if flags & HAS_EXTRA != 0 {
        let length = u16::from_le_bytes(*rest.first_chunk().ok_or(BadHead::Truncated)?);
        rest = rest.get(2 + usize::from(length)..).ok_or(BadHead::Truncated)?;
    }
    for flag in [HAS_NAME, HAS_COMMENT] {
        if flags & flag != 0 {
            rest = after_text(rest)?;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        let expected = u16::from_le_bytes(*rest.first_chunk().ok_or(BadHead::Truncated)?);
        let mut crc = Crc::new();
        crc.update(&body[..body.len() - rest.len()]);
        // The header has only the lower half of the checksum.
        if u32::from(expected) != crc.sum() & 0xffff {
            return Err(BadHead::Invalid);
        }
    }
    Ok(())
}

fn after_text(rest: &[u8]) -> Result<&[u8], BadHead> {
    match rest.iter().take(MAX_TEXT).position(|byte| *byte == 0) {
        Some(end) => Ok(&rest[end + 1..]),
        None if rest.len() < MAX_TEXT => Err(BadHead::Truncated),
        None => Err(BadHead::Invalid),
    }
}

/// Most compressed bytes to read for `limit` decompressed bytes: incompressible data grows a little.
pub(super) fn compressed_limit(limit: usize) -> usize {
    limit.saturating_add(limit / 64).saturating_add(64 << 10)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    fn written(builder: GzBuilder, body: &[u8]) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn heads_are_read_to_their_end() {
        let full = written(GzBuilder::new().extra(vec![1, 2, 3]).filename("a").comment("b"), b"[1]");
        assert_eq!(check_head(&full), Ok(()));
        // Ten bytes, two and three of extra, two each of name and comment.
        for length in 1..10 + 5 + 2 + 2 {
            assert_eq!(check_head(&full[..length]), Err(BadHead::Truncated), "{length}");
        }
        let endless = written(GzBuilder::new().filename("a".repeat(600)), b"");
        assert_eq!(check_head(&endless), Err(BadHead::Invalid));
        let mut checked = vec![0x1f, 0x8b, 8, HAS_CHECKSUM, 0, 0, 0, 0, 0, 0];
        let mut crc = Crc::new();
        crc.update(&checked);
        let [low, high, ..] = crc.sum().to_le_bytes();
        assert_eq!(check_head(&checked), Err(BadHead::Truncated));
        checked.extend([low, high]);
        assert_eq!(check_head(&checked), Ok(()));
        checked[10] ^= 1;
        assert_eq!(check_head(&checked), Err(BadHead::Invalid));
    }

    #[test]
    fn texts_are_those_of_go() {
        for (body, text) in
            [(&b""[..], "EOF\n"), (b"[]", "unexpected EOF\n"), (b"not gzip at all", "gzip: invalid header\n")]
        {
            assert_eq!(check_head(body).map_err(BadHead::text), Err(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), flags in 0u8..32) {
            let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0];
            for body in [&body[..], &[&head[..], &body].concat()] {
                let _ = check_head(body);
            }
        }
    }
}
