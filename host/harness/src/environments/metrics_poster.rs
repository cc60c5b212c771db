//! Posts metrics on a timer, for each environment with its own token (F037 to F041).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;

use super::environment::HarnessEnvironment;
use crate::metrics::PostOutcome;
use crate::upstream::retry_delay::jittered;
use crate::upstream::{HttpClients, identification, url};

/// Posts the summed-up metrics of environments.
#[derive(Clone)]
pub(crate) struct MetricsPoster {
    pub(crate) http: HttpClients,
    pub(crate) base: String,
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
        let session = environment.session();
        let request = self.http.requests.post(url(&self.base, &["metrics", &session.identity.id]));
        let request = request.query(&[("cluster", &session.identity.cluster)]).headers(identification(&session));
        let request = request.bearer_auth(session.token.expose()).header(CONTENT_TYPE, "application/json").body(body);
        let outcome = match yardarm_vendor::upstream::send(request).await {
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
        };
        environment.counters.record_post(outcome == PostOutcome::Delivered);
        if outcome != PostOutcome::Delivered {
            tracing::warn!(?outcome, "metrics could not be posted");
        }
        outcome
    }
}
