//! What is served to LaunchDarkly's SDKs. `routes` is the table of all paths, from which the router here is built, with the
//! handler of each.

mod auth;
mod client_fdv2;
pub(crate) mod compat_metrics;
mod context;
mod cors;
mod deliveries;
mod edge;
mod evaluation;
mod events;
mod fdv2;
mod goals;
mod polling;
mod query;
mod rejection;
mod routes;
mod sdk_release;
mod status;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::header::CONTENT_TYPE;
use yardarm_core::delivery::{DeliveryLimit, DeliveryReport};
use yardarm_core::hooks::Hooks;
use yardarm_core::metrics::{self, Families, catalog};
use yardarm_core::registry::StreamRegistry;
use yardarm_core::status::Status;

use self::auth::RouteInfo;
use self::compat_metrics::CompatMetrics;
pub use self::compat_metrics::metrics_document;
pub(crate) use self::edge::answer;
pub use self::routes::routes_document;
use self::routes::{ROUTES, Route, RouteId, RouteMethod};
use crate::config::Config;
use crate::environments::Environments;
use crate::events::Limits;
use crate::upstream::HttpClients;

/// State of the handlers.
pub(crate) struct Downstream {
    pub(crate) environments: Environments,
    pub(crate) config: Arc<Config>,
    pub(crate) http: HttpClients,
    pub(crate) hooks: Hooks,
    /// Limits for requests in flight.
    pub(crate) limits: Limits,
    pub(crate) streams: StreamRegistry,
    /// Limit of full deliveries at a time, if there is one.
    pub(crate) deliveries: Option<DeliveryLimit>,
    /// Metrics under the names of LaunchDarkly's relay, if they are enabled.
    pub(crate) compat_metrics: Option<CompatMetrics>,
    /// State of the auto-configuration stream, if there is one.
    pub(crate) auto_config: Option<Status>,
}

/// All routes, of which [`answer`] selects one.
pub(crate) fn routes(state: Downstream) -> Router {
    let state = Arc::new(state);
    let fdv2 = state.config.fdv2;
    let served = ROUTES.iter().filter(|it| fdv2 || !it.needs_fdv2);
    let table = served.fold(Router::new(), |table, row| table.route(&row.path.pattern(), methods(&state, row)));
    table.fallback(edge::not_found).method_not_allowed_fallback(edge::method_not_allowed).with_state(state)
}

/// The methods of a row, behind the check of its credential.
fn methods(state: &Arc<Downstream>, route: &'static Route) -> MethodRouter<Arc<Downstream>> {
    let methods = handler(route.id, route.method);
    let Some(audience) = route.audience else {
        return methods
            .layer(middleware::map_response(move |response: Response| async move { auth::tagged(response, route) }));
    };
    let methods = match audience.cors {
        Some(_) => methods.on(MethodFilter::OPTIONS, auth::preflight),
        None => methods,
    };
    let check = middleware::from_fn_with_state(state.clone(), auth::admit);
    // `route_layer`: a method without a route is answered 405 before the credential is checked.
    methods.route_layer(check).layer(Extension(RouteInfo { route, audience }))
}

/// Returns the handler of a route for `method`.
fn handler(id: RouteId, method: RouteMethod) -> MethodRouter<Arc<Downstream>> {
    let filter = match method {
        RouteMethod::Get => MethodFilter::GET,
        RouteMethod::Post => MethodFilter::POST,
        RouteMethod::Report => edge::REPORT,
        RouteMethod::PostOrReport => MethodFilter::POST.or(edge::REPORT),
    };
    match id {
        RouteId::Status => on(filter, status::status),
        RouteId::StatusNamed => on(filter, status::named),
        RouteId::StatusNamedFilter => on(filter, status::named_filter),
        RouteId::StatusKeyed => on(filter, status::keyed),
        RouteId::StatusKeyedFilter => on(filter, status::keyed_filter),
        RouteId::ServerStreamAll => on(filter, stream::all),
        RouteId::ServerStreamFlags => on(filter, stream::flags),
        RouteId::ServerStreamObjects => on(filter, fdv2::stream),
        RouteId::ServerPollFlags => on(filter, polling::flags),
        RouteId::ServerPollFlag => on(filter, polling::flag),
        RouteId::ServerPollSegment => on(filter, polling::segment),
        RouteId::ServerPollObjects => on(filter, fdv2::poll),
        RouteId::ServerPollEverything => on(filter, polling::everything),
        RouteId::MobileStreamPing | RouteId::ClientStreamPing => on(filter, stream::ping),
        RouteId::MobileStream | RouteId::ClientStream => on(filter, stream::from_path),
        RouteId::MobileStreamReport | RouteId::ClientStreamReport => on(filter, stream::from_body),
        RouteId::ServerEvaluate | RouteId::MobileEvaluate | RouteId::ClientEvaluate => {
            on(filter, evaluation::from_path)
        }
        RouteId::ServerEvaluateReport | RouteId::MobileEvaluateReport | RouteId::ClientEvaluateReport => {
            on(filter, evaluation::from_body)
        }
        RouteId::ClientEvaluateObjects => on(filter, client_fdv2::poll_from_path),
        RouteId::ClientEvaluateObjectsBody => on(filter, client_fdv2::poll_from_body),
        RouteId::ClientStreamObjects => on(filter, client_fdv2::stream_from_path),
        RouteId::ClientStreamObjectsBody => on(filter, client_fdv2::stream_from_body),
        RouteId::ServerEvents | RouteId::MobileEvents | RouteId::ClientEvents => on(filter, events::analytics),
        RouteId::ServerDiagnostic | RouteId::MobileDiagnostic | RouteId::ClientDiagnostic => {
            on(filter, events::diagnostic)
        }
        RouteId::ClientGoals => on(filter, goals::goals),
        RouteId::ClientPixel => on(filter, events::pixel),
    }
}

/// The route for scrapers of metrics, on a listener of its own.
pub(crate) fn metrics(compat_metrics: CompatMetrics) -> Router {
    let headers = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
    Router::new().route("/metrics", axum::routing::get(async move || (headers, compat_metrics.render())))
}

/// Adds the counts of full deliveries.
pub(crate) fn delivery_counts(families: &mut Families, report: DeliveryReport) {
    let DeliveryReport { held, waiting, admitted, refused, overdue } = report;
    for (metric, value) in [
        (&catalog::DELIVERIES, held),
        (&catalog::DELIVERIES_WAITING, waiting),
        (&catalog::DELIVERIES_ADMITTED, admitted),
        (&catalog::DELIVERIES_REFUSED, refused),
        (&catalog::DELIVERIES_OVERDUE, overdue),
    ] {
        families.sample(metric, &[], value);
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_segment(text: &str) {
    let _ = context::decode(text);
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_post(body: &[u8]) {
    events::fuzz_post(body);
}
