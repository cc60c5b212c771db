//! Outgoing HTTP that both vendors' services need: event streams that are opened, read and judged, requests that follow
//! redirects without giving keys away, and how soon to try again. Knows no vendor's word.
#![forbid(unsafe_code)]

mod connection;
mod log_throttle;
mod reconnect;
mod redirect;

pub use self::connection::{ConnectionError, Events, chain, is_rejection, open, shortened};
pub use self::log_throttle::LogThrottle;
pub use self::reconnect::{KeyHistory, ReconnectPolicy};
pub use self::redirect::{RedirectError, SendError, client, send};
pub use eventsource_stream::Event;
