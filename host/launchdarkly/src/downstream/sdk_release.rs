//! What callers say about their SDK in `User-Agent`, or in the header that browsers use in its place.

use axum::extract::Request;
use http::HeaderValue;
use yardarm_core::SdkRelease;

/// Names that LaunchDarkly's SDKs have in their user agents.
const NAMES: &[&str] = &[
    "AndroidClient",
    "CClient",
    "CPPClient",
    "CPPServer",
    "CServerClient",
    "DotNetClient",
    "DotnetClientSide",
    "ElectronClient",
    "ErlangClient",
    "FlutterClient",
    "GoClient",
    "HaskellServerClient",
    "JSClient",
    "JavaClient",
    "NodeClientSide",
    "NodeJSClient",
    "PHPClient",
    "PythonClient",
    "ReactNativeClient",
    "RokuClient",
    "RubyClient",
    "RustServerClient",
    "XamarinClient",
    "iOS",
    "macOS",
    "tvOS",
    "watchOS",
];

/// Returns the SDK of a caller; `None` if it is not a known one.
pub(super) fn sdk_release(request: &Request) -> Option<SdkRelease> {
    let agent = value(|name| request.headers().get(name).map(HeaderValue::as_bytes));
    SdkRelease::parse(std::str::from_utf8(agent).ok()?, NAMES)
}

/// Returns the user agent of a caller; browsers cannot change `User-Agent`, so they have a header of their own.
pub(super) fn user_agent<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> String {
    String::from_utf8_lossy(value(header)).into_owned()
}

fn value<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> &'a [u8] {
    header("x-launchdarkly-user-agent").or_else(|| header("user-agent")).unwrap_or_default()
}
