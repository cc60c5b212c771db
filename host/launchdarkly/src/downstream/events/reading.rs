//! Reads bodies and splits them into events, within limits of memory.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http_body_util::BodyExt;
use yardarm_core::budget::{Account, Charge};

use crate::events::split::{Split, Splitter};

/// Smaller frames are joined, because each has an overhead.
const SMALL_FRAME: usize = 16 << 10;
/// Bytes that are decompressed or split in one step.
const STEP: usize = 16 << 10;
/// Most gzip members of a body. Empty ones take time and add nothing to its length.
const MAX_MEMBERS: usize = 1000;
/// Bytes that are kept of a body that is not forwarded: enough to check its header.
const BEGINNING: usize = 128 << 10;

/// A received body: all of it, or its start, if it was truncated or too large.
pub(super) struct ReceivedBody {
    frames: VecDeque<Bytes>,
    length: usize,
    is_whole: bool,
    /// Memory that the frames take; `None` if only the start was kept.
    charge: Option<Charge>,
}

/// Why a body was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadingError {
    /// It is truncated, damaged, or too large.
    Unreadable,
    /// Too much is in flight.
    Busy,
}

/// A whole body that is being decompressed and split.
pub(super) struct Reading {
    reader: Box<dyn Read + Send>,
    /// Decompressed bytes so far.
    length: usize,
    limit: usize,
}

/// Frames of a body, freed as they are read.
struct Frames {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that have been read.
    position: usize,
    charge: Option<Charge>,
}

/// Consecutive gzip members that form one body.
struct Members {
    /// The member that is being read; `None` after the last.
    member: Option<GzDecoder<BufReader<Frames>>>,
    count: usize,
}

impl ReceivedBody {
    /// Reads at most `limit` bytes, charged to `account`; without one, only the start is kept.
    pub(super) async fn read(
        mut body: Body,
        limit: usize,
        account: Option<&Arc<Account>>,
    ) -> Result<Self, ReadingError> {
        let charge = account.map(|it| it.charge(0).ok_or(ReadingError::Busy)).transpose()?;
        let mut received = Self { frames: VecDeque::new(), length: 0, is_whole: true, charge };
        let mut tail = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                received.is_whole = false;
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let kept = received.length;
            received.length += data.len();
            if received.length > limit {
                received.is_whole = false;
                break;
            }
            let is_granted = match &mut received.charge {
                None if kept >= BEGINNING => continue,
                None => true,
                Some(charge) => charge.grow(data.len()),
            };
            if !is_granted {
                return Err(ReadingError::Busy);
            }
            if data.len() < SMALL_FRAME {
                tail.extend_from_slice(&data);
                if tail.len() < SMALL_FRAME {
                    continue;
                }
            }
            if !tail.is_empty() {
                received.frames.push_back(tail.split().freeze());
            }
            if data.len() >= SMALL_FRAME {
                received.frames.push_back(data);
            }
        }
        if !tail.is_empty() {
            received.frames.push_back(tail.freeze());
        }
        Ok(received)
    }

    /// Bytes that were received.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The start of the body.
    pub(super) fn beginning(&self) -> Bytes {
        match self.frames.len() {
            0 => Bytes::new(),
            1 => self.frames[0].clone(),
            _ => {
                let mut beginning = BytesMut::new();
                for frame in &self.frames {
                    beginning.extend_from_slice(&frame[..frame.len().min(BEGINNING - beginning.len())]);
                    if beginning.len() >= BEGINNING {
                        break;
                    }
                }
                beginning.freeze()
            }
        }
    }

    /// Starts to read the body, at most `limit` bytes after decompression.
    pub(super) fn reading(self, is_gzip: bool, limit: usize) -> Result<Reading, ReadingError> {
        if !self.is_whole {
            return Err(ReadingError::Unreadable);
        }
        let frames = Frames { frames: self.frames, position: 0, charge: self.charge };
        let reader: Box<dyn Read + Send> = if is_gzip { Box::new(Members::new(frames)) } else { Box::new(frames) };
        Ok(Reading { reader, length: 0, limit })
    }
}

impl Reading {
    /// Splits about `most` bytes; `true` at the end of the body.
    pub(super) fn split(&mut self, most: usize, splitter: &mut Splitter) -> Result<bool, ReadingError> {
        self.advance(most, |piece| {
            splitter.push(piece);
            !splitter.is_out_of_memory()
        })
    }

    /// Reads everything into one piece, charged to `charge`.
    pub(super) fn collect(&mut self, charge: &mut Charge) -> Result<Bytes, ReadingError> {
        let mut all = BytesMut::new();
        self.advance(usize::MAX, |piece| {
            let is_granted = charge.grow(piece.len());
            all.extend_from_slice(piece);
            is_granted
        })?;
        Ok(all.freeze())
    }

    /// Decompressed bytes so far.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    fn advance(&mut self, most: usize, mut take: impl FnMut(&[u8]) -> bool) -> Result<bool, ReadingError> {
        let mut buffer = [0; STEP];
        let end = self.length.saturating_add(most);
        while self.length < end {
            let count = self.reader.read(&mut buffer).map_err(|_| ReadingError::Unreadable)?;
            if count == 0 {
                return Ok(true);
            }
            self.length += count;
            if self.length > self.limit {
                return Err(ReadingError::Unreadable);
            }
            if !take(&buffer[..count]) {
                return Err(ReadingError::Busy);
            }
        }
        Ok(false)
    }
}

impl Members {
    fn new(frames: Frames) -> Self {
        Self { member: Some(GzDecoder::new(BufReader::with_capacity(STEP, frames))), count: 1 }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let mut rest = self.member.take().expect("checked").into_inner();
            if rest.fill_buf()?.is_empty() {
                break;
            }
            if self.count == MAX_MEMBERS {
                return Err(Error::new(ErrorKind::InvalidData, "too many compressed streams"));
            }
            self.count += 1;
            self.member = Some(GzDecoder::new(rest));
        }
        Ok(0)
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(frame) = self.frames.front() else { return Ok(0) };
        let rest = &frame[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        if self.position == frame.len() {
            if let Some(charge) = &mut self.charge {
                charge.shrink(frame.len());
            }
            self.frames.pop_front();
            self.position = 0;
        }
        Ok(count)
    }
}

/// Splits a whole body at once. For small ones.
pub(super) fn split_at_once(body: &[u8], mut splitter: Splitter) -> Result<Split, ReadingError> {
    splitter.push(body);
    if splitter.is_out_of_memory() { Err(ReadingError::Busy) } else { Ok(splitter.finish()) }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(body: &[u8]) {
    use yardarm_core::budget::Budget;

    let account = Budget::new(1 << 30).account();
    let splitter = || Splitter::new(&account, true).expect("an empty account");
    let whole = split_at_once(body, splitter()).unwrap_or_else(|_| unreachable!("memory for it"));
    let mut pieces = splitter();
    body.chunks(7).for_each(|piece| pieces.push(piece));
    let pieces = pieces.finish();
    assert!(whole.events == pieces.events && whole.lost == pieces.lost, "pieces make no difference");
    for event in &whole.events {
        assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&event.body).is_ok(), "what leaves is JSON");
    }
    if let Ok(Some(events)) = serde_json::from_slice::<Option<Vec<&serde_json::value::RawValue>>>(body) {
        assert!(whole.lost.is_empty(), "nothing of an array is lost");
        assert!(events.iter().map(|it| it.get().as_bytes()).eq(whole.events.iter().map(|it| &it.body[..])));
    }
}

/// Reads a body that may be compressed, and compares with reading it in one step.
#[cfg(fuzzing)]
pub(super) fn fuzz_gzip(body: &[u8]) {
    use flate2::bufread::MultiGzDecoder;
    use yardarm_core::budget::Budget;

    const LIMIT: usize = 1 << 20;
    let frames: VecDeque<_> = body.chunks(11).map(Bytes::copy_from_slice).collect();
    let received = ReceivedBody { frames, length: body.len(), is_whole: true, charge: None };
    let mut charge = Budget::new(1 << 30).account().charge(0).expect("an empty account");
    let collected = received.reading(true, LIMIT).and_then(|mut it| it.collect(&mut charge));
    let mut whole = Vec::new();
    let is_read = MultiGzDecoder::new(body).take(LIMIT as u64 + 1).read_to_end(&mut whole).is_ok();
    assert_eq!(collected.ok().as_deref(), (is_read && whole.len() <= LIMIT).then_some(&whole[..]));
    fuzz(&whole);
}

#[cfg(test)]
mod tests;
