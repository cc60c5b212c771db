//! The hook `context-enrichment`: what else is known of the context?

use crate::bindings::context_enrichment as generated;
use crate::bindings::host::{context, request, types};
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Context, Plugin, Request, Result};

/// Adds attributes to contexts before flags are evaluated for them, from the request or from the plugin's own data.
///
/// Must be pure: the same input returns the same attributes. Not called for server-side SDKs, which evaluate themselves.
pub trait ContextEnrichment: Plugin {
    /// Returns the attributes to set, each at most once.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default flags are evaluated without the plugin's attributes.
    fn enrich(&self, request: &dyn Request, context: &dyn Context) -> Result<Vec<Attribute>>;
}

/// An attribute of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Kind of the context, which the context must have.
    pub kind: String,
    /// Name of the attribute. Not `kind`, `key`, `anonymous` or `_meta`. An attribute that the SDK sent is replaced.
    pub name: String,
    /// JSON text of the value, which is not `null`, and a string for `name`.
    pub value: Vec<u8>,
}

impl Attribute {
    /// Creates an attribute of the kind `kind` with this JSON text as its value.
    pub fn new(kind: impl Into<String>, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { kind: kind.into(), name: name.into(), value: value.into() }
    }

    /// Creates an attribute whose value is a string.
    pub fn text(kind: impl Into<String>, name: impl Into<String>, text: &str) -> Self {
        Self::new(kind, name, serde_json::Value::from(text).to_string())
    }
}

impl<P: ContextEnrichment + Exported> generated::Guest for Adapter<P> {
    fn enrich(
        request: request::Request,
        context: context::Context,
    ) -> Result<Vec<generated::Attribute>, types::PluginError> {
        let attributes = call_plugin(|plugin: &P| plugin.enrich(&request, &context))?;
        Ok(attributes.into_iter().map(generated::Attribute::from).collect())
    }
}

impl From<Attribute> for generated::Attribute {
    fn from(Attribute { kind, name, value }: Attribute) -> Self {
        Self { kind, name, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoConfig;
    use crate::testing::{TestContext, TestRequest};

    /// Sets the country of users to what a load balancer has found.
    struct Country;

    impl Plugin for Country {
        type Config = NoConfig;

        fn new(_: NoConfig) -> Result<Self> {
            Ok(Self)
        }
    }

    impl ContextEnrichment for Country {
        fn enrich(&self, request: &dyn Request, context: &dyn Context) -> Result<Vec<Attribute>> {
            let country = request.header("x-country").filter(|_| context.key("user").is_some());
            Ok(country.map(|it| Attribute::text("user", "country", &it)).into_iter().collect())
        }
    }

    crate::export!(Country: context_enrichment; name = "country", about = "where users are");

    #[test]
    fn attributes_are_made_of_the_request() {
        let request = TestRequest::default().with_header("x-country", "DE");
        let attributes = Country.enrich(&request, &TestContext::default().with_kind("user", "ada"));
        assert_eq!(attributes, Ok(vec![Attribute::new("user", "country", *b"\"DE\"")]));
        assert_eq!(Country.enrich(&request, &TestContext::default().with_kind("device", "d")), Ok(vec![]));
    }
}
