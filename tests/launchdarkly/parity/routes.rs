//! All routes, credentials and methods in all states of an environment.

use serde_json::json;
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamAnswer};

use super::super::{auto_config, offline};
use super::{Caller, Family, ROUTES, Route, asks, stream_head};
use crate::expected::{Expected, TEXT_A, TEXT_C, TEXT_D, TEXT_E, empty, json as json_answer, not_initialized, text};
use crate::flags::{by_key, flag, segment, some_data};
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

/// States of an environment (L038 to L051).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unlisted,
    Starting,
    Empty,
    Ready,
    Rejected,
    Offline,
}

const METHODS: [&str; 13] =
    ["GET", "POST", "REPORT", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get", "report", "Post"];

const PIXEL: [u8; 42] = [
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 0xf9, 4, 1, 0, 0, 0,
    0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 0x44, 0, 0x3b,
];

const DISABLED: &str = r#"{"message":"Event proxy is not enabled for this environment"}"#;

impl State {
    /// Returns the response of a route to a caller with a valid credential.
    fn answer(self, route: &Route) -> Expected {
        if self == Self::Unlisted {
            return route.lost(text(503, TEXT_A));
        }
        // V051: on every response once the credential has matched.
        self.answer_of_environment(route).with(&format!("x-ld-envid: {ENV_ID}"))
    }

    fn answer_of_environment(self, route: &Route) -> Expected {
        match self {
            // V047, V054: a rejection may heal without a change in the application.
            Self::Unlisted | Self::Starting | Self::Rejected => return route.lost(text(503, TEXT_E)),
            Self::Empty | Self::Ready | Self::Offline => (),
        }
        let answer = match route.family {
            Family::Stream => {
                let head = stream_head();
                // The CORS headers (L162) contain the origin already.
                return if route.caller == Caller::Browser {
                    route.found(head)
                } else {
                    head.with("access-control-allow-origin: *")
                };
            }
            Family::Evaluation | Family::Poll if self == Self::Empty => not_initialized(),
            Family::Evaluation => json_answer(200, json!({"plain": {"value": true, "variation": 0, "version": 3}})),
            Family::Poll => match route.row {
                4 => json_answer(200, by_key([flag("plain", 3)])).with("etag: relay-7958a0a3e057e9d"),
                5 => json_answer(200, flag("plain", 3)).with("etag: relay-3"),
                _ => json_answer(200, segment("crew", 2)).with("etag: relay-2"),
            },
            Family::Post => empty(202),
            Family::Goals if self == Self::Offline => json_answer(200, json!([])),
            Family::Goals => json_answer(200, json!([{"goal": 1}])),
            Family::Pixel if self == Self::Offline => text(503, DISABLED),
            Family::Pixel => empty(200).bytes(&PIXEL).with("content-type: image/gif"),
        };
        route.found(answer)
    }

    /// Returns the response of a route to a caller with an unknown credential. Before the list of environments has
    /// arrived, no credential is known or unknown.
    fn unknown_caller(self, route: &Route) -> Expected {
        if self == Self::Unlisted { route.lost(text(503, TEXT_A)) } else { unknown(route) }
    }

    /// Returns the response to a preflight.
    fn preflight(self, route: &Route) -> Expected {
        match self {
            Self::Unlisted | Self::Starting | Self::Rejected => self.answer(route),
            Self::Empty | Self::Ready | Self::Offline => route.found(empty(200)).with(&format!("x-ld-envid: {ENV_ID}")),
        }
    }

    fn streams(self, route: &Route) -> bool {
        route.family == Family::Stream && matches!(self, Self::Empty | Self::Ready | Self::Offline)
    }
}

fn unknown(route: &Route) -> Expected {
    route.lost(if route.caller == Caller::Browser { text(404, TEXT_D) } else { text(401, TEXT_C) })
}

/// Requests every route with every credential, and with every method.
async fn asks_everything(gateway: &Running, state: State) {
    for route in &ROUTES {
        let label = |of: &str| format!("{state:?}, route {}, {of}", route.row);
        let is_stream = state.streams(route);
        asks(gateway, &label("right"), route.right(), state.answer(route), is_stream).await;
        match route.credential() {
            None => {
                let unknown = state.unknown_caller(route);
                asks(gateway, &label("L031, L032, L214"), route.call("unknown"), unknown.clone(), false).await;
                asks(gateway, &label("a key is no ID"), route.call(SDK_KEY), unknown.clone(), false).await;
                let nonsense = route.right().key("nonsense");
                asks(gateway, &label("L035"), nonsense, state.answer(route), is_stream).await;
                let preflight = |id: &str| Call::options(route.path(id)).header("Access-Control-Request-Method", "GET");
                asks(gateway, &label("L167 to L169"), preflight(ENV_ID), state.preflight(route), false).await;
                asks(gateway, &label("L031"), preflight("unknown"), unknown, false).await;
            }
            Some(key) => {
                let wrong_kind = if key == SDK_KEY { MOBILE_KEY } else { SDK_KEY };
                let call = || route.call(ENV_ID);
                for malformed in ["", "Bearer x", &format!("API_KEY {key}"), &format!("{key} x")] {
                    asks(gateway, &label("L023, L026"), call().key(malformed), empty(401), false).await;
                }
                asks(gateway, &label("L023"), call(), empty(401), false).await;
                for unknown in [wrong_kind, ENV_ID, "unknown", "api_key", "api_key unknown", "schl\u{fc}ssel"] {
                    asks(gateway, &label("L022"), call().key(unknown), state.unknown_caller(route), false).await;
                }
                let prefixed = call().key(&format!("api_key  {key}"));
                asks(gateway, &label("L024"), prefixed, state.answer(route), is_stream).await;
                let second = call().key("unknown").key(key);
                asks(gateway, &label("L022: the first counts"), second, state.unknown_caller(route), false).await;
            }
        }
        for method in METHODS {
            if method == route.method || (method == "OPTIONS" && route.caller == Caller::Browser) {
                continue;
            }
            let call = Call::new(method, route.path(ENV_ID)).key(route.credential().unwrap_or_default());
            asks(gateway, &label("L005, L009"), call, empty(405), false).await;
            // Rejected before the credential is checked.
            asks(gateway, &label("L006"), Call::new(method, route.path("unknown")), empty(405), false).await;
        }
    }
}

#[tokio::test]
async fn when_ready() {
    let gateway = Setup::with(some_data()).events().start().await;
    asks_everything(&gateway, State::Ready).await;
}

#[tokio::test]
async fn when_starting() {
    let setup = Setup::new().set("launchdarkly.init_timeout", "1h").events().without_waiting();
    asks_everything(&setup.start().await, State::Starting).await;
}

#[tokio::test]
async fn when_empty() {
    let setup = Setup::new().set("launchdarkly.init_timeout", "20ms").events();
    asks_everything(&setup.start().await, State::Empty).await;
}

#[tokio::test]
async fn when_rejected() {
    let rejecting = |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Status(401)]);
    let setup = Setup::new().set("launchdarkly.rejected_retry_interval", "1h").prepare(rejecting).events();
    asks_everything(&setup.start().await, State::Rejected).await;
}

#[tokio::test]
async fn when_unlisted() {
    let gateway = auto_config::setup().events().start().await;
    asks_everything(&gateway, State::Unlisted).await;
}

#[tokio::test]
async fn when_offline() {
    let (_folder, setup) = offline::archived(some_data());
    asks_everything(&setup.events().start().await, State::Offline).await;
}
