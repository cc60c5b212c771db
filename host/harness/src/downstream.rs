//! The route table of the Harness side.
//!
//! Each row names the identifier of the route, which plugins and metrics use. All routes exist a second time below
//! `/api/1.0`, where Harness itself serves them.

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
mod state;
mod stream;

use axum::Router;
use axum::extract::Extension;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodRouter, get, post};

use self::auth::RouteInfo;
pub(crate) use self::compat_metrics::CompatMetrics;
pub(crate) use self::state::Downstream;

/// Returns all routes.
pub(crate) fn routes(state: Downstream) -> Router {
    let table = Table { state: state.clone(), routes: Router::new() }
        .environment("/client/env/{environment}/feature-configs", "server.poll.flags", "server", read(configs::flags))
        .environment(
            "/client/env/{environment}/feature-configs/{item}",
            "server.poll.flag",
            "server",
            read(configs::flag),
        )
        .environment(
            "/client/env/{environment}/target-segments",
            "server.poll.segments",
            "server",
            read(configs::segments),
        )
        .environment(
            "/client/env/{environment}/target-segments/{item}",
            "server.poll.segment",
            "server",
            read(configs::segment),
        )
        .environment(
            "/client/env/{environment}/target/{target}/evaluations",
            "client.evaluate",
            "client",
            read(evaluations::all),
        )
        .environment(
            "/client/env/{environment}/target/{target}/evaluations/{item}",
            "client.evaluate",
            "client",
            read(evaluations::one),
        )
        .environment("/metrics/{environment}", "server.events", "server", write(metrics::post))
        // The relay's documents name this path; its code uses the other one.
        .stream("/client/env/{environment}/stream", read(stream::stream))
        .stream("/stream", read(stream::stream));
    let routes = table
        .routes
        .route("/client/auth", write(client_auth::exchange))
        .route("/health", read(health::health))
        .route("/metrics", read(metrics_endpoint::show))
        .with_state(state.clone());
    let fallback =
        get(edge::not_found).post(edge::not_found).put(edge::not_found).delete(edge::not_found).patch(edge::not_found);
    let guarded = fallback.layer(middleware::from_fn_with_state(state.clone(), auth::require_token));
    let routed = Router::new()
        .nest("/api/1.0", routes.clone())
        .merge(routes)
        .fallback_service(Router::new().fallback_service(guarded))
        .layer(middleware::from_fn(edge::finish))
        .layer(middleware::from_fn_with_state(state, metrics_endpoint::count));
    Router::new().fallback_service(routed).layer(middleware::from_fn(edge::repair_path))
}

/// Returns whether a path belongs to this side, where another vendor shares the listener.
#[must_use]
pub fn owns(path: &str) -> bool {
    let path = path.strip_prefix("/api/1.0").unwrap_or(path);
    ["/client", "/stream", "/metrics", "/health"]
        .iter()
        .any(|mine| path.strip_prefix(mine).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Returns the methods of a route that is read. `GET` does not imply `HEAD`, and the body of a 405 is that of the vendor's
/// relay.
fn read<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(handler: H) -> MethodRouter<S> {
    let reject = async || edge::method_not_allowed("GET");
    get(handler).head(reject).fallback(reject)
}

/// Returns the methods of a route that is posted to.
fn write<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(handler: H) -> MethodRouter<S> {
    post(handler).fallback(async || edge::method_not_allowed("POST"))
}

/// Adds routes with their checks, so that a row without a check is not possible.
struct Table {
    state: Downstream,
    routes: Router<Downstream>,
}

impl Table {
    /// Adds a route that requires a token for the environment in its path.
    fn environment(
        mut self,
        path: &'static str,
        id: &'static str,
        sdk: &'static str,
        methods: MethodRouter<Downstream>,
    ) -> Self {
        let check = middleware::from_fn_with_state(self.state.clone(), auth::admit);
        self.routes = self
            .routes
            .route(path, methods.layer::<_, std::convert::Infallible>(check).layer(Extension(RouteInfo { id, sdk })));
        self
    }

    /// Adds a route that requires a token, and a key in addition.
    fn stream(mut self, path: &'static str, methods: MethodRouter<Downstream>) -> Self {
        let check = middleware::from_fn_with_state(self.state.clone(), auth::require_token);
        let info = RouteInfo { id: "server.stream", sdk: "server" };
        self.routes =
            self.routes.route(path, methods.layer::<_, std::convert::Infallible>(check).layer(Extension(info)));
        self
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(body: &bytes::Bytes) {
    client_auth::fuzz(body);
    evaluations::fuzz(body);
}
