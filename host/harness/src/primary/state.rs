//! What this gateway has to share at one moment.

use std::collections::BTreeMap;

use crate::environments::{Connection, Environments};
use crate::shared_store::{ControlState, SharedEnvironment};

/// Returns the environments whose data upstream has confirmed in this process. Others may be older than what the database
/// holds.
pub(super) fn environments(environments: &Environments) -> BTreeMap<String, SharedEnvironment> {
    let all = environments.all().into_iter().filter_map(|it| {
        let (id, items) = (it.identity.id.clone(), it.confirmed()?);
        Some((id.clone(), SharedEnvironment { id, keys: environments.keys_of(&it), items }))
    });
    all.collect()
}

/// Returns the state of the upstream streams of all environments together, and when it began in Unix milliseconds; `None`
/// before there is an environment.
pub(super) fn stream(environments: &Environments) -> Option<(ControlState, u64)> {
    let streams: Vec<_> = environments.all().iter().map(|it| it.stream()).collect();
    let since = streams.iter().map(|it| it.since * 1000).max()?;
    let is_any = |wanted: Connection| streams.iter().any(|it| it.connection == wanted);
    let state = if is_any(Connection::Disconnected) {
        ControlState::Disconnected
    } else if is_any(Connection::Initializing) {
        ControlState::Initializing
    } else {
        ControlState::Connected
    };
    Some((state, since))
}
