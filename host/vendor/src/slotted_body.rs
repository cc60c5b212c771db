//! A response body that holds the slot of a delivery until it is written.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use yardarm_core::delivery::DeliverySlot;

/// Largest piece, in bytes. A server asks for the next one when it has room, so the slot is held until all but the last pieces
/// are written.
const PIECE: usize = 64 << 10;

/// The body. Its bytes may be shared with others.
#[derive(Debug)]
pub struct SlottedBody {
    rest: Bytes,
    slot: Option<DeliverySlot>,
}

impl SlottedBody {
    /// Creates a body of `bytes`, which holds `slot`.
    #[must_use]
    pub fn new(bytes: Bytes, mut slot: DeliverySlot) -> Self {
        slot.begin(bytes.len());
        Self { rest: bytes, slot: Some(slot) }
    }
}

impl Body for SlottedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.rest.is_empty() {
            self.slot = None;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use yardarm_core::delivery::DeliveryLimit;

    use super::*;

    #[tokio::test]
    async fn the_slot_is_held_as_long_as_pieces_remain() {
        let limit = DeliveryLimit::new(1, 0, Duration::from_secs(60));
        let bytes = Bytes::from(vec![b'x'; 2 * PIECE + 1]);
        let mut body = SlottedBody::new(bytes.clone(), limit.acquire().await.unwrap());
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let mut received = Vec::new();
        for length in [PIECE, PIECE, 1] {
            assert_eq!(limit.report().held, 1);
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), length);
            received.extend_from_slice(&piece);
        }
        assert!(body.is_end_stream() && received == bytes);
        drop(body);
        assert_eq!(limit.report().held, 0);
    }
}
