use std::collections::{BTreeMap, BTreeSet};

use axum::Router;

use super::*;
use crate::downstream::handler;

#[test]
fn every_route_id_has_a_row() {
    let present: BTreeSet<usize> = ROUTES.iter().map(|it| it.id as usize).collect();
    assert!(present.into_iter().eq(0..=RouteId::ClientPixel as usize));
}

#[test]
fn no_two_rows_serve_the_same_requests() {
    let requests: BTreeSet<_> = ROUTES.iter().map(|it| (it.path.pattern(), it.method)).collect();
    assert_eq!(requests.len(), ROUTES.len());
}

#[test]
fn identifiers_are_shared_only_by_other_forms_of_a_request() {
    let mut methods: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for route in ROUTES {
        let Some(audience) = route.audience else { continue };
        let id = route.id.as_str();
        assert_eq!(id.split('.').next(), Some(audience.kind.as_str()), "{route:?}");
        let function = methods.entry((id, route.method.as_str())).or_insert(route.id as usize);
        assert_eq!(*function, route.id as usize, "{route:?}");
    }
}

#[test]
fn polls_are_those_of_server_side_sdks() {
    for route in ROUTES {
        assert_eq!(route.id.is_poll(), route.id.as_str().starts_with("server.poll."), "{route:?}");
    }
}

#[test]
fn environment_ids_are_in_paths_of_browsers_only() {
    for route in ROUTES {
        let path = route.template.as_str().replace("{envId}", "ID").replace("{context}", "CONTEXT");
        let is_browser = route.audience.is_some_and(|it| it.credential == Credential::EnvironmentId);
        assert_eq!(route.environment_id(&path), is_browser.then_some("ID"), "{route:?}");
        let is_client = route.audience.is_some_and(|it| it.credential != Credential::Authorization);
        assert_eq!(route.audience.and_then(|it| it.cors).is_some(), is_client, "{route:?}");
    }
}

#[test]
fn a_path_of_two_templates_is_on_that_of_its_row() {
    let shared: Vec<_> = ROUTES.iter().filter(|it| it.path != it.template).collect();
    assert_eq!(shared.len(), 8);
    for route in shared {
        let values: Vec<_> = route.path.as_str().trim_start_matches("/sdk/evalx/").split('/').collect();
        let [family, form] = values[..] else { panic!("{route:?}") };
        let filled = route.template.as_str().replace("{envId}", family).replace("{context}", form);
        assert_eq!(filled, route.path.as_str());
        if route.method == Report {
            assert_eq!(route.environment_id(route.path.as_str()), Some(family));
        }
    }
}

#[test]
fn metrics_have_the_paths_of_the_reference() {
    let counted = |id| ROUTES.iter().find(|it| it.id == id).and_then(Route::counted_path);
    assert_eq!(counted(RouteId::ClientPixel), Some("/a/{envId}.gif"));
    assert_eq!(counted(RouteId::MobileStreamPing), None);
    assert_eq!(counted(RouteId::ServerStreamAll), Some("/all"));
}

#[test]
fn the_document_has_one_line_per_template() {
    let document = routes_document();
    assert_eq!(document.lines().filter(|it| it.starts_with("| `")).count(), ROUTES.len() - 8);
    let line = "| `/eval/{envId}` | REPORT,OPTIONS | `client.stream` | browser | environment ID in the path |";
    assert!(document.lines().any(|it| it == line), "{document}");
    let line = "| `/sdk/poll/eval` | POST,REPORT,OPTIONS | `client.evaluate.objects` | mobile and browser, with \
                `launchdarkly.fdv2` | mobile key or environment ID in `Authorization` or `auth` |";
    assert!(document.lines().any(|it| it == line), "{document}");
    assert!(document.contains("| `/sdk/poll` | GET | `server.poll.objects` | server-side, with `launchdarkly.fdv2` |"));
}

#[test]
fn the_router_accepts_every_row() {
    let table = ROUTES
        .iter()
        .fold(Router::new(), |table, route| table.route(&route.path.pattern(), handler(route.id, route.method)));
    assert!(table.has_routes());
}
