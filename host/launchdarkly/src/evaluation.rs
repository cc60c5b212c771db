//! What client-side SDKs evaluate: their context, their request, and what plugins make of the results.

mod client_context;
mod evaluation_request;

pub(crate) use self::client_context::ClientContext;
pub(crate) use self::evaluation_request::{Edits, EvaluationError, EvaluationRequest, Visibility};
