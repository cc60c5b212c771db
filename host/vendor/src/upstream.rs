//! Outgoing HTTP for both vendors: event streams, requests that follow redirects without disclosing keys, and the
//! delays of reconnects. Independent of any vendor.

mod client;
mod connection;
mod http_sender;
mod key_history;
mod log_throttle;
mod network_error;
mod outbound;
mod reconnect;
mod redirect;
mod span;
mod tls;
mod traced;

pub use self::client::client;
pub use self::connection::{ConnectionError, Events, chain, is_rejection, open, shortened};
pub use self::http_sender::{HttpSender, HttpSenderError};
pub use self::log_throttle::LogThrottle;
pub use self::network_error::NetworkError;
pub use self::outbound::{Outbound, OutboundError, checked as check_outbound};
pub use self::reconnect::{ReconnectPolicy, Retry};
pub use self::redirect::{RedirectError, SendError, send};
pub use self::span::connection_span;
pub use self::tls::{UpstreamTls, UpstreamTlsError};
pub use eventsource_stream::Event;
