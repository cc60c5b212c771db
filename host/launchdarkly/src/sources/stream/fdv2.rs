//! FDv2 upstream (`launchdarkly.upstream_protocol = "fdv2"`): a poll for the first data, then a stream, and polls while the
//! stream is not available. If the service directs it, FDv1 is used for a while.
//!
//! Change sets become visible as a whole (`data/transfer.rs`). The state that the data is in is the `basis` of each
//! request, also after a restart, so that only later changes are sent.

mod requests;

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;
use yardarm_core::{InternalError, Supervised};
use yardarm_vendor::upstream::{ConnectionError, connection_span};

use self::requests::{
    FIRST_POLL_TIMEOUT, Fdv2Failure, Fdv2Requests, FirstTransfer, OpenTransfer, POLL_TIMEOUT, fallback_time, next_step,
};
use super::connection::{Switch, Switching, UpstreamConnection, UpstreamEvent};
use super::{KEY_REPLACED, StreamTask, log_reconnection};
use crate::config::Config;
use crate::data::transfer::Step;
use crate::sources::apply::Applier;

/// Failures of the stream, without data between them, after which polls take its place.
const FAILURES_BEFORE_POLLS: u32 = 2;
/// How long a stream whose head directs to FDv1 may take to send its first change set.
const LAST_TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ended because the service directs to FDv1.
const DIRECTED: ConnectionError = ConnectionError::Closed("upstream directs to FDv1");

/// The task that keeps one environment in sync by FDv2.
pub(crate) struct Fdv2Task {
    /// The stream of FDv1 for fallbacks. It owns the key, the applier and the delays of both.
    fdv1: StreamTask,
    requests: Fdv2Requests,
    /// Shortest time between polls.
    poll_interval: Duration,
    /// Whether data was received or confirmed by FDv2, so that no further poll comes before the stream.
    is_initialized: bool,
    /// When the use of FDv1 ends; `None` while FDv2 is used.
    fallback_until: Option<Instant>,
    /// Failures of the stream since it last sent data.
    failures: u32,
    polled_at: Option<Instant>,
    /// Whether the last poll succeeded, and the stream has sent nothing since.
    is_polling: bool,
}

impl Fdv2Task {
    /// `fdv1` has the environment, and is not run by other tasks.
    pub(crate) fn new(fdv1: StreamTask, config: &Config) -> Self {
        let requests = Fdv2Requests {
            http: fdv1.requests.http.clone(),
            stream_url: format!("{}/sdk/stream", config.stream_uri),
            poll_url: format!("{}/sdk/poll", config.base_uri),
            instance_id: fdv1.requests.instance_id.clone(),
        };
        Self {
            fdv1,
            requests,
            poll_interval: config.max_reconnect_delay,
            is_initialized: false,
            fallback_until: None,
            failures: 0,
            polled_at: None,
            is_polling: false,
        }
    }

    /// The applier, for another source in place of the stream.
    pub(in super::super) fn applier(&mut self) -> &mut Applier {
        self.fdv1.applier()
    }

    /// The first poll, if there is no data yet, and one connection, from request to end.
    async fn connect(&mut self) -> Fdv2Failure {
        self.fdv1.reconnect.mark_connecting();
        if !self.is_initialized {
            match self.poll(FIRST_POLL_TIMEOUT).await {
                Ok(()) => (),
                Err(failure) if failure.fallback.is_some() || is_unauthorized(&failure.error) => return failure,
                Err(failure) => tracing::warn!(error = %failure.error, "the first poll failed, opening the stream"),
            }
        }
        let basis = self.fdv1.applier.basis().cloned();
        let opening = self.requests.clone().open(self.fdv1.key.current().clone(), basis);
        let opening = async {
            tokio::select! {
                opened = opening => opened,
                () = self.fdv1.key.wait_until_replaced() => Err(KEY_REPLACED.into()),
            }
        };
        match self.fdv1.applier.run_until(Box::pin(opening)).await {
            Ok(opened) => {
                tracing::info!("connected to upstream");
                self.read(opened).await
            }
            Err(failure) => self.without_basis_if_bad(failure),
        }
    }

    async fn read(&mut self, opened: OpenTransfer) -> Fdv2Failure {
        let OpenTransfer { events, mut transfer, mut fallback } = opened;
        let mut connection = UpstreamConnection::new(events);
        let last_transfer = Instant::now() + LAST_TRANSFER_TIMEOUT;
        loop {
            let next = connection.next_event(&mut self.fdv1.key);
            let event = match fallback {
                None => self.fdv1.applier.run_until(next).await,
                Some(_) => match self.fdv1.applier.run_until(timeout_at(last_transfer, next)).await {
                    Ok(event) => event,
                    Err(_) => return Fdv2Failure { error: DIRECTED, fallback },
                },
            };
            let step = match event {
                UpstreamEvent::Received(Ok(event)) => next_step(event, &mut transfer).await,
                UpstreamEvent::Received(Err(error)) => Err(error),
                UpstreamEvent::Switched(Ok(switch)) => {
                    tracing::info!("connected to upstream with the new SDK key");
                    let Switch { key, events, data } = switch;
                    let FirstTransfer { transfer: new_transfer, set, fallback: new_fallback } = data;
                    self.fdv1.key.set_current(key);
                    (connection.events, transfer, fallback) = (events, new_transfer, new_fallback);
                    Ok(Step::Complete(set))
                }
                UpstreamEvent::Switched(Err(error)) => {
                    tracing::warn!(%error, "the new SDK key does not work upstream yet, using the old one");
                    connection.switching = Some(self.switch(self.fdv1.switch_interval));
                    continue;
                }
                UpstreamEvent::SettingsChanged => {
                    connection.switching = self.fdv1.key.is_replaced().then(|| self.switch(Duration::ZERO));
                    continue;
                }
            };
            if let Some(base) = connection.events.take_reconnection_time() {
                self.fdv1.reconnect.rebase(base);
            }
            let processed = match step {
                Ok(Step::Pending) => Ok(false),
                Ok(step) => Box::pin(self.take(step)).await,
                Err(error) => Err(Fdv2Failure { error, fallback }),
            };
            match processed {
                Ok(false) => (),
                Ok(true) if fallback.is_some() => return Fdv2Failure { error: DIRECTED, fallback },
                Ok(true) => {
                    self.fdv1.reconnect.mark_healthy();
                    (self.failures, self.is_polling) = (0, false);
                }
                Err(failure) => return failure,
            }
        }
    }

    /// Opens a connection with the wanted key and waits for its data.
    fn switch(&self, delay: Duration) -> Switching<FirstTransfer> {
        self.requests.clone().switch_to(self.fdv1.key.wanted(), delay)
    }

    /// Polls once, and applies the response.
    async fn poll(&mut self, timeout: Duration) -> Result<(), Fdv2Failure> {
        self.polled_at = Some(Instant::now());
        let basis = self.fdv1.applier.basis().cloned();
        let polling = self.requests.clone().poll(self.fdv1.key.current().clone(), basis, timeout);
        let polling = async {
            tokio::select! {
                polled = polling => polled,
                () = self.fdv1.key.wait_until_replaced() => Err(KEY_REPLACED.into()),
            }
        };
        let polled = self.fdv1.applier.run_until(Box::pin(polling)).await;
        let polled = polled.map_err(|failure| self.without_basis_if_bad(failure))?;
        for step in polled.steps {
            Box::pin(self.take(step)).await?;
        }
        self.fdv1.reconnect.mark_accepted();
        match polled.fallback {
            None => Ok(()),
            fallback => Err(Fdv2Failure { error: DIRECTED, fallback }),
        }
    }

    /// Processes a step; returns whether the data is the newest now.
    async fn take(&mut self, step: Step) -> Result<bool, Fdv2Failure> {
        match step {
            Step::Pending => return Ok(false),
            Step::UpToDate => self.fdv1.applier.confirm(),
            Step::Complete(set) => {
                self.fdv1.report_refused(&set.refused);
                self.fdv1.applier.apply_change_set(set).await;
            }
            Step::Goodbye(goodbye) => {
                tracing::info!(reason = goodbye.reason, "upstream closes the connection");
                let fallback = goodbye.fallback_seconds.map(fallback_time);
                return Err(Fdv2Failure { error: ConnectionError::Closed("upstream closes the connection"), fallback });
            }
        }
        self.is_initialized = true;
        let status = &self.fdv1.environment.status;
        let current = status.current();
        if !current.has_received_data {
            tracing::info!("upstream data is complete");
        }
        if !current.has_received_data || current.is_stale {
            status.data_received();
        }
        status.message_processed();
        Ok(true)
    }

    /// The failure; the basis is dropped if it may be the reason.
    fn without_basis_if_bad(&mut self, failure: Fdv2Failure) -> Fdv2Failure {
        if matches!(&failure.error, ConnectionError::Status(it) if matches!(it.as_u16(), 400 | 414 | 431)) {
            self.fdv1.applier.forget_basis();
        }
        failure
    }

    /// Waits for the delay or for a new key, and polls meanwhile if the stream has failed repeatedly, or is rejected while
    /// the key may be accepted.
    async fn pause(&mut self, error: &ConnectionError, delay: Duration) {
        let end = Instant::now() + delay;
        let is_unavailable = self.failures >= FAILURES_BEFORE_POLLS || error.is_rejection();
        while is_unavailable && !is_unauthorized(error) {
            let next = self.polled_at.map_or_else(Instant::now, |it| it + self.poll_interval);
            if next >= end {
                break;
            }
            if self.fdv1.pause(next.saturating_duration_since(Instant::now())).await {
                return;
            }
            let polled = self.poll(POLL_TIMEOUT).await;
            self.is_polling = polled.is_ok();
            match polled {
                Ok(()) => (),
                Err(Fdv2Failure { fallback: Some(time), .. }) => return self.fall_back(time),
                Err(Fdv2Failure { error, .. }) => self.fdv1.report(&error),
            }
        }
        self.fdv1.pause(end.saturating_duration_since(Instant::now())).await;
    }

    /// Uses FDv1 for `time`.
    fn fall_back(&mut self, time: Duration) {
        tracing::warn!(seconds = time.as_secs(), "upstream directs to FDv1, using it for a while");
        self.fallback_until = Some(Instant::now() + time);
        self.fdv1.reconnect.reset();
    }

    fn report(&self, error: &ConnectionError) {
        if self.is_polling {
            let (kind, _) = error.kind();
            self.fdv1.environment.status.note(kind, &error.to_string());
            tracing::warn!(%error, "upstream stream is not available, polling");
        } else {
            self.fdv1.report(error);
        }
    }
}

impl Supervised for Fdv2Task {
    /// Runs until dropped. After a panic everything is requested again, which completes a partly applied change.
    async fn run(&mut self) {
        loop {
            if let Some(end) = self.fallback_until {
                self.fdv1.run_until(end).await;
                tracing::info!("using FDv2 again");
                self.fallback_until = None;
                self.fdv1.reconnect.reset();
            }
            self.fdv1.key.take_wanted();
            let span = connection_span(&self.requests.stream_url);
            let failure = self.connect().instrument(span.clone()).await;
            if let Some(time) = failure.fallback {
                span.in_scope(|| self.fall_back(time));
                continue;
            }
            self.failures = self.failures.saturating_add(1);
            let delay = self.fdv1.reconnect.delay_after(&failure.error);
            span.in_scope(|| {
                self.report(&failure.error);
                log_reconnection(delay);
            });
            self.pause(&failure.error, delay).await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.fdv1.applier.forget_basis();
        self.fdv1.recover(error);
    }
}

/// Whether the key itself is rejected, which a poll would not change.
fn is_unauthorized(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Status(StatusCode::UNAUTHORIZED))
}
