//! The upstream stream of one environment: connects, reads, applies, reports, reconnects, and moves to another key.
//!
//! When the key that is used upstream changes, a second connection is opened with the new key. The first one stays open
//! until the second has received all data: SDKs never see an empty environment, and a new key that does not work yet is
//! retried without an interruption.

mod connection;
pub(super) mod fdv2;
mod key;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::Instrument;
use uuid::Uuid;
use yardarm_core::status::ErrorKind;
use yardarm_core::{InternalError, Supervised};
use yardarm_vendor::upstream::{
    ConnectionError, Event, Events, LogThrottle, ReconnectPolicy, connection_span, shortened,
};
use yardarm_vendor::url;

use self::connection::{Requests, Switching, UpstreamConnection, UpstreamEvent, parse};
use self::key::UpstreamKey;
use super::apply::Applier;
use crate::config::Config;
use crate::data::Change;
use crate::data::message::{Message, RefusedItem};
use crate::environments::LdEnvironment;
use crate::upstream::HttpClients;

const KEY_REPLACED: ConnectionError = ConnectionError::Closed("the SDK key was replaced");
const OVER: ConnectionError = ConnectionError::Closed("another source takes over");

/// The task that keeps one environment in sync.
pub(crate) struct StreamTask {
    environment: Arc<LdEnvironment>,
    applier: Applier,
    key: UpstreamKey,
    requests: Requests,
    reconnect: ReconnectPolicy,
    /// Log lines about items that cannot be used.
    refusals: LogThrottle,
    /// Delay between attempts with a new key while the old one is used.
    switch_interval: Duration,
    /// When another source takes over; `None` if there is none.
    deadline: Option<Instant>,
}

impl StreamTask {
    pub(crate) fn new(environment: Arc<LdEnvironment>, applier: Applier, http: HttpClients, config: &Config) -> Self {
        let mut url = format!("{}/all", config.stream_uri);
        if !environment.filter.is_empty() {
            url.push_str("?filter=");
            url.push_str(&url::encoded(&environment.filter));
        }
        let instance_id = Uuid::new_v4().to_string();
        Self {
            applier,
            key: UpstreamKey::new(environment.settings().clone()),
            requests: Requests { http, url, instance_id, last_event_id: None },
            reconnect: ReconnectPolicy::new(config.max_reconnect_delay, config.rejected_retry_interval)
                .with_shortest(config.min_reconnect_delay),
            refusals: LogThrottle::new(Duration::from_secs(10)),
            switch_interval: config.expired_credential_cleanup_interval,
            deadline: None,
            environment,
        }
    }

    /// The applier, for another source in place of the stream.
    pub(super) fn applier(&mut self) -> &mut Applier {
        &mut self.applier
    }

    /// Waits for the delay or for a new key; returns whether there is a new key.
    async fn pause(&mut self, delay: Duration) -> bool {
        let end = Instant::now() + delay;
        let end = self.deadline.map_or(end, |it| it.min(end));
        let replaced = tokio::time::timeout_at(end, self.key.wait_until_replaced());
        let is_replaced = self.applier.run_until(replaced).await.is_ok();
        if is_replaced {
            self.reconnect.reset();
        }
        is_replaced
    }

    /// Keeps the stream open until `deadline`.
    async fn run_until(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        while !self.is_over() {
            self.connect_and_pause().await;
        }
        self.deadline = None;
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|it| it <= Instant::now())
    }

    /// One connection, and the delay after it.
    async fn connect_and_pause(&mut self) {
        self.key.take_wanted();
        let span = connection_span(&self.requests.url);
        let error = self.connect().instrument(span.clone()).await;
        if self.is_over() {
            return;
        }
        let delay = self.reconnect.delay_after(&error);
        span.in_scope(|| {
            self.report(&error);
            log_reconnection(delay);
        });
        self.pause(delay).await;
    }

    /// One connection, from request to end.
    async fn connect(&mut self) -> ConnectionError {
        self.reconnect.mark_connecting();
        let opening = self.requests.clone().open(self.key.current().clone());
        let over = over(self.deadline);
        let opening = async {
            tokio::select! {
                opened = opening => opened,
                () = self.key.wait_until_replaced() => Err(KEY_REPLACED),
                () = over => Err(OVER),
            }
        };
        // On the heap, because the task would keep space for it as long as the stream is open.
        let opened = self.applier.run_until(Box::pin(opening)).await;
        match opened {
            Ok(events) => {
                tracing::info!("connected to upstream");
                self.read(events).await
            }
            Err(error) => {
                // The ID from the service is optional: an error because of it must not prevent reconnecting.
                if matches!(&error, ConnectionError::Status(status) if status.is_client_error()) {
                    self.requests.last_event_id = None;
                }
                error
            }
        }
    }

    async fn read(&mut self, events: Events) -> ConnectionError {
        let mut connection = UpstreamConnection::new(events);
        loop {
            let over = over(self.deadline);
            let next = async {
                tokio::select! {
                    event = connection.next_event(&mut self.key) => event,
                    () = over => UpstreamEvent::Received(Err(OVER)),
                }
            };
            match self.applier.run_until(next).await {
                UpstreamEvent::Received(event) => {
                    self.requests.last_event_id = connection.events.last_event_id();
                    if let Some(base) = connection.events.take_reconnection_time() {
                        self.reconnect.rebase(base);
                    }
                    let processed = match event {
                        Ok(event) => self.process(event).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = processed {
                        return error;
                    }
                }
                UpstreamEvent::Switched(Ok(switch)) => {
                    tracing::info!("connected to upstream with the new SDK key");
                    self.key.set_current(switch.key);
                    connection.events = switch.events;
                    Box::pin(self.take(switch.data)).await;
                }
                UpstreamEvent::Switched(Err(error)) => {
                    tracing::warn!(%error, "the new SDK key does not work upstream yet, using the old one");
                    connection.switching = Some(self.switch(self.switch_interval));
                }
                // Another change of the key also drops the pending connection.
                UpstreamEvent::SettingsChanged => {
                    connection.switching = self.key.is_replaced().then(|| self.switch(Duration::ZERO));
                }
            }
        }
    }

    /// Opens a connection with the wanted key and waits for its data.
    fn switch(&self, delay: Duration) -> Switching<Message> {
        self.requests.clone().switch_to(self.key.wanted(), delay)
    }

    async fn process(&mut self, event: Event) -> Result<(), ConnectionError> {
        let message = parse(event).await?;
        // On the heap, as above.
        Box::pin(self.take(message)).await;
        self.reconnect.mark_healthy();
        Ok(())
    }

    async fn take(&mut self, message: Message) {
        let Some(change) = self.without_refused(message) else {
            return self.environment.status.message_processed();
        };
        let is_put = matches!(change, Change::Put(_));
        self.applier.apply(change).await;
        if is_put {
            if !self.environment.status.current().has_received_data {
                tracing::info!("upstream stream is active");
            }
            self.environment.status.data_received();
        }
        self.environment.status.message_processed();
    }

    /// The change of a message, with present items in place of those that cannot be used.
    fn without_refused(&self, message: Message) -> Option<Change> {
        let Message { mut change, refused } = message;
        self.report_refused(&refused);
        if let (Some(Change::Put(items)), Some(held)) = (&mut change, self.applier.upstream_items()) {
            refused.iter().for_each(|it| items.keep(&held, it.kind, &it.key));
        }
        change
    }

    fn report_refused(&self, refused: &[RefusedItem]) {
        let Some(first) = refused.first() else { return };
        let problem = format!("{} of upstream's items refused, first {}", refused.len(), shortened(&first.problem));
        self.environment.status.note(ErrorKind::InvalidData, &problem);
        if let Some(suppressed) = self.refusals.next_line() {
            tracing::error!(problem, suppressed, "items from upstream cannot be used, keeping the present ones");
        }
    }

    fn report(&self, error: &ConnectionError) {
        let (kind, is_final) = error.kind();
        let environment = &self.environment;
        if is_final {
            environment.status.refused(kind, &error.to_string());
            tracing::error!(%error, "upstream rejected the SDK key, check it; retrying with increasing delays");
        } else {
            environment.status.interrupted(kind, &error.to_string());
            tracing::warn!(%error, "upstream stream interrupted");
        }
    }
}

impl Supervised for StreamTask {
    /// Runs until dropped. After a panic a new connection receives all data, which completes a partly applied change.
    async fn run(&mut self) {
        loop {
            self.connect_and_pause().await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.environment.status.task_failed(error);
    }
}

/// Waits until `deadline`, if there is one.
async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn log_reconnection(delay: Duration) {
    tracing::info!(seconds = format!("{:.4}", delay.as_secs_f64()), "reconnecting to upstream");
}
