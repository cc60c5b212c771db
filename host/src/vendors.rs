//! The vendors' sides, and their routes on one listener or each on its own.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use yardarm_core::delivery::DeliveryReport;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport};
use yardarm_vendor::side::{Parts, StartError, VendorSide};

use crate::config::Config;

/// The sides of the configured vendors. Where they share a listener, the first one gets the paths that no other owns.
pub(crate) struct Vendors(Vec<Arc<dyn VendorSide>>);

impl Vendors {
    /// Starts the configured sides. Files of theirs are in folders of their own below that of `parts`.
    pub(crate) async fn start(config: &Config, parts: &Parts) -> Result<Self, StartError> {
        let within = |folder| Parts { data_dir: parts.data_dir.as_ref().map(|it| it.join(folder)), ..parts.clone() };
        let mut sides: Vec<Arc<dyn VendorSide>> = Vec::new();
        if let Some(config) = config.launchdarkly.clone() {
            sides.push(Arc::new(yardarm_launchdarkly::start(config, within("launchdarkly")).await?));
        }
        if let Some(config) = config.harness.clone() {
            sides.push(Arc::new(yardarm_harness::start(config, within("harness")).await?));
        }
        Ok(Self(sides))
    }

    /// Checks whether the sides could use the files that they need besides the data folder; returns what prevents it.
    /// Blocks.
    pub(crate) fn check(config: &Config) -> Vec<StartError> {
        let launchdarkly = config.launchdarkly.as_ref().map(yardarm_launchdarkly::check);
        let harness = config.harness.as_ref().map(yardarm_harness::check);
        [launchdarkly, harness].into_iter().flatten().filter_map(Result::err).collect()
    }

    /// Returns the side of one vendor, for what only that vendor has.
    pub(crate) fn side<S: VendorSide>(&self) -> Option<&S> {
        self.0.iter().find_map(|it| {
            let side: &dyn Any = it.as_ref();
            side.downcast_ref()
        })
    }

    /// Returns the routes of one vendor, for a listener of its own.
    pub(crate) fn routes_of(&self, vendor: &str) -> Option<Routes> {
        self.0.iter().find(|it| it.name() == vendor).map(|it| Routes([Arc::clone(it)].into()))
    }

    /// Returns the routes of all vendors but those in `apart`, for one listener.
    pub(crate) fn shared_routes(&self, apart: &[&str]) -> Routes {
        Routes(self.0.iter().filter(|it| !apart.contains(&it.name())).cloned().collect())
    }

    /// Returns the metrics under the names of the vendors' own relays, where a side serves them on a listener of its own.
    pub(crate) fn compat_metrics(&self) -> Option<Router> {
        self.0.iter().find_map(|it| it.compat_metrics())
    }

    /// Returns the reports of all environments, grouped by vendor.
    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        self.0.iter().flat_map(|it| it.reports()).collect()
    }

    /// Returns the states of the lists of environments that vendors' services provide.
    pub(crate) fn list_reports(&self) -> Vec<EnvironmentListReport> {
        self.0.iter().filter_map(|it| it.list_report()).collect()
    }

    /// Returns the counts of full deliveries of each vendor that limits them.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only exporters read them"))]
    pub(crate) fn delivery_reports(&self) -> Vec<DeliveryReport> {
        self.0.iter().filter_map(|it| it.delivery_report()).collect()
    }

    /// Sends every event that waits; ready once all of them have arrived or are lost.
    pub(crate) async fn flush_events(&self) {
        futures_util::future::join_all(self.0.iter().map(|it| it.flush_events())).await;
    }
}

/// The routes of the sides that share a listener. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Routes(Arc<[Arc<dyn VendorSide>]>);

impl Routes {
    /// Answers a request by the side that owns its path.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let path = request.uri().path();
        let owner = self.0.iter().skip(1).find(|side| side.owns(path)).or(self.0.first());
        match owner {
            Some(side) => side.answer(request).await,
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}
