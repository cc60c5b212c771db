//! Requests, events, contexts, flag data and results for tests of plugins, with all grants.
//!
//! ```
//! use yardarm_plugin::testing::{Payload, TestRequest};
//! use yardarm_plugin::{Items, Request};
//!
//! let request = TestRequest::default().with_sdk("client").with_header("x-token", "abc");
//! assert_eq!(request.header("X-Token").as_deref(), Some("abc"));
//!
//! let items = Payload::default().with_changed("flag", "a", r#"{"key":"a","version":3}"#);
//! assert_eq!(items.find("flag", "a"), Some(0));
//! assert_eq!(items.changed()[0].version, 3);
//! ```

mod data;
mod request;
#[cfg(not(target_family = "wasm"))]
mod services;

pub use self::data::{Batch, Evaluated, Payload};
pub use self::request::{TestContext, TestRequest};
#[cfg(not(target_family = "wasm"))]
pub(crate) use self::services::{http, kv, published, time};
#[cfg(not(target_family = "wasm"))]
pub use self::services::{publish, respond, set_time, take_sent};
