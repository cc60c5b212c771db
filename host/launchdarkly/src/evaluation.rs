//! Evaluation for client-side SDKs: their contexts and requests, edits of results by plugins, and
//! the forms of results.

mod client_context;
mod evaluation_request;
pub(crate) mod result_format;

pub(crate) use self::client_context::ClientContext;
pub(crate) use self::evaluation_request::{Edits, EvaluationError, EvaluationRequest, Visibility};
pub(crate) use self::result_format::ResultFormat;
