//! Who is who: what Harness calls an environment, the keys that lead to it, and the tokens on both sides.

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
