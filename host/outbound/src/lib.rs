//! Outgoing HTTP that both vendors' services need: event streams that are opened, read and judged, and how soon to try
//! again. Knows no vendor's word.
#![forbid(unsafe_code)]

mod connection;
mod pace;

pub use self::connection::{ConnectionError, Events, chain, is_rejection, open};
pub use self::pace::Pace;
pub use eventsource_stream::Event;
