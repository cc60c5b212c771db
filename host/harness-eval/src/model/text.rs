//! The JSON text of an item, written once.

use bytes::Bytes;
use serde_json::Value;

/// The JSON text of an item as it is sent to SDKs: alone with the line end that closes every JSON response of the vendor's
/// relay, and in lists without it. Both share their bytes.
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

    /// Returns the text with a line end.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        &self.line
    }

    /// Returns the text without a line end.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}
