//! The hook `route-resolver`: which environment is a request for?

use crate::bindings::host::{request, types};
use crate::bindings::route_resolver as generated;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Request, Result};

/// Chooses the environment of a request before its credential is looked up, such as the tenant of a host name.
///
/// The request still needs a credential of that environment, unless the operator leaves the decision to request plugins
/// (`plugins.delegated_auth`).
pub trait RouteResolver: Plugin {
    /// Returns the configured name of an environment of the same vendor; `None` for that of the credential. The environment
    /// of `request` has no name yet.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default the caller receives a 503 and retries.
    fn resolve(&self, request: &dyn Request) -> Result<Option<String>>;
}

impl<P: RouteResolver + Exported> generated::Guest for Adapter<P> {
    fn resolve(request: request::Request) -> Result<Option<String>, types::PluginError> {
        call_plugin(|plugin: &P| plugin.resolve(&request))
    }
}
