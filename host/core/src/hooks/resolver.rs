//! The hook of routes: which environment is a request for?

use std::sync::Arc;

use super::{HookFailure, HookFuture, RequestFacts};

/// The environment that a plugin has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Name of the environment.
    pub environment: Arc<str>,
    /// Whether request plugins decide about its callers instead of the credential, because the operator says so and there
    /// are some. Otherwise the request needs a credential of this environment.
    pub is_delegated: bool,
}

/// Calls the chain of resolvers of one vendor.
pub trait RouteResolver: Send + Sync {
    /// Returns the environment of a request, before its credential is looked up; `None` for that of the credential. The
    /// environment in `facts` has no name yet.
    fn resolve<'a>(&'a self, facts: &'a Arc<RequestFacts>) -> HookFuture<'a, Result<Option<Resolution>, HookFailure>>;
}
