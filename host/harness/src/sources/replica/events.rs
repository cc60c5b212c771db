//! Events of the primary. An event about an item names it; it is read from the database, served, and announced to SDKs.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::{Flag, Segment};
use yardarm_store::StoreError;

use super::{AFTER_EVENTS, ReplicaTask};
use crate::data::items::{ChangeEvent, Domain, Item};
use crate::data::received::read_item;
use crate::environments::HarnessEnvironment;
use crate::shared_store::{CONTROL_EVENTS, ControlState, EnvironmentKeys};
use crate::upstream::message::Message;

impl ReplicaTask {
    /// Processes an event of one of the streams.
    pub(super) async fn process(&mut self, stream: &str, event: &Bytes) -> Result<(), StoreError> {
        if stream == CONTROL_EVENTS {
            return self.process_control(event).await;
        }
        // What is read for an event may be older than the event.
        self.next_read = self.next_read.min(Instant::now() + AFTER_EVENTS);
        match Message::read(&lenient_json::text(event)) {
            Message::Item { environment: Some(id), event } => match self.environments.get(&id).map(Arc::clone) {
                Some(environment) => {
                    let span = environment.label.span();
                    self.apply(&environment, event).instrument(span).await?;
                    environment.status.message_processed();
                }
                None => self.next_read = Instant::now(),
            },
            // Environments or keys have changed, which takes effect at once.
            Message::Scope(_) => self.read().await?,
            Message::Item { environment: None, .. } | Message::NoJson | Message::Unknown(_) => {
                tracing::debug!("event of the primary is ignored, comparing everything instead soon");
            }
        }
        Ok(())
    }

    async fn process_control(&mut self, event: &Bytes) -> Result<(), StoreError> {
        let Some(state) = ControlState::of_event(event) else { return Ok(()) };
        self.primary_seen = Instant::now();
        match state {
            // Changes during an interruption may have caused no events.
            ControlState::Connected if self.state != ControlState::Connected => {
                self.read().await?;
                self.set_state(ControlState::Connected);
            }
            ControlState::Disconnected => self.set_state(ControlState::Disconnected),
            // A primary that starts again announces what has changed meanwhile.
            ControlState::Connected | ControlState::Initializing => (),
        }
        Ok(())
    }

    async fn apply(&mut self, environment: &HarnessEnvironment, event: ChangeEvent) -> Result<(), StoreError> {
        let id = &environment.identity.id;
        let read = if event.event == "delete" { None } else { self.fetch(id, &event).await? };
        let Some(applier) = self.environments.applier(id) else { return Ok(()) };
        match read {
            None if event.event == "delete" => applier.delete(event).await,
            // It was deleted meanwhile; the event of that is on its way.
            None => (),
            Some(Ok(item)) => applier.patch(item, event).await,
            Some(Err(unreadable)) => applier.skip(&unreadable),
        }
        Ok(())
    }

    /// Reads the item that an event names; `None` if it does not exist.
    async fn fetch(&self, id: &str, event: &ChangeEvent) -> Result<Option<Read>, StoreError> {
        let names = EnvironmentKeys(id);
        let key = match event.domain {
            Domain::Flag => names.flag(&event.identifier),
            Domain::TargetSegment => names.segment(&event.identifier),
        };
        let Some(json) = self.store.texts().get(&[key]).await?.into_iter().next().flatten() else { return Ok(None) };
        let json = lenient_json::text(&json);
        Ok(Some(match event.domain {
            Domain::Flag => read_item::<Flag>(&json).map(Item::Flag),
            Domain::TargetSegment => read_item::<Segment>(&json).map(Item::Segment),
        }))
    }
}

/// An item, or the reason why it cannot be read.
type Read = Result<Item, crate::data::received::Unreadable>;
