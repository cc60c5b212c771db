//! What callers say about their SDK in `Harness-SDK-Info`, such as `NodeJS 1.8.12 Server`.

use http::HeaderMap;
use yardarm_core::SdkRelease;

/// Names of Harness' SDKs in this header.
const NAMES: &[&str] = &[
    ".NET",
    "Android",
    "Erlang",
    "Flutter",
    "Go",
    "Java",
    "Javascript",
    "NodeJS",
    "PHP",
    "Python",
    "ReactNative",
    "Ruby",
    "Rust",
    "Xamarin",
    "iOS",
];

/// Returns the SDK of a caller; `None` if it is not a known one.
pub(super) fn sdk_release(headers: &HeaderMap) -> Option<SdkRelease> {
    SdkRelease::parse(headers.get("harness-sdk-info")?.to_str().ok()?, NAMES)
}
