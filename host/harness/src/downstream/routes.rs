//! THE ROUTE TABLE of the Harness side.
//!
//! Router, checks, [`owns`], metrics under the relay's names and `docs/routes.md` derive from [`ROUTES`]. All routes exist
//! a second time below [`API`], where Harness itself serves them.

mod route;

use yardarm_vendor::routes::{first_segment, table};

use self::Audience::{Anyone, Clients, Sdks, Servers};
use self::Credential::{EnvironmentToken, KeyInBody, TokenAndKey};
pub(super) use self::route::{Audience, Credential, Route, RouteMethod};
use self::route::{get, post};

/// The prefix below which all routes exist a second time.
pub(super) const API: &str = "/api/1.0";

/// The methods that browsers are shown, which are the same for every path.
pub(super) const CORS_METHODS: &str = "GET,OPTIONS,POST";

/// The function of a route. One handler serves each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteId {
    PollFlags,
    PollFlag,
    PollSegments,
    PollSegment,
    EvaluateAll,
    EvaluateOne,
    Events,
    Stream,
    Auth,
    Health,
    CompatMetrics,
}

/// All routes, one row per path. `counted_as` is the pattern in metrics under the relay's names.
pub(super) const ROUTES: &[Route] = &[
    get("/client/env/{environment}/feature-configs", RouteId::PollFlags, Servers, EnvironmentToken)
        .counted_as("/client/env/:environment_uuid/feature-configs"),
    get("/client/env/{environment}/feature-configs/{item}", RouteId::PollFlag, Servers, EnvironmentToken)
        .counted_as("/client/env/:environment_uuid/feature-configs/:identifier"),
    get("/client/env/{environment}/target-segments", RouteId::PollSegments, Servers, EnvironmentToken)
        .counted_as("/client/env/:environment_uuid/target-segments"),
    get("/client/env/{environment}/target-segments/{item}", RouteId::PollSegment, Servers, EnvironmentToken)
        .counted_as("/client/env/:environment_uuid/target-segments/:identifier"),
    get("/client/env/{environment}/target/{target}/evaluations", RouteId::EvaluateAll, Clients, EnvironmentToken)
        .counted_as("/client/env/:environment_uuid/target/:target/evaluations"),
    get(
        "/client/env/{environment}/target/{target}/evaluations/{item}",
        RouteId::EvaluateOne,
        Clients,
        EnvironmentToken,
    )
    .counted_as("/client/env/:environment_uuid/target/:target/evaluations/:feature"),
    post("/metrics/{environment}", RouteId::Events, Sdks, EnvironmentToken).counted_as("/metrics/:environment_uuid"),
    // The relay's documents name this path; its code uses the other one.
    get("/client/env/{environment}/stream", RouteId::Stream, Sdks, TokenAndKey).counted_as("/stream"),
    get("/stream", RouteId::Stream, Sdks, TokenAndKey).counted_as("/stream"),
    post("/client/auth", RouteId::Auth, Sdks, KeyInBody).counted_as("/client/auth"),
    get("/health", RouteId::Health, Anyone, Credential::None),
    get("/metrics", RouteId::CompatMetrics, Anyone, Credential::None),
];

impl RouteId {
    /// Returns the identifier for plugins, bindings and metrics. Plugins are not called for the last two.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::PollFlags => "server.poll.flags",
            Self::PollFlag => "server.poll.flag",
            Self::PollSegments => "server.poll.segments",
            Self::PollSegment => "server.poll.segment",
            Self::EvaluateAll | Self::EvaluateOne => "client.evaluate",
            Self::Events => "server.events",
            Self::Stream => "server.stream",
            Self::Auth => "server.auth",
            Self::Health => "health",
            Self::CompatMetrics => "metrics",
        }
    }
}

/// Returns whether a path belongs to this side, where another vendor shares the listener.
#[must_use]
pub fn owns(path: &str) -> bool {
    let first = first_segment(within_api(path));
    first.is_some() && ROUTES.iter().any(|route| first_segment(route.path.as_str()) == first)
}

/// Returns a path without the prefix [`API`].
pub(super) fn within_api(path: &str) -> &str {
    path.strip_prefix(API).unwrap_or(path)
}

/// Returns the ID of the environment in a path, also if no route has the path.
pub(super) fn environment_id(path: &str) -> Option<&str> {
    let path = within_api(path);
    ROUTES.iter().find_map(|route| route.environment_id(path))
}

/// Returns the row of a matched path.
pub(super) fn find(matched: &str) -> Option<&'static Route> {
    let path = within_api(matched);
    ROUTES.iter().find(|route| route.path.as_str() == path)
}

/// Returns the documentation of the routes, in Markdown.
#[must_use]
pub fn routes_document() -> String {
    format!(
        "## Harness\n\nAll paths exist a second time below `{API}`, and all respond to `OPTIONS`.\n\n{}",
        table(ROUTES.iter().map(Route::line))
    )
}

#[cfg(test)]
mod tests;
