//! An environment or filtered variant that should be served.

use std::sync::Arc;

use crate::config::EnvironmentConfig;

/// One environment that should be served, or one filtered variant of it.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) config: EnvironmentConfig,
    /// Empty for the unfiltered environment.
    pub(crate) filter: Arc<str>,
}

impl Variant {
    /// A configured environment, and each of its filtered variants.
    pub(crate) fn all_of(config: EnvironmentConfig) -> Vec<Self> {
        let filters = std::iter::once("").chain(config.filters.iter().map(String::as_str));
        filters.map(|filter| Self { config: config.clone(), filter: filter.into() }).collect()
    }
}
