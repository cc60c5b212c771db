//! The routes of both vendors, on one listener or on one each. Their paths differ, so SDKs of both can share a
//! listener.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use tower::ServiceExt;

/// Names of the vendors.
pub(crate) const LAUNCHDARKLY: &str = "launchdarkly";
pub(crate) const HARNESS: &str = "harness";

/// The routes of the vendors that are configured.
#[derive(Default)]
pub(crate) struct VendorRouters {
    pub(crate) launchdarkly: Option<Router>,
    pub(crate) harness: Option<Router>,
}

impl VendorRouters {
    /// Removes and returns a vendor's routes, for a listener of its own.
    pub(crate) fn take(&mut self, vendor: &str) -> Option<Router> {
        if vendor == HARNESS { self.harness.take() } else { self.launchdarkly.take() }
    }

    /// Returns the remaining routes for one listener. With both vendors, LaunchDarkly's side responds to paths of
    /// neither.
    pub(crate) fn together(self) -> Router {
        match (self.launchdarkly, self.harness) {
            (Some(launchdarkly), Some(harness)) => {
                Router::new().fallback(dispatch).with_state(Both { launchdarkly, harness })
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => Router::new(),
        }
    }
}

#[derive(Clone)]
struct Both {
    launchdarkly: Router,
    harness: Router,
}

async fn dispatch(State(routers): State<Both>, request: Request) -> Response {
    let side = if yardarm_harness::owns(request.uri().path()) { routers.harness } else { routers.launchdarkly };
    side.oneshot(request).await.unwrap_or_else(|never| match never {})
}
