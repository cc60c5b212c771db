//! Identifiers and credentials: what Harness calls an environment, API keys, sessions, and the tokens of SDKs.

mod hs256;
mod key_hash;
mod names;
pub(crate) mod secret_file;
mod session;
pub(crate) mod tokens;

pub(crate) use self::key_hash::{KeyHash, ListedKeys, masked};
pub(crate) use self::names::{Identity, VENDOR};
pub(crate) use self::session::{AuthTarget, Session};

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    key_hash::fuzz(text);
    tokens::fuzz(text);
}
