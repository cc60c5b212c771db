//! What is served to Harness' SDKs. `routes` is the table of all paths, from which the router here is built, with the
//! handler of each.

mod auth;
mod client_auth;
mod compat_metrics;
mod configs;
mod edge;
mod evaluations;
mod health;
mod metrics;
mod metrics_endpoint;
mod rejection;
mod routes;
mod sdk_release;
mod state;
mod stream;
mod target;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::middleware;
use axum::routing::{MethodRouter, get};

use self::auth::RouteInfo;
pub use self::compat_metrics::metrics_document;
pub(crate) use self::compat_metrics::{CompatMetrics, registrations};
pub(crate) use self::edge::answer;
use self::edge::only;
use self::routes::{API, Credential, ROUTES, Route, RouteId, RouteMethod};
pub use self::routes::{owns, routes_document};
pub(crate) use self::state::Downstream;

/// Returns all routes, of which [`answer`] selects one.
pub(crate) fn routes(state: Downstream) -> Router {
    let state = Arc::new(state);
    let table = ROUTES.iter().fold(Router::new(), |table, row| table.route(row.path.as_str(), methods(&state, row)));
    let routes = table.with_state(state.clone());
    let fallback =
        get(edge::not_found).post(edge::not_found).put(edge::not_found).delete(edge::not_found).patch(edge::not_found);
    let guarded = fallback.layer(middleware::from_fn_with_state(state.clone(), auth::require_token));
    Router::new()
        .nest(API, routes.clone())
        .merge(routes)
        .fallback_service(Router::new().fallback_service(guarded))
        .layer(middleware::from_fn(edge::finish))
        .layer(middleware::from_fn_with_state(state, metrics_endpoint::count))
}

/// Returns the methods of a row, behind the check of its credential.
fn methods(state: &Arc<Downstream>, row: &Route) -> MethodRouter<Arc<Downstream>> {
    let methods = handler(row.id, row.method);
    let checked = match row.credential {
        Credential::EnvironmentToken => {
            methods.layer::<_, Infallible>(middleware::from_fn_with_state(state.clone(), auth::admit))
        }
        Credential::TokenAndKey => {
            methods.layer::<_, Infallible>(middleware::from_fn_with_state(state.clone(), auth::require_token))
        }
        // The handler checks the key.
        Credential::KeyInBody | Credential::None => methods,
    };
    checked.layer(Extension(RouteInfo { id: row.id, path: row.path.as_str(), sdk: row.audience.sdk() }))
}

/// Returns the handler of a route for `method`, and the response to other methods.
fn handler(id: RouteId, method: RouteMethod) -> MethodRouter<Arc<Downstream>> {
    match id {
        RouteId::PollFlags => only(method, configs::flags),
        RouteId::PollFlag => only(method, configs::flag),
        RouteId::PollSegments => only(method, configs::segments),
        RouteId::PollSegment => only(method, configs::segment),
        RouteId::EvaluateAll => only(method, evaluations::all),
        RouteId::EvaluateOne => only(method, evaluations::one),
        RouteId::Events => only(method, metrics::post),
        RouteId::Stream => only(method, stream::stream),
        RouteId::Auth => only(method, client_auth::exchange),
        RouteId::Health => only(method, health::health),
        RouteId::CompatMetrics => only(method, metrics_endpoint::show),
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(body: &bytes::Bytes) {
    client_auth::fuzz(body);
    target::fuzz(body);
}
