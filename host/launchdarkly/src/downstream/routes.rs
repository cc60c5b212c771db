//! THE ROUTE TABLE of the LaunchDarkly side.
//!
//! Router, checks, metrics under the relay's names and `docs/routes.md` derive from [`ROUTES`]. The number behind a row
//! identifies the route in tests (`tests/launchdarkly/parity.rs`).

mod route;

use yardarm_vendor::routes::table;

use self::RouteMethod::{Get, Post, PostOrReport, Report};
pub(super) use self::route::{Audience, Credential, Route, RouteMethod};
use self::route::{browser, client, mobile, open, server};

/// The function of a route. One handler serves each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteId {
    Status,
    StatusNamed,
    StatusNamedFilter,
    StatusKeyed,
    StatusKeyedFilter,
    ServerStreamAll,
    ServerStreamFlags,
    ServerStreamObjects,
    ServerPollFlags,
    ServerPollFlag,
    ServerPollSegment,
    ServerPollObjects,
    ServerPollEverything,
    ServerEvaluate,
    ServerEvaluateReport,
    ServerEvents,
    ServerDiagnostic,
    MobileStreamPing,
    MobileStream,
    MobileStreamReport,
    MobileEvaluate,
    MobileEvaluateReport,
    MobileEvents,
    MobileDiagnostic,
    ClientStreamPing,
    ClientStream,
    ClientStreamReport,
    ClientEvaluate,
    ClientEvaluateReport,
    ClientEvaluateObjects,
    ClientEvaluateObjectsBody,
    ClientStreamObjects,
    ClientStreamObjectsBody,
    ClientGoals,
    ClientEvents,
    ClientDiagnostic,
    ClientPixel,
}

/// All routes, one row per path and kind of SDK.
pub(super) const ROUTES: &[Route] = &[
    open(Get, "/status", RouteId::Status), // 1
    // L263: since later releases of the relay.
    open(Get, "/status/{name}", RouteId::StatusNamed),
    open(Get, "/status/{name}/filters/{filter}", RouteId::StatusNamedFilter),
    open(Get, "/status/{name}/{environment}", RouteId::StatusKeyed),
    open(Get, "/status/{name}/{environment}/filters/{filter}", RouteId::StatusKeyedFilter),
    server(Get, "/all", RouteId::ServerStreamAll),                  // 2
    server(Get, "/flags", RouteId::ServerStreamFlags),              // 3
    server(Get, "/sdk/flags", RouteId::ServerPollFlags),            // 4
    server(Get, "/sdk/flags/{key}", RouteId::ServerPollFlag),       // 5
    server(Get, "/sdk/segments/{key}", RouteId::ServerPollSegment), // 6
    server(Get, "/sdk/evalx/contexts/{context}", RouteId::ServerEvaluate), // 7
    server(Report, "/sdk/evalx/context", RouteId::ServerEvaluateReport), // 8
    server(Get, "/sdk/evalx/users/{context}", RouteId::ServerEvaluate), // 9
    server(Report, "/sdk/evalx/user", RouteId::ServerEvaluateReport), // 10
    server(Post, "/bulk", RouteId::ServerEvents),                   // 11
    server(Post, "/diagnostic", RouteId::ServerDiagnostic),         // 12
    server(Get, "/sdk/poll", RouteId::ServerPollObjects).with_fdv2(),
    server(Get, "/sdk/stream", RouteId::ServerStreamObjects).with_fdv2(),
    // Not in the reference, but SDKs fall back to it.
    server(Get, "/sdk/latest-all", RouteId::ServerPollEverything),
    // The reference does not count this one.
    mobile(Get, "/mping", RouteId::MobileStreamPing).uncounted(), // 13
    mobile(Get, "/meval/{context}", RouteId::MobileStream),       // 14
    mobile(Report, "/meval", RouteId::MobileStreamReport),        // 15
    mobile(Get, "/msdk/evalx/contexts/{context}", RouteId::MobileEvaluate), // 16
    mobile(Report, "/msdk/evalx/context", RouteId::MobileEvaluateReport), // 17
    mobile(Get, "/msdk/evalx/users/{context}", RouteId::MobileEvaluate), // 18
    mobile(Report, "/msdk/evalx/user", RouteId::MobileEvaluateReport), // 19
    mobile(Post, "/mobile", RouteId::MobileEvents),               // 20
    mobile(Post, "/mobile/events", RouteId::MobileEvents),        // 21
    mobile(Post, "/mobile/events/bulk", RouteId::MobileEvents),   // 22
    mobile(Post, "/mobile/events/diagnostic", RouteId::MobileDiagnostic), // 23
    browser(Get, "/ping/{envId}", RouteId::ClientStreamPing),     // 24
    browser(Get, "/eval/{envId}/{context}", RouteId::ClientStream), // 25
    browser(Report, "/eval/{envId}", RouteId::ClientStreamReport), // 26
    browser(Get, "/sdk/evalx/{envId}/contexts/{context}", RouteId::ClientEvaluate), // 27
    browser(Report, "/sdk/evalx/{envId}/context", RouteId::ClientEvaluateReport), // 28
    browser(Get, "/sdk/evalx/{envId}/users/{context}", RouteId::ClientEvaluate), // 29
    browser(Report, "/sdk/evalx/{envId}/user", RouteId::ClientEvaluateReport), // 30
    // Documentation names these two; the reference answers them 404 (decision R4).
    browser(Report, "/sdk/evalx/{envId}/contexts", RouteId::ClientEvaluateReport),
    browser(Report, "/sdk/evalx/{envId}/users", RouteId::ClientEvaluateReport),
    browser(Get, "/sdk/goals/{envId}", RouteId::ClientGoals), // 31
    browser(Post, "/events/bulk/{envId}", RouteId::ClientEvents), // 32
    browser(Post, "/events/diagnostic/{envId}", RouteId::ClientDiagnostic), // 33
    browser(Get, "/a/{envId}.gif", RouteId::ClientPixel),     // 34
    client(Get, "/sdk/poll/eval/{context}", RouteId::ClientEvaluateObjects),
    client(PostOrReport, "/sdk/poll/eval", RouteId::ClientEvaluateObjectsBody),
    client(Get, "/sdk/stream/eval/{context}", RouteId::ClientStreamObjects),
    client(PostOrReport, "/sdk/stream/eval", RouteId::ClientStreamObjectsBody),
    // Four paths are on two templates: the variable is a context for servers and an environment ID for browsers.
    server(Get, "/sdk/evalx/contexts/{context}", RouteId::ServerEvaluate).at("/sdk/evalx/contexts/context"),
    browser(Report, "/sdk/evalx/{envId}/context", RouteId::ClientEvaluateReport).at("/sdk/evalx/contexts/context"),
    server(Get, "/sdk/evalx/contexts/{context}", RouteId::ServerEvaluate).at("/sdk/evalx/contexts/user"),
    browser(Report, "/sdk/evalx/{envId}/user", RouteId::ClientEvaluateReport).at("/sdk/evalx/contexts/user"),
    server(Get, "/sdk/evalx/users/{context}", RouteId::ServerEvaluate).at("/sdk/evalx/users/context"),
    browser(Report, "/sdk/evalx/{envId}/context", RouteId::ClientEvaluateReport).at("/sdk/evalx/users/context"),
    server(Get, "/sdk/evalx/users/{context}", RouteId::ServerEvaluate).at("/sdk/evalx/users/user"),
    browser(Report, "/sdk/evalx/{envId}/user", RouteId::ClientEvaluateReport).at("/sdk/evalx/users/user"),
];

impl RouteId {
    /// Returns the identifier for plugins, bindings and metrics. Routes that differ only in how the context is sent share
    /// one. Plugins are not called for status routes.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Status
            | Self::StatusNamed
            | Self::StatusNamedFilter
            | Self::StatusKeyed
            | Self::StatusKeyedFilter => "status",
            Self::ServerStreamAll => "server.stream.all",
            Self::ServerStreamFlags => "server.stream.flags",
            Self::ServerStreamObjects => "server.stream.objects",
            Self::ServerPollFlags => "server.poll.flags",
            Self::ServerPollFlag => "server.poll.flag",
            Self::ServerPollSegment => "server.poll.segment",
            Self::ServerPollObjects => "server.poll.objects",
            Self::ServerPollEverything => "server.poll.everything",
            Self::ServerEvaluate | Self::ServerEvaluateReport => "server.evaluate",
            Self::ServerEvents => "server.events",
            Self::ServerDiagnostic => "server.diagnostic",
            Self::MobileStreamPing => "mobile.stream.ping",
            Self::MobileStream | Self::MobileStreamReport => "mobile.stream",
            Self::MobileEvaluate | Self::MobileEvaluateReport => "mobile.evaluate",
            Self::MobileEvents => "mobile.events",
            Self::MobileDiagnostic => "mobile.diagnostic",
            Self::ClientStreamPing => "client.stream.ping",
            Self::ClientStream | Self::ClientStreamReport => "client.stream",
            Self::ClientEvaluate | Self::ClientEvaluateReport => "client.evaluate",
            Self::ClientEvaluateObjects | Self::ClientEvaluateObjectsBody => "client.evaluate.objects",
            Self::ClientStreamObjects | Self::ClientStreamObjectsBody => "client.stream.objects",
            Self::ClientGoals => "client.goals",
            Self::ClientEvents => "client.events",
            Self::ClientDiagnostic => "client.diagnostic",
            Self::ClientPixel => "client.pixel",
        }
    }

    /// Returns whether requests count as polls under the names of LaunchDarkly's relay.
    pub(super) const fn is_poll(self) -> bool {
        matches!(
            self,
            Self::ServerPollFlags
                | Self::ServerPollFlag
                | Self::ServerPollSegment
                | Self::ServerPollObjects
                | Self::ServerPollEverything
        )
    }
}

/// Returns the documentation of the routes, in Markdown.
#[must_use]
pub fn routes_document() -> String {
    format!("## LaunchDarkly\n\n{}", table(ROUTES.iter().filter_map(Route::line)))
}

#[cfg(test)]
mod tests;
