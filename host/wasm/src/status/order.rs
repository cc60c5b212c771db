//! The order in which plugins are called.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::chain::ChainLink;
use crate::vocabulary::{Pattern, Phase};

/// A plugin at its place in the order of one hook: by phase, then by priority, then by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderedPlugin {
    /// Name of the plugin.
    pub name: String,
    /// Primary sort key.
    pub phase: Phase,
    /// Secondary sort key; lower values run first.
    pub priority: i64,
    /// Patterns for the environments in which it is called.
    #[schema(value_type = Vec<String>)]
    pub environments: Vec<Pattern>,
    /// Kinds of callers for which it is called; empty means all.
    #[schema(value_type = Vec<String>)]
    pub sdk: Vec<Arc<str>>,
    /// Patterns for the routes on which it is called; empty means all.
    #[schema(value_type = Vec<String>)]
    pub routes: Vec<Pattern>,
    /// How many of a hundred callers it is called for, while a version of it is being rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Whether it runs; if not, it is required and missing, and fails by its policy.
    pub running: bool,
}

impl OrderedPlugin {
    pub(crate) fn of(link: &ChainLink) -> Self {
        let bind = link.bind();
        Self {
            name: link.name().to_string(),
            phase: bind.phase,
            priority: bind.priority,
            environments: bind.environments.clone(),
            sdk: bind.sdk.clone(),
            routes: bind.routes.clone(),
            percent: link.percent(),
            running: matches!(link, ChainLink::Instance(_)),
        }
    }

    /// Returns whether it is called in an environment of a vendor.
    #[must_use]
    pub fn is_called_in(&self, vendor: &str, environment: &str) -> bool {
        let full = format!("{vendor}/{environment}");
        self.environments.iter().any(|pattern| pattern.matches_either(environment, &full))
    }
}
