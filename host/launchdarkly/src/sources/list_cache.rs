//! The list of environments in the database, in the layout of LaunchDarkly's relay: gateways and relays with one database
//! start from what any of them has received, while LaunchDarkly cannot be reached.
//!
//! Source: `internal/autoconfigcache` of the relay, after version 8.18.0. Rows V040 to V042.

mod cipher;
mod item;
mod task;

pub(super) use self::cipher::ListCipher;
pub(super) use self::task::ListCacheTask;
