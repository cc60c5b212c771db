//! Requests for the upstream stream, and the events of an open one.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use yardarm_core::supervisor::blocking;
use yardarm_vendor::upstream::{self, ConnectionError, Event, Events};

use super::key::UpstreamKey;
use crate::data::Change;
use crate::data::message::{self, Message};
use crate::identity::SdkKey;
use crate::upstream::HttpClients;

/// Longest message, in bytes, that is parsed where it was received, which takes less time than to wake another thread.
pub(super) const SHORT_MESSAGE: usize = 64 << 10;

/// Builds requests for the stream.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) http: HttpClients,
    pub(super) url: String,
    pub(super) instance_id: String,
    pub(super) last_event_id: Option<HeaderValue>,
}

/// A connection with another key that has received all data.
pub(super) struct Switch<T> {
    pub(super) key: SdkKey,
    pub(super) events: Events,
    /// The data, in the form of the protocol.
    pub(super) data: T,
}

/// An attempt to connect with another key.
pub(super) type Switching<T> = BoxFuture<'static, Result<Switch<T>, ConnectionError>>;

/// An open stream.
pub(super) struct UpstreamConnection<T> {
    pub(super) events: Events,
    /// The connection that takes its place, while the wanted key is another one.
    pub(super) switching: Option<Switching<T>>,
}

/// An event of an open stream.
pub(super) enum UpstreamEvent<T> {
    /// A message, or the end of the stream.
    Received(Result<Event, ConnectionError>),
    /// An attempt with another key has ended.
    Switched(Result<Switch<T>, ConnectionError>),
    /// Settings of the environment have changed, the key or others.
    SettingsChanged,
}

impl<T> UpstreamConnection<T> {
    pub(super) fn new(events: Events) -> Self {
        Self { events, switching: None }
    }

    /// Receives the next event. Cancel-safe.
    pub(super) async fn next_event(&mut self, key: &mut UpstreamKey) -> UpstreamEvent<T> {
        let switching = async {
            match &mut self.switching {
                Some(switching) => switching.await,
                None => std::future::pending().await,
            }
        };
        let switched = tokio::select! {
            event = self.events.next() => return UpstreamEvent::Received(event),
            () = key.wait_for_settings() => return UpstreamEvent::SettingsChanged,
            switched = switching => switched,
        };
        self.switching = None;
        UpstreamEvent::Switched(switched)
    }
}

impl Requests {
    pub(super) async fn open(self, key: SdkKey) -> Result<Events, ConnectionError> {
        let mut request = self
            .http
            .streams
            .get(&self.url)
            .header("authorization", key.expose())
            .header("cache-control", "no-cache")
            .header("x-launchdarkly-instance-id", &self.instance_id);
        if let Some(id) = self.last_event_id {
            request = request.header("last-event-id", id);
        }
        upstream::open(request, self.http.read_timeout).await
    }

    /// Opens a connection with another key after `delay`, and waits for its data.
    pub(super) fn switch_to(self, key: SdkKey, delay: Duration) -> Switching<Message> {
        async move {
            tokio::time::sleep(delay).await;
            let mut events = self.open(key.clone()).await?;
            loop {
                let data = parse(events.next().await?).await?;
                if matches!(data.change, Some(Change::Put(_))) {
                    return Ok(Switch { key, events, data });
                }
            }
        }
        .boxed()
    }
}

pub(super) async fn parse(event: Event) -> Result<Message, ConnectionError> {
    let Event { event: name, data, .. } = event;
    let parsed = if data.len() <= SHORT_MESSAGE {
        message::parse(&name, data)
    } else {
        // Megabytes of JSON take milliseconds, so they are parsed off the serving threads.
        let name = name.clone();
        blocking("upstream parser", move || message::parse(&name, data)).await?
    };
    parsed.map_err(|error| ConnectionError::message(&name, error.to_string()))
}
