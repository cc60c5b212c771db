//! `Retry-After`: when a rejected caller should retry, with jitter so that callers that were rejected together do not
//! return together.
//!
//! Every 503 and 429 of the gateway has this header (RFC 9110, 10.2.3), with a value from this module.

use std::ops::RangeInclusive;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use rand::Rng;

/// Seconds after which a failure of the gateway may be over. Below the backoff that most SDKs reach after a few
/// attempts.
const SOON: RangeInclusive<u32> = 1..=10;
/// Maximum number of seconds that are added to a delay set by a plugin.
const MAX_SPREAD: u32 = 30;

/// Marks, in its extensions, a response of another server that the gateway forwards unchanged.
#[derive(Debug, Clone, Copy)]
pub struct PassedThrough;

/// Returns a number of seconds between 1 and 10.
#[must_use]
pub fn soon() -> u32 {
    rand::rng().random_range(SOON)
}

/// Returns a number of seconds that is at least `minimum`, and exceeds it by at most half of it and at most 30.
#[must_use]
pub fn at_least(minimum: u32) -> u32 {
    let spread = (minimum / 2).clamp(1, MAX_SPREAD);
    minimum.saturating_add(rand::rng().random_range(0..=spread))
}

/// Sets the header to `seconds`.
pub fn set(headers: &mut HeaderMap, seconds: u32) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// Sets the header of a 503 or 429 that has none to [`soon`]. Other responses are unchanged.
pub fn complete(status: StatusCode, headers: &mut HeaderMap) {
    let is_temporary = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    if is_temporary && !headers.contains_key(RETRY_AFTER) {
        set(headers, soon());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn delays_are_spread_within_their_bounds() {
        let soon: BTreeSet<_> = std::iter::repeat_with(soon).take(1000).collect();
        assert_eq!(soon, SOON.collect());
        for (minimum, maximum) in [(0, 1), (1, 2), (7, 10), (60, 90), (3600, 3630), (u32::MAX, u32::MAX)] {
            let delays: BTreeSet<_> = std::iter::repeat_with(|| at_least(minimum)).take(1000).collect();
            assert_eq!((delays.first(), delays.last()), (Some(&minimum), Some(&maximum)));
        }
    }

    #[test]
    fn only_temporary_refusals_without_a_delay_are_completed() {
        for (status, before, is_completed) in
            [(503, None, true), (429, None, true), (503, Some(99), false), (200, None, false), (500, None, false)]
        {
            let mut headers = HeaderMap::new();
            before.into_iter().for_each(|it| set(&mut headers, it));
            complete(StatusCode::from_u16(status).unwrap(), &mut headers);
            let after = headers.get(RETRY_AFTER).map(|it| it.to_str().unwrap().parse::<u32>().unwrap());
            assert_eq!(after.is_some_and(|it| SOON.contains(&it)), is_completed, "{status}");
            assert_eq!(after.filter(|_| !is_completed), before, "{status}");
        }
    }
}
