//! Behaviour cases of plugins: an input, and the reply that a hook must give to it.
//!
//! A file of cases, `NAME.cases.jsonl` beside `NAME.wasm`, has one JSON object per line; empty lines and lines that
//! begin with `//` are ignored. The manifest of a component may have the same objects in its list `cases`, which are
//! run whenever it is loaded. [`Case`] documents the format. An example:
//!
//! ```json
//! {
//!   "name": "callers without a token are denied",
//!   "hook": "request-auth",
//!   "grants": ["header:x-token"],
//!   "config": {"token": "open sesame"},
//!   "request": {"sdk": "client", "headers": {"x-other": "1"}},
//!   "expect": {"deny": {"class": "forbidden"}}
//! }
//! ```
//!
//! Each case is run on a fresh instance, and once more on the same instance unless the plugin declares
//! `"state": "cache"`; both replies must be as expected.

mod captures;
mod description;
mod format;
mod input;
mod intern;
mod masking;
mod reply;
mod run;
mod self_test;
mod services;

pub use self::captures::Capture;
pub(crate) use self::captures::Captures;
pub use self::format::{
    Case, CaseEvent, CaseIdentity, CaseItem, CaseItems, CaseLimits, CaseRequest, CaseResult, HeaderValues,
};
pub use self::format::{CasesError, parse_cases};
pub use self::reply::{
    AdmissionReply, DenialName, DenialReply, Difference, EditReply, EditedContent, FailureReply, Reply,
};
pub use self::run::{CaseFigures, CaseOutcome};
pub(crate) use self::run::{PreparedCase, Runner};
pub(crate) use self::self_test::self_test;
pub use self::services::{CaseResponse, CaseSent, CaseServices};
