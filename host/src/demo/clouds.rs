//! Fakes of both vendors' services, with an environment of each whose flags change over time.

use std::time::Duration;

use yardarm_fake_clouds::{FakeHarness, FakeLaunchDarkly};

use super::{harness, launchdarkly};

/// Texts that a flag of each vendor serves in turn.
pub(super) const BANNERS: [&str; 4] = ["Welcome aboard", "Fair winds", "Land ahoy", "All hands on deck"];
pub(super) const COLOURS: [&str; 3] = ["teal", "coral", "navy"];

/// The fakes of both vendors' services.
pub(crate) struct Clouds {
    pub(super) launchdarkly: FakeLaunchDarkly,
    pub(super) harness: FakeHarness,
}

impl Clouds {
    /// Starts both. `harness_environment` is the name that Harness has for its environment.
    pub(crate) async fn start(harness_environment: &str) -> Self {
        Self { launchdarkly: launchdarkly::cloud().await, harness: harness::cloud(harness_environment).await }
    }

    /// Changes one flag of each vendor after another, forever.
    pub(crate) async fn keep_changing(&self, interval: Duration) {
        tokio::join!(
            launchdarkly::keep_changing(&self.launchdarkly, interval),
            harness::keep_changing(&self.harness, interval),
        );
    }

    /// Returns the settings of a gateway that serves the environments of both, as environment variables. Events are
    /// forwarded at short intervals.
    pub(crate) fn settings(&self, launchdarkly_environment: &str) -> [(&'static str, String); 18] {
        let (url, harness_url) = (self.launchdarkly.url(), self.harness.url());
        [
            ("YARDARM_LAUNCHDARKLY_STREAM_URI", url.clone()),
            ("YARDARM_LAUNCHDARKLY_BASE_URI", url.clone()),
            ("YARDARM_LAUNCHDARKLY_EVENTS_URI", url),
            ("YARDARM_LAUNCHDARKLY_SEND_EVENTS", "true".to_owned()),
            ("YARDARM_LAUNCHDARKLY_EVENTS_FLUSH_INTERVAL", "1s".to_owned()),
            ("YARDARM_LAUNCHDARKLY_HEARTBEAT_INTERVAL", "15s".to_owned()),
            ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_NAME", launchdarkly_environment.to_owned()),
            ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_SDK_KEY", launchdarkly::SDK_KEY.to_owned()),
            ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_MOBILE_KEY", launchdarkly::MOBILE_KEY.to_owned()),
            ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_ENV_ID", launchdarkly::ENV_ID.to_owned()),
            ("YARDARM_HARNESS_CLIENT_SERVICE", harness_url.clone()),
            ("YARDARM_HARNESS_ADMIN_SERVICE", harness_url.clone()),
            ("YARDARM_HARNESS_METRIC_SERVICE", harness_url),
            ("YARDARM_HARNESS_METRIC_POST_INTERVAL", "1s".to_owned()),
            ("YARDARM_HARNESS_ACCOUNT", "demo".to_owned()),
            ("YARDARM_HARNESS_ORGANIZATION", "demo".to_owned()),
            ("YARDARM_HARNESS_ADMIN_TOKEN", FakeHarness::ADMIN_TOKEN.to_owned()),
            ("YARDARM_HARNESS_ENVIRONMENTS_0_API_KEY", harness::API_KEY.to_owned()),
        ]
    }
}
