//! Requests to Harness: tokens, lists of keys and targets, flags and segments, the stream, registration of targets.

mod admin;
mod client;
pub(crate) mod fetch;
pub(crate) mod message;
mod registration;
mod request;
pub(crate) mod retry_delay;
mod session;
pub(crate) mod stream;
pub(crate) mod token;

pub(crate) use self::admin::Admin;
pub(crate) use self::client::HttpClients;
pub(crate) use self::registration::{Registrar, Registrations};
pub(crate) use self::request::{RequestError, identification, read_json};
pub(crate) use self::session::open_session;
pub(crate) use yardarm_vendor::url::below as url;

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let _ = token::UpstreamClaims::read(text);
    let _ = message::Message::read(text);
}
