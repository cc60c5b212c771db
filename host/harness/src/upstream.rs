//! Where flags come from and where metrics go: one task per configured key, which finds out what its environment is, and
//! one per environment that keeps it in sync; or one task for a proxy key and all its environments. What both do in a
//! round stands in `sync_loop`.

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
pub(crate) use self::request::{RequestError, identification, read_json, url};
pub(crate) use self::session::open_session;

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    let _ = token::UpstreamClaims::read(text);
    let _ = message::Message::read(text);
}
