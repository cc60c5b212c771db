//! Request bodies, collected within a limit and within the memory that is granted for them.

use std::error::Error;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError};

/// Why a body was not collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit, or than the limit of the gateway.
    #[error("the body is too large")]
    TooLarge,
    /// The connection broke, or the body is not what its headers announce.
    #[error("the body ended too early")]
    Interrupted,
    /// No memory is granted for it now.
    #[error("too much is in progress")]
    Busy,
}

/// Collects a body of at most `limit` bytes. `grants` is called with the length so far, before it is exceeded; when it
/// returns false, reading ends.
///
/// # Errors
/// When the body is too long, breaks off, or is not granted.
pub async fn collect(mut body: Body, limit: usize, mut grants: impl FnMut(usize) -> bool) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| if is_too_large(&error) { BodyError::TooLarge } else { BodyError::Interrupted });
        let Ok(data) = frame?.into_data() else { continue };
        let length = whole.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLarge);
        }
        if !grants(length) {
            return Err(BodyError::Busy);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Whether a body exceeded a limit that wraps it, as that of the gateway does.
fn is_too_large(error: &axum::Error) -> bool {
    let mut causes = std::iter::successors(Some::<&dyn Error>(error), |&error| error.source());
    causes.any(|cause| cause.is::<LengthLimitError>())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::Limited;

    use super::*;

    fn body(parts: &[&'static str]) -> Body {
        Body::from_stream(stream::iter(parts.iter().map(|it| Ok::<_, std::io::Error>(*it)).collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn limits_are_exact_and_memory_is_granted_before_it_is_used() {
        assert_eq!(collect(body(&["ab", "cd"]), 4, |_| true).await.unwrap(), "abcd");
        assert_eq!(collect(body(&["ab", "cde"]), 4, |_| true).await, Err(BodyError::TooLarge));
        let mut lengths = Vec::new();
        let grants = |length| {
            lengths.push(length);
            length < 4
        };
        assert_eq!(collect(body(&["ab", "cd", "e"]), 9, grants).await, Err(BodyError::Busy));
        assert_eq!(lengths, [2, 4]);
        let broken = stream::iter([Ok("ab"), Err(std::io::Error::other("reset"))]);
        assert_eq!(collect(Body::from_stream(broken), 9, |_| true).await, Err(BodyError::Interrupted));
    }

    #[tokio::test]
    async fn the_limit_of_the_gateway_is_a_limit() {
        let limited = |limit| Body::new(Limited::new(body(&["ab", "cde"]), limit));
        assert_eq!(collect(limited(5), 9, |_| true).await.unwrap(), "abcde");
        assert_eq!(collect(limited(4), 9, |_| true).await, Err(BodyError::TooLarge));
        assert_eq!(collect(Body::new(Limited::new(limited(4), 9)), 9, |_| true).await, Err(BodyError::TooLarge));
    }
}
