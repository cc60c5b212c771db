//! The context of a client request.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use yardarm_core::Workers;
use yardarm_core::budget::Charge;
use yardarm_core::hooks::{ContextAttribute, ContextView};
use yardarm_core::workers::SlowDrop;
use yardarm_launchdarkly_eval::model::{Context, ContextError};

/// Contexts of up to this many bytes of JSON are parsed and freed on the serving threads, and kept by streams.
const MAX_SMALL: usize = 32 << 10;

/// A context from a request. A large one is freed off the serving threads.
#[derive(Clone)]
pub(crate) struct ClientContext {
    context: SlowDrop<Context>,
    /// Memory for requests that its body is charged to.
    charge: Option<Arc<Charge>>,
}

impl ClientContext {
    /// Whether a context of `size` bytes of JSON is parsed and freed off the serving threads.
    pub(crate) fn is_large(size: usize) -> bool {
        size > MAX_SMALL
    }

    /// A context whose body is covered by `charge`.
    pub(crate) fn new(context: Context, workers: &Workers, charge: Option<Charge>) -> Self {
        let workers = Self::is_large(context.size()).then(|| workers.clone());
        Self { context: SlowDrop::new(context, workers), charge: charge.map(Arc::new) }
    }

    /// The context with attributes that plugins have set. It is copied only if a plugin's call that was given up still
    /// reads it.
    ///
    /// # Errors
    /// When an attribute cannot have its value.
    pub(crate) fn enriched(self: Arc<Self>, attributes: &[ContextAttribute]) -> Result<Arc<Self>, ContextError> {
        if attributes.is_empty() {
            return Ok(self);
        }
        let mut context = Arc::unwrap_or_clone(self);
        for ContextAttribute { kind, name, value } in attributes {
            context.context.set_attribute(kind, name, value)?;
        }
        Ok(Arc::new(context))
    }

    /// The context for a stream, which no longer counts as a request; `None` if it is too large for that.
    pub(crate) fn kept(mut self) -> Option<Self> {
        self.charge = None;
        (!Self::is_large(self.size())).then_some(self)
    }
}

impl Deref for ClientContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl ContextView for ClientContext {
    fn kinds(&self) -> Vec<&str> {
        self.context.kinds().collect()
    }

    fn key(&self, kind: &str) -> Option<&str> {
        self.context.key_of(kind)
    }

    fn canonical_key(&self) -> Cow<'_, str> {
        self.context.canonical_key()
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        self.context.attribute_names(kind).into_iter().map(str::to_owned).collect()
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        self.context.attribute_json(kind, name)
    }
}

#[cfg(test)]
impl From<Context> for ClientContext {
    fn from(context: Context) -> Self {
        Self { context: SlowDrop::new(context, None), charge: None }
    }
}
