//! Opens the stream of events (F019, F026 to F031, F113, F114).

use http::header::CACHE_CONTROL;
use yardarm_core::Secret;
use yardarm_vendor::upstream::{ConnectionError, Events};

use super::client::HttpClients;
use super::request::identification;
use super::url;
use crate::identity::Session;

/// Opens the stream at a path below `base`, of all environments that `key` leads to.
pub(crate) async fn open(
    http: &HttpClients,
    base: &str,
    path: &[&str],
    session: &Session,
    key: &Secret,
) -> Result<Events, ConnectionError> {
    let request = http.streams.get(url(base, path)).headers(identification(session));
    let request = request.query(&[("cluster", &session.identity.cluster)]);
    let request = request.bearer_auth(session.token.expose()).header("api-key", key.expose());
    // `Accept` is set by the library below `yardarm_vendor::upstream::open`.
    yardarm_vendor::upstream::open(request.header(CACHE_CONTROL, "no-cache"), http.read_timeout).await
}
