//! THE ROUTE TABLE of the LaunchDarkly side: every path, one function.
//!
//! Each row has the path, the identifier of the route for plugins and metrics, the methods for CORS headers, and the
//! handlers. The number behind a row identifies the route in tests (`tests/launchdarkly/parity.rs`).

mod auth;
pub(crate) mod compat_metrics;
mod context;
mod edge;
mod evaluation;
mod events;
mod fdv2;
mod goals;
mod polling;
mod query;
mod rejection;
mod status;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::StreamRegistry;
use yardarm_core::status::Status;

use self::auth::{Audience, RouteInfo};
use self::compat_metrics::CompatMetrics;
use crate::config::Config;
use crate::environments::Environments;
use crate::events::Limits;
use crate::identity::SdkKind;
use crate::upstream::HttpClients;

/// State of the handlers.
#[derive(Clone)]
pub(crate) struct Downstream {
    pub(crate) environments: Environments,
    pub(crate) config: Arc<Config>,
    pub(crate) http: HttpClients,
    pub(crate) hooks: Hooks,
    /// Limits for requests in flight.
    pub(crate) limits: Limits,
    pub(crate) streams: StreamRegistry,
    /// Metrics under the names of LaunchDarkly's relay, if they are enabled.
    pub(crate) compat_metrics: Option<CompatMetrics>,
    /// State of the auto-configuration stream, if there is one.
    pub(crate) auto_config: Option<Status>,
}

type Routes = Router<Downstream>;

/// All routes.
pub(crate) fn routes(state: Downstream) -> Router {
    let speaks_fdv2 = state.config.fdv2;
    let mut table = Table { state: state.clone(), routes: Router::new() }
        .server("/all", "server.stream.all", get(stream::all)) // 2
        .server("/flags", "server.stream.flags", get(stream::flags)) // 3
        .server("/sdk/flags", "server.poll.flags", get(polling::flags)) // 4
        .server("/sdk/flags/{key}", "server.poll.flag", get(polling::flag)) // 5
        .server("/sdk/segments/{key}", "server.poll.segment", get(polling::segment)) // 6
        .server("/sdk/evalx/contexts/{context}", "server.evaluate", get(evaluation::from_path)) // 7
        .server("/sdk/evalx/context", "server.evaluate", report(evaluation::from_body)) // 8
        .server("/sdk/evalx/users/{context}", "server.evaluate", get(evaluation::from_path)) // 9
        .server("/sdk/evalx/user", "server.evaluate", report(evaluation::from_body)) // 10
        .server("/bulk", "server.events", post(events::analytics)) // 11
        .server("/diagnostic", "server.diagnostic", post(events::diagnostic)) // 12
        .mobile("/mping", "mobile.stream.ping", get(stream::ping)) // 13
        .mobile("/meval/{context}", "mobile.stream", get(stream::from_path)) // 14
        .mobile("/meval", "mobile.stream", report(stream::from_body)) // 15
        .mobile("/msdk/evalx/contexts/{context}", "mobile.evaluate", get(evaluation::from_path)) // 16
        .mobile("/msdk/evalx/context", "mobile.evaluate", report(evaluation::from_body)) // 17
        .mobile("/msdk/evalx/users/{context}", "mobile.evaluate", get(evaluation::from_path)) // 18
        .mobile("/msdk/evalx/user", "mobile.evaluate", report(evaluation::from_body)) // 19
        .mobile("/mobile", "mobile.events", post(events::analytics)) // 20
        .mobile("/mobile/events", "mobile.events", post(events::analytics)) // 21
        .mobile("/mobile/events/bulk", "mobile.events", post(events::analytics)) // 22
        .mobile("/mobile/events/diagnostic", "mobile.diagnostic", post(events::diagnostic)) // 23
        .browser("/ping/{envId}", "client.stream.ping", "GET,OPTIONS", get(stream::ping)) // 24
        .browser("/eval/{envId}/{context}", "client.stream", "GET,OPTIONS", get(stream::from_path)) // 25
        .browser("/eval/{envId}", "client.stream", "REPORT,OPTIONS", report(stream::from_body)) // 26
        .browser("/sdk/evalx/{envId}/contexts/{context}", "client.evaluate", "GET,OPTIONS", get(evaluation::from_path)) // 27
        .browser("/sdk/evalx/{envId}/context", "client.evaluate", "REPORT,OPTIONS", report(evaluation::from_body)) // 28
        .browser("/sdk/evalx/{envId}/users/{context}", "client.evaluate", "GET,OPTIONS", get(evaluation::from_path)) // 29
        .browser("/sdk/evalx/{envId}/user", "client.evaluate", "REPORT,OPTIONS", report(evaluation::from_body)) // 30
        // Two families share these paths: the variable is a context for servers and an environment ID for browsers, whose
        // methods come first.
        .shared("/sdk/evalx/contexts/context")
        .shared("/sdk/evalx/contexts/user")
        .shared("/sdk/evalx/users/context")
        .shared("/sdk/evalx/users/user")
        // Documentation names these two; the reference answers them 404 (decision R4).
        .browser("/sdk/evalx/{envId}/contexts", "client.evaluate", "REPORT,OPTIONS", report(evaluation::from_body))
        .browser("/sdk/evalx/{envId}/users", "client.evaluate", "REPORT,OPTIONS", report(evaluation::from_body))
        .browser("/sdk/goals/{envId}", "client.goals", "GET,OPTIONS", get(goals::goals)) // 31
        .browser("/events/bulk/{envId}", "client.events", "POST,OPTIONS", post(events::analytics)) // 32
        .browser("/events/diagnostic/{envId}", "client.diagnostic", "POST,OPTIONS", post(events::diagnostic)) // 33
        .browser("/a/{file}", "client.pixel", "GET,OPTIONS", get(events::pixel)); // 34
    if speaks_fdv2 {
        table = table.server("/sdk/poll", "server.poll.objects", get(fdv2::poll)).server(
            "/sdk/stream",
            "server.stream.objects",
            get(fdv2::stream),
        );
    }
    let routes = table
        .routes
        .route("/status", get(status::status)) // 1
        // L263: since later releases of the relay.
        .route("/status/{name}", get(status::named))
        .route("/status/{name}/filters/{filter}", get(status::named_filter))
        .route("/status/{name}/{environment}", get(status::keyed))
        .route("/status/{name}/{environment}/filters/{filter}", get(status::keyed_filter))
        .fallback(edge::not_found)
        .method_not_allowed_fallback(edge::method_not_allowed)
        .with_state(state);
    // Around the table, not within: layers of a router run after path and method have been matched.
    Router::new().fallback_service(routes).layer(middleware::from_fn(edge::normalise))
}

/// The route for scrapers of metrics, on a listener of its own.
pub(crate) fn metrics(compat_metrics: CompatMetrics) -> Router {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];
    Router::new().route("/metrics", axum::routing::get(async move || (headers, compat_metrics.render())))
}

/// Adds routes by audience, so that each row declares its callers.
struct Table {
    state: Downstream,
    routes: Routes,
}

impl Table {
    fn server(self, path: &'static str, id: &'static str, methods: MethodRouter<Downstream>) -> Self {
        self.add(path, RouteInfo { id, path, audience: Audience { kind: SdkKind::Server, methods: "" } }, methods)
    }

    fn mobile(self, path: &'static str, id: &'static str, methods: MethodRouter<Downstream>) -> Self {
        self.add(path, RouteInfo { id, path, audience: Audience { kind: SdkKind::Mobile, methods: "" } }, methods)
    }

    fn browser(
        self,
        path: &'static str,
        id: &'static str,
        cors_methods: &'static str,
        methods: MethodRouter<Downstream>,
    ) -> Self {
        let methods = methods.on(MethodFilter::OPTIONS, auth::preflight);
        self.add(
            path,
            RouteInfo { id, path, audience: Audience { kind: SdkKind::Browser, methods: cors_methods } },
            methods,
        )
    }

    fn shared(self, path: &'static str) -> Self {
        self.server(path, "server.evaluate", get(evaluation::from_path)).browser(
            path,
            "client.evaluate",
            "REPORT,OPTIONS",
            report(evaluation::from_body),
        )
    }

    fn add(mut self, path: &'static str, info: RouteInfo, methods: MethodRouter<Downstream>) -> Self {
        let check = middleware::from_fn_with_state(self.state.clone(), auth::admit);
        // `route_layer`: a method without a route is answered 405 before the credential is checked.
        self.routes = self.routes.route(path, methods.route_layer(check).layer(Extension(info)));
        self
    }
}

fn get<H: Handler<T, Downstream>, T: 'static>(handler: H) -> MethodRouter<Downstream> {
    on(MethodFilter::GET, handler)
}

fn post<H: Handler<T, Downstream>, T: 'static>(handler: H) -> MethodRouter<Downstream> {
    on(MethodFilter::POST, handler)
}

/// Routes `REPORT`, which LaunchDarkly's SDKs use like a `GET` with a body. Routers do not know the method, so
/// [`edge::normalise`] turns it into `PUT`, which this protocol does not use.
fn report<H: Handler<T, Downstream>, T: 'static>(handler: H) -> MethodRouter<Downstream> {
    on(edge::REPORT, handler)
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_segment(text: &str) {
    let _ = context::decode(text);
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_post(body: &[u8]) {
    events::fuzz_post(body);
}
