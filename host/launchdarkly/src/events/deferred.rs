//! Posts that are on disk only: they are read again, in order, as soon as there is room for their events.

use std::sync::Arc;
use std::time::Duration;

use yardarm_core::budget::Trust;
use yardarm_core::supervisor::fault_point;
use yardarm_vendor::events::spool::{RecordError, SpoolLane, SpooledPost};

use super::{Port, spooled};

/// Time between two attempts to charge the memory of a post.
const RETRY: Duration = Duration::from_millis(100);

/// Reads deferred posts of one kind of credential, and passes them on, until dropped.
pub(super) async fn pass_on(port: Arc<Port>, trust: Trust, lane: Arc<SpoolLane>) {
    loop {
        let post = lane.first_deferred().await;
        port.outbox.room(trust).await;
        fault_point("event spool");
        if let Err(error) = pass_on_one(&port, trust, &lane, &post).await {
            // With the right key, a later process can read it.
            post.leave();
            tracing::error!(%error, events = post.events(), "events on disk cannot be read and are left there");
            port.ledger.record_dropped("spool-unreadable", post.events());
        }
        lane.remove_first();
    }
}

async fn pass_on_one(
    port: &Arc<Port>,
    trust: Trust,
    lane: &Arc<SpoolLane>,
    post: &SpooledPost,
) -> Result<(), RecordError> {
    let place = Arc::clone(&port.posts.get(trust).permits).acquire_owned().await.ok();
    let charge = loop {
        let memory = &port.posts.get(trust).memory;
        match memory.charge(post.memory()).or_else(|| if memory.used() == 0 { memory.charge(0) } else { None }) {
            Some(charge) => break charge,
            None => tokio::time::sleep(RETRY).await,
        }
    };
    let has_envelopes = port.hooks.of(&port.label).event_filter.is_some();
    let (reading, wanted, label) = (Arc::clone(lane), post.clone(), port.label.clone());
    let read = port.limits.offload(trust, move || {
        let entry = reading.read(&wanted)?;
        spooled::post(&label, entry, charge, has_envelopes).ok_or(RecordError::Format)
    });
    let restored = read.await.unwrap_or(Err(RecordError::Format))?;
    if let Some(place) = place {
        port.process(restored, place, Some(post.clone()));
    }
    Ok(())
}
