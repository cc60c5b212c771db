//! Kinds of SDKs, the credentials that they present, and the labels of environments.

mod credential;
mod credential_set;
mod label;
mod sdk_kind;

pub use self::credential::{EnvironmentId, MobileKey, SdkKey};
pub use self::credential_set::Credentials;

pub(crate) use self::credential::{from_headers, mask};
pub(crate) use self::credential_set::{Accepted, KeyError, OfferedKeys};
pub(crate) use self::label::{VENDOR, label};
pub(crate) use self::sdk_kind::SdkKind;
