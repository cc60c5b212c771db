//! Both vendors' routes on one listener. Their paths are different, so SDKs of both can share it.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use tower::ServiceExt;

/// The routes of the vendors that are configured. Where both are, LaunchDarkly's side answers what neither knows.
pub(crate) fn routes(launchdarkly: Option<Router>, harness: Option<Router>) -> Router {
    match (launchdarkly, harness) {
        (Some(launchdarkly), Some(harness)) => {
            Router::new().fallback(dispatch).with_state(Sides { launchdarkly, harness })
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => Router::new(),
    }
}

#[derive(Clone)]
struct Sides {
    launchdarkly: Router,
    harness: Router,
}

async fn dispatch(State(sides): State<Sides>, request: Request) -> Response {
    let side = if yardarm_harness::owns(request.uri().path()) { sides.harness } else { sides.launchdarkly };
    side.oneshot(request).await.unwrap_or_else(|never| match never {})
}
