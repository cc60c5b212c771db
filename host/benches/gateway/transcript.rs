//! What all streams of a swarm must hear: whoever hears it first writes it down, all others are compared with that.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Length of a heartbeat with its empty line; no event is so short.
const BEAT: usize = 3;

/// Bytes of a stream's body without their framing, and where its events end.
#[derive(Default)]
pub(crate) struct Transcript {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// How far into a chunked body one stream is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chunk {
    /// In the line with the size; the digits so far.
    Size(usize),
    /// So many bytes of data to come.
    Data(usize),
    /// The same of a heartbeat, which each stream may hear at other times.
    Beat(usize),
    /// So many bytes of the line end behind the data to come.
    End(usize),
}

/// Where one stream stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    chunk: Chunk,
    position: usize,
    /// Complete events so far.
    pub(crate) heard: usize,
}

impl Place {
    /// At the beginning of the body.
    pub(crate) fn start() -> Self {
        Self { chunk: Chunk::Size(0), position: 0, heard: 0 }
    }

    /// Reads on. An error is what makes the stream differ from the others.
    pub(crate) fn read(&mut self, mut data: &[u8], transcript: &mut Transcript) -> Result<(), String> {
        while let Some(first) = data.first() {
            match self.chunk {
                Chunk::Size(size) => {
                    data = &data[1..];
                    self.chunk = match first {
                        b'\r' => Chunk::Size(size),
                        b'\n' if size == 0 => return Err("the stream was ended by the gateway".to_owned()),
                        b'\n' if size == BEAT => Chunk::Beat(size),
                        b'\n' => Chunk::Data(size),
                        digit => match char::from(*digit).to_digit(16) {
                            Some(digit) if size < 1 << 40 => Chunk::Size(size * 16 + digit as usize),
                            _ => return Err(format!("byte {digit:#x} in the size of a chunk")),
                        },
                    };
                }
                Chunk::Data(left) => {
                    let (piece, rest) = data.split_at(left.min(data.len()));
                    transcript.accept(self.position, piece)?;
                    self.position += piece.len();
                    data = rest;
                    self.chunk = if left == piece.len() { Chunk::End(2) } else { Chunk::Data(left - piece.len()) };
                }
                Chunk::Beat(left) => {
                    if *first != b"\n\n:"[left - 1] {
                        return Err("a chunk as short as a heartbeat, and none".to_owned());
                    }
                    data = &data[1..];
                    self.chunk = if left == 1 { Chunk::End(2) } else { Chunk::Beat(left - 1) };
                }
                Chunk::End(left) => {
                    if *first != b"\n\r"[left - 1] {
                        return Err("no line end behind a chunk".to_owned());
                    }
                    data = &data[1..];
                    self.chunk = if left == 1 { Chunk::Size(0) } else { Chunk::End(1) };
                }
            }
        }
        while transcript.ends.get(self.heard).is_some_and(|end| *end <= self.position) {
            self.heard += 1;
        }
        Ok(())
    }
}

impl Transcript {
    fn accept(&mut self, position: usize, piece: &[u8]) -> Result<(), String> {
        let known = self.bytes.len() - position;
        let (old, new) = piece.split_at(known.min(piece.len()));
        if self.bytes[position..position + old.len()] != *old {
            return Err(format!("other bytes than the other streams, after {position} of them"));
        }
        if !new.is_empty() {
            // One byte back, because an event ends with two line ends and they may come apart.
            let mut from = self.bytes.len().saturating_sub(1).max(self.ends.last().copied().unwrap_or(0));
            self.bytes.extend_from_slice(new);
            while let Some(at) = self.bytes[from..].windows(2).position(|it| it == b"\n\n") {
                from += at + 2;
                self.ends.push(from);
            }
        }
        Ok(())
    }

    /// Events so far.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of an event, as they came.
    pub(crate) fn raw(&self, index: usize) -> &[u8] {
        &self.bytes[self.range(index)]
    }

    /// Checks that an event is this one.
    pub(crate) fn expect(&self, index: usize, name: &str, data: &Value) -> Result<()> {
        ensure!(index < self.ends.len(), "event {index} has not been heard");
        let text = std::str::from_utf8(self.raw(index)).context("an event is not text")?;
        let rest = text.strip_prefix("event: ").and_then(|it| it.split_once("\ndata: "));
        let (heard, json) = rest.with_context(|| format!("not an event: `{text:.80}`"))?;
        ensure!(heard == name, "event {index} is a `{heard}`, not a `{name}`");
        let heard: Value = serde_json::from_str(json.trim_end()).context("the data of an event is not JSON")?;
        ensure!(heard == *data, "event {index} (`{name}`) does not hold what the cloud sent");
        Ok(())
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}

/// An event as a chunk of a body.
pub(crate) fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
