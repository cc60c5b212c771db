//! What all telemetry of the process has in common.

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::Resource;

/// Beginning of the name that the library uses where no variable names the service.
const UNKNOWN: &str = "unknown_service";

/// Returns the attributes of the process. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come before ours.
pub(super) fn resource(service_name: &str) -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&Key::new("service.name")).map(|it| it.as_str().into_owned());
    let is_named = name.is_some_and(|it| !it.starts_with(UNKNOWN));
    let ours = [
        ("service.name", service_name.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", format!("{:032x}", rand::random::<u128>())),
        // The SDK of the vendor's relay; here the program is it.
        ("launchdarkly.relay.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let is_missing = |name: &str| match name {
        "service.name" => !is_named,
        _ => detected.get(&Key::new(name.to_owned())).is_none(),
    };
    let added = ours.into_iter().filter(|(name, _)| is_missing(name)).map(|(name, value)| KeyValue::new(name, value));
    Resource::builder().with_attributes(added).build()
}
