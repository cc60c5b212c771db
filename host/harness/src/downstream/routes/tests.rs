use std::collections::{BTreeMap, BTreeSet};

use axum::Router;

use super::*;
use crate::downstream::handler;

#[test]
fn every_route_id_has_a_row() {
    let present: BTreeSet<usize> = ROUTES.iter().map(|it| it.id as usize).collect();
    assert!(present.into_iter().eq(0..=RouteId::CompatMetrics as usize));
}

#[test]
fn paths_are_unique() {
    let paths: BTreeSet<_> = ROUTES.iter().map(|it| it.path).collect();
    assert_eq!(paths.len(), ROUTES.len());
}

#[test]
fn only_evaluations_share_an_identifier() {
    let mut ids: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for route in ROUTES {
        ids.entry(route.id.as_str()).or_default().insert(route.id as usize);
    }
    let shared: Vec<_> = ids.into_iter().filter(|(_, functions)| functions.len() > 1).map(|(id, _)| id).collect();
    assert_eq!(shared, ["client.evaluate"]);
}

#[test]
fn identifiers_begin_with_the_kind_of_sdk() {
    for route in ROUTES.iter().filter(|it| it.credential != Credential::None) {
        assert_eq!(route.id.as_str().split('.').next(), Some(route.audience.sdk()), "{route:?}");
    }
}

#[test]
fn a_token_of_an_environment_requires_one_in_the_path() {
    for route in ROUTES.iter().filter(|it| it.credential == EnvironmentToken) {
        let path = route.path.as_str().replace("{environment}", "ID");
        assert_eq!(environment_id(&path), Some("ID"), "{route:?}");
        assert_eq!(environment_id(&format!("{API}{path}")), Some("ID"), "{route:?}");
    }
    for (path, id) in [("/client/env/x", Some("x")), ("/metrics/", Some("")), ("/metrics", None), ("/stream/x", None)] {
        assert_eq!(environment_id(path), id, "{path}");
    }
}

#[test]
fn the_paths_of_every_row_are_owned() {
    for route in ROUTES {
        let path = route.path.as_str();
        assert!(owns(path) && owns(&format!("{API}{path}")), "{path}");
    }
    for path in ["/client", "/client/", "/stream/x", "/metrics/x/y", "/health", "/api/1.0/health"] {
        assert!(owns(path), "{path}");
    }
}

#[test]
fn paths_of_others_are_not_owned() {
    for path in [
        "/",
        "",
        "*",
        "client",
        "/all",
        "/flags",
        "/status",
        "/mobile/events",
        "/sdk/evalx/x/context",
        "/events/bulk/x",
        "/meval",
        "/clients",
        "/streams",
        "/metricsx",
        "/api/1.0",
        "/api/1.0/all",
        "/api/1.0/api/1.0/health",
        "/api/2.0/health",
    ] {
        assert!(!owns(path), "{path}");
    }
}

#[test]
fn matched_paths_are_found_with_and_without_the_prefix() {
    for route in ROUTES {
        let path = route.path.as_str();
        for matched in [path.to_owned(), format!("{API}{path}")] {
            assert_eq!(find(&matched).map(|it| it.path), Some(route.path));
        }
    }
    assert!(find("/client/env/x/stream").is_none());
}

#[test]
fn the_relay_counts_routes_of_sdks_only() {
    for route in ROUTES {
        assert_eq!(route.counted_as.is_some(), route.audience != Anyone, "{route:?}");
    }
}

#[test]
fn the_document_has_one_line_per_row() {
    let document = routes_document();
    assert_eq!(document.lines().filter(|it| it.starts_with("| `")).count(), ROUTES.len());
    let line =
        "| `/stream` | GET | `server.stream` | server and client | token in `Authorization` and API key in `API-Key` |";
    assert!(document.lines().any(|it| it == line), "{document}");
}

#[test]
fn the_router_accepts_every_row() {
    let table = ROUTES
        .iter()
        .fold(Router::new(), |table, route| table.route(&route.path.pattern(), handler(route.id, route.method)));
    assert!(table.has_routes());
}
