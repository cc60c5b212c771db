//! The bytes that all streams of a swarm must receive: the first stream to receive a byte appends it, all others are
//! compared with it.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Length of a heartbeat with its empty line; no event is as short.
const BEAT: usize = 3;

/// Bytes of a stream's body without chunk framing, and where its events end.
#[derive(Default)]
pub(crate) struct Transcript {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// Position of one stream in a chunked body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chunk {
    /// In the size line; the value of the digits so far.
    Size(usize),
    /// This many bytes of data are left.
    Data(usize),
    /// The same for a heartbeat, which each stream may receive at a different time.
    Beat(usize),
    /// This many bytes of the line end after the data are left.
    End(usize),
}

/// Position of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    chunk: Chunk,
    position: usize,
    /// Number of complete events.
    pub(crate) received: usize,
}

impl Place {
    /// Creates a position at the beginning of the body.
    pub(crate) fn start() -> Self {
        Self { chunk: Chunk::Size(0), position: 0, received: 0 }
    }

    /// Reads more data. An error describes how the stream differs from the others.
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
        self.count(transcript);
        Ok(())
    }

    /// Reads more data of a body without chunks. Heartbeats are not expected in it.
    pub(crate) fn read_payload(&mut self, data: &[u8], transcript: &mut Transcript) -> Result<(), String> {
        transcript.accept(self.position, data)?;
        self.position += data.len();
        self.count(transcript);
        Ok(())
    }

    fn count(&mut self, transcript: &Transcript) {
        while transcript.ends.get(self.received).is_some_and(|end| *end <= self.position) {
            self.received += 1;
        }
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
            // One byte back, because an event ends with two line ends that may arrive separately.
            let mut from = self.bytes.len().saturating_sub(1).max(self.ends.last().copied().unwrap_or(0));
            self.bytes.extend_from_slice(new);
            while let Some(at) = self.bytes[from..].windows(2).position(|it| it == b"\n\n") {
                from += at + 2;
                self.ends.push(from);
            }
        }
        Ok(())
    }

    /// Returns the number of events so far.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes of an event as received.
    pub(crate) fn raw(&self, index: usize) -> &[u8] {
        &self.bytes[self.range(index)]
    }

    /// Checks an event's name and data.
    pub(crate) fn expect(&self, index: usize, name: &str, data: &Value) -> Result<()> {
        ensure!(index < self.ends.len(), "event {index} has not been received");
        let text = std::str::from_utf8(self.raw(index)).context("an event is not text")?;
        let rest = text.strip_prefix("event: ").and_then(|it| it.split_once("\ndata: "));
        let (received, json) = rest.with_context(|| format!("not an event: `{text:.80}`"))?;
        ensure!(received == name, "event {index} is a `{received}`, not a `{name}`");
        let received: Value = serde_json::from_str(json.trim_end()).context("the data of an event is not JSON")?;
        ensure!(received == *data, "event {index} (`{name}`) does not hold what the cloud sent");
        Ok(())
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}

/// Formats an event as a chunk of a body.
pub(crate) fn chunk(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
