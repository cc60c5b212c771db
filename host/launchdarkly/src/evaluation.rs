//! Evaluation for client-side SDKs: their contexts and requests, and edits of results by plugins.

mod client_context;
mod evaluation_request;

pub(crate) use self::client_context::ClientContext;
pub(crate) use self::evaluation_request::{Edits, EvaluationError, EvaluationRequest, Visibility};
