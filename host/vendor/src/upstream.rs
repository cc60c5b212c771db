//! Outgoing HTTP for both vendors: event streams, requests that follow redirects without disclosing keys, and the
//! delays of reconnects. Independent of any vendor.

mod connection;
mod log_throttle;
mod reconnect;
mod redirect;

pub use self::connection::{ConnectionError, Events, chain, is_rejection, open, shortened};
pub use self::log_throttle::LogThrottle;
pub use self::reconnect::{KeyHistory, ReconnectPolicy};
pub use self::redirect::{RedirectError, SendError, client, send};
pub use eventsource_stream::Event;
