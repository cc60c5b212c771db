//! Posts metrics on a timer, for each environment with its own token (F037 to F041). A read replica hands them to its
//! primary.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use yardarm_core::trace;
use yardarm_store::TextChange;

use super::environment::HarnessEnvironment;
use crate::metrics::PostOutcome;
use crate::shared_store::{SharedStore, metrics_entry};
use crate::upstream::retry_delay::jittered;
use crate::upstream::{HttpClients, identification, url};

/// Posts the summed-up metrics of environments.
#[derive(Clone)]
pub(crate) enum MetricsPoster {
    /// To Harness' service of this base address.
    Service(HttpClients, String),
    /// To the primary, which posts them.
    Primary(SharedStore),
}

impl MetricsPoster {
    /// Posts at intervals until dropped.
    pub(crate) async fn run(self, environment: Arc<HarnessEnvironment>, interval: Duration) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(jittered(interval)) => (),
                () = environment.metrics.wait_for_threshold() => (),
            }
            self.flush(&environment).await;
        }
    }

    /// Posts what has been summed up.
    pub(crate) async fn flush(&self, environment: &HarnessEnvironment) {
        environment.metrics.flush(|body| self.post(environment, body)).await;
    }

    async fn post(&self, environment: &HarnessEnvironment, body: Bytes) -> PostOutcome {
        let outcome = match self {
            Self::Service(http, base) => post(http, base, environment, body).await,
            Self::Primary(store) => hand_over(store, environment, &body).await,
        };
        environment.counters.record_post(outcome == PostOutcome::Delivered);
        if outcome != PostOutcome::Delivered {
            tracing::warn!(?outcome, "metrics could not be posted");
        }
        outcome
    }
}

/// Appends metrics to the stream that the primary reads.
async fn hand_over(store: &SharedStore, environment: &HarnessEnvironment, body: &Bytes) -> PostOutcome {
    let entry = metrics_entry(store, &environment.identity.id, body);
    match store.texts().apply(&[TextChange::Append(entry)]).await {
        Ok(()) => PostOutcome::Delivered,
        Err(error) => {
            tracing::warn!(%error, "metrics cannot be handed to the primary");
            PostOutcome::Later
        }
    }
}

/// Posts metrics to Harness' service.
async fn post(http: &HttpClients, base: &str, environment: &HarnessEnvironment, body: Bytes) -> PostOutcome {
    let session = environment.session();
    let request = http.requests.post(url(base, &["metrics", &session.identity.id]));
    let request = request.query(&[("cluster", &session.identity.cluster)]).headers(identification(&session));
    let request = request.bearer_auth(session.token.expose()).header(CONTENT_TYPE, "application/json").body(body);
    match trace::in_root("relay.events.dispatch", yardarm_vendor::upstream::send(request)).await {
        Err(error) => {
            tracing::warn!(%error, "metrics service cannot be reached");
            PostOutcome::Later
        }
        Ok(answer) => match answer.status().as_u16() {
            200 => PostOutcome::Delivered,
            400 | 413 => PostOutcome::Refused,
            code => {
                if matches!(code, 401 | 403) {
                    environment.request_token_refresh();
                }
                PostOutcome::Later
            }
        },
    }
}
