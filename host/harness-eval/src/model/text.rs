//! The text of an item, written once.

use bytes::Bytes;
use serde_json::Value;

/// An item as SDKs are sent it, written once: alone with the line end that closes every JSON answer of the vendor's relay,
/// and in lists without. Both share their bytes.
#[derive(Debug, Clone)]
pub struct Text {
    line: Bytes,
    json: Bytes,
}

impl Text {
    pub(super) fn new(value: &Value) -> Result<Self, serde_json::Error> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let line = Bytes::from(line);
        Ok(Self { json: line.slice(..line.len() - 1), line })
    }

    /// With a line end.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        &self.line
    }

    /// Without.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}
