//! Events of the upstream stream. Each names what has changed; it is fetched, served, and then announced to SDKs.

use tracing::Instrument;
use yardarm_core::status::Status;

use super::{RequestError, RoundError, SyncLoop, SyncSource};
use crate::data::items::ChangeEvent;
use crate::data::received::Fetched;
use crate::environments::HarnessEnvironment;
use crate::sources::retry::{RetryAction, RetryBudget};
use crate::upstream::message::{self, Message};

impl<S: SyncSource> SyncLoop<S> {
    /// Serves what an event is about. An error ends the round.
    pub(super) async fn process(&mut self, data: &str) -> Result<(), RoundError> {
        match Message::read(data) {
            Message::Item { environment: named, event } => match self.environments.addressed(named.as_deref()) {
                Some(environment) => {
                    self.apply(&environment, event).instrument(environment.label.span()).await?;
                    environment.status.message_processed();
                    return Ok(());
                }
                None => self.ignore_item(named),
            },
            Message::Scope(scope) => self.source.rescope(scope, &mut self.environments).await?,
            Message::NoJson => {
                self.environments.set_incomplete(true);
                if let Some(suppressed) = message::UNKNOWN_EVENTS.next_line() {
                    tracing::warn!(
                        suppressed,
                        "event of the upstream stream is no JSON, downloading everything instead soon"
                    );
                }
            }
            Message::Unknown(what) => {
                if let Some(suppressed) = message::UNKNOWN_EVENTS.next_line() {
                    tracing::warn!(what, suppressed, "event of the upstream stream is ignored");
                }
            }
        }
        // Where there are several environments, such an event is about none of them.
        self.environments.only().map(|it| &it.status).into_iter().for_each(Status::message_processed);
        Ok(())
    }

    fn ignore_item(&mut self, named: Option<String>) {
        if let Some(id) = named {
            tracing::debug!(id, "event of an environment that the proxy key does not lead to");
            return;
        }
        self.environments.set_incomplete(true);
        if let Some(suppressed) = message::UNKNOWN_EVENTS.next_line() {
            tracing::warn!(
                suppressed,
                "event of the upstream stream names no environment, downloading everything instead soon"
            );
        }
    }

    async fn apply(&mut self, environment: &HarnessEnvironment, event: ChangeEvent) -> Result<(), RoundError> {
        let fetched = if event.event == "delete" { None } else { Some(self.fetch(environment, &event).await?) };
        let Some(applier) = self.environments.applier(&environment.identity.id) else { return Ok(()) };
        match fetched {
            None => applier.delete(event).await,
            Some(Fetched::Item(item)) => {
                let is_older = item.version() < event.version;
                applier.patch(item, event).await;
                if is_older {
                    self.environments.set_incomplete(true);
                }
            }
            Some(Fetched::Unreadable(unreadable)) => applier.skip(&unreadable),
            // It was deleted meanwhile; the event of that is on its way.
            Some(Fetched::Gone) => (),
        }
        Ok(())
    }

    /// Fetches the item that an event names, with a few retries.
    async fn fetch(&mut self, environment: &HarnessEnvironment, event: &ChangeEvent) -> Result<Fetched, RequestError> {
        let mut budget = RetryBudget::new();
        loop {
            let error = match self.fetcher.one(&environment.session(), event.domain, &event.identifier).await {
                Ok(item) => return Ok(item),
                Err(error) => error,
            };
            tracing::warn!(item = event.identifier, %error, "changed item could not be fetched");
            match budget.after(&error) {
                RetryAction::GiveUp => return Err(error),
                RetryAction::Renew => self.source.authenticate(&mut self.environments).await?,
                RetryAction::Wait(delay) => tokio::time::sleep(delay).await,
            }
        }
    }
}
