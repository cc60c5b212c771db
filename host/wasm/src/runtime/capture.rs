//! Where failed calls go, if they are kept.

use super::guest::PluginContext;
use super::interface::AnyCall;
use crate::vocabulary::CallError;

/// Keeps failed calls.
pub(crate) trait CaptureSink: Send + Sync {
    /// Takes a call of a plugin with its input, and why it failed.
    fn capture(&self, plugin: &PluginContext, call: AnyCall, error: &CallError);
}
