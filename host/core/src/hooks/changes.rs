//! The hook of listeners: who wants to know about changes of flag data?

use super::ItemHead;
use crate::label::EnvironmentLabel;

/// Changes of one environment, as listeners receive them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeNotice {
    /// The environment.
    pub environment: EnvironmentLabel,
    /// The newest change of each item, in order of arrival; empty if everything may have changed.
    pub items: Vec<ItemHead>,
    /// Number of changes that were left out, because listeners were too slow.
    pub left_out: u32,
    /// Time of the first of these changes, in Unix milliseconds.
    pub at_ms: u64,
}

/// The listeners of one environment.
pub trait ChangeListener: Send + Sync {
    /// Tells the listeners that these items have changed and are served; everything, if there are none. Returns at once.
    fn changed(&self, environment: &EnvironmentLabel, items: &[ItemHead]);
}
