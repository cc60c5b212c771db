//! Compares every route with LaunchDarkly's own relay: one request per case, and the response the relay would send.
//!
//! Labels are rows (`L…`) of `docs/compatibility/launchdarkly.md`. Where no row decides, but Go's server, router or
//! proxy, the label is `Go`.

mod contexts;
mod cors;
mod goals;
mod paths;
mod posts;
mod requests;
mod routes;
mod users;

use yardarm_testkit::{Answer, Call, SseClient};

use crate::expected::{Expected, empty};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY};

/// The callers of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Server,
    Mobile,
    Browser,
}

/// The function of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Stream,
    Evaluation,
    Poll,
    Post,
    Goals,
    Pixel,
}

/// One route. Its number is the one behind the route in `host/launchdarkly/src/downstream/routes.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) row: u8,
    pub(crate) method: &'static str,
    /// `ENV` stands for an environment ID, `CTX` for a context.
    path: &'static str,
    pub(crate) caller: Caller,
    pub(crate) family: Family,
}

const fn row(row: u8, method: &'static str, path: &'static str, caller: Caller, family: Family) -> Route {
    Route { row, method, path, caller, family }
}

/// Every route but `/status`, which needs no credential.
pub(crate) const ROUTES: [Route; 35] = {
    use Caller::{Browser, Mobile, Server};
    use Family::{Evaluation, Goals, Pixel, Poll, Post, Stream};
    [
        row(2, "GET", "/all", Server, Stream),
        row(3, "GET", "/flags", Server, Stream),
        row(4, "GET", "/sdk/flags", Server, Poll),
        row(5, "GET", "/sdk/flags/plain", Server, Poll),
        row(6, "GET", "/sdk/segments/crew", Server, Poll),
        row(7, "GET", "/sdk/evalx/contexts/CTX", Server, Evaluation),
        row(8, "REPORT", "/sdk/evalx/context", Server, Evaluation),
        row(9, "GET", "/sdk/evalx/users/CTX", Server, Evaluation),
        row(10, "REPORT", "/sdk/evalx/user", Server, Evaluation),
        row(11, "POST", "/bulk", Server, Post),
        row(12, "POST", "/diagnostic", Server, Post),
        row(13, "GET", "/mping", Mobile, Stream),
        row(14, "GET", "/meval/CTX", Mobile, Stream),
        row(15, "REPORT", "/meval", Mobile, Stream),
        row(16, "GET", "/msdk/evalx/contexts/CTX", Mobile, Evaluation),
        row(17, "REPORT", "/msdk/evalx/context", Mobile, Evaluation),
        row(18, "GET", "/msdk/evalx/users/CTX", Mobile, Evaluation),
        row(19, "REPORT", "/msdk/evalx/user", Mobile, Evaluation),
        row(20, "POST", "/mobile", Mobile, Post),
        row(21, "POST", "/mobile/events", Mobile, Post),
        row(22, "POST", "/mobile/events/bulk", Mobile, Post),
        row(23, "POST", "/mobile/events/diagnostic", Mobile, Post),
        row(24, "GET", "/ping/ENV", Browser, Stream),
        row(25, "GET", "/eval/ENV/CTX", Browser, Stream),
        row(26, "REPORT", "/eval/ENV", Browser, Stream),
        row(27, "GET", "/sdk/evalx/ENV/contexts/CTX", Browser, Evaluation),
        row(28, "REPORT", "/sdk/evalx/ENV/context", Browser, Evaluation),
        row(29, "GET", "/sdk/evalx/ENV/users/CTX", Browser, Evaluation),
        row(30, "REPORT", "/sdk/evalx/ENV/user", Browser, Evaluation),
        // Decision R4.
        row(30, "REPORT", "/sdk/evalx/ENV/contexts", Browser, Evaluation),
        row(30, "REPORT", "/sdk/evalx/ENV/users", Browser, Evaluation),
        row(31, "GET", "/sdk/goals/ENV", Browser, Goals),
        row(32, "POST", "/events/bulk/ENV", Browser, Post),
        row(33, "POST", "/events/diagnostic/ENV", Browser, Post),
        row(34, "GET", "/a/ENV.gif", Browser, Pixel),
    ]
};

impl Route {
    /// Returns its path for an environment ID.
    pub(crate) fn path(&self, env_id: &str) -> String {
        self.path.replace("ENV", env_id).replace("CTX", CTX)
    }

    /// Returns the credential of its callers.
    pub(crate) fn credential(&self) -> Option<&'static str> {
        match self.caller {
            Caller::Server => Some(SDK_KEY),
            Caller::Mobile => Some(MOBILE_KEY),
            Caller::Browser => None,
        }
    }

    /// Returns a valid call except for its credential.
    pub(crate) fn call(&self, env_id: &str) -> Call {
        match self.method {
            "REPORT" => Call::report(self.path(env_id), r#"{"kind":"user","key":"a"}"#),
            "POST" => Call::post(self.path(env_id), r#"[{"kind":"x"}]"#),
            method => Call::new(method, self.path(env_id)),
        }
    }

    /// Returns a valid call.
    pub(crate) fn right(&self) -> Call {
        match self.credential() {
            Some(key) => self.call(ENV_ID).key(key),
            None => self.call(ENV_ID),
        }
    }

    /// Returns the methods that browsers are allowed to use.
    pub(crate) fn cors_methods(&self) -> Option<String> {
        (self.caller == Caller::Browser).then(|| format!("{},OPTIONS", self.method))
    }

    /// Adds the headers of responses after the environment was found.
    pub(crate) fn found(&self, expected: Expected) -> Expected {
        match self.cors_methods() {
            Some(methods) => expected.cors("*", &methods),
            None => expected,
        }
    }

    /// Adds the headers of responses when no environment was found.
    pub(crate) fn lost(&self, expected: Expected) -> Expected {
        match self.cors_methods() {
            Some(methods) => expected.cors_methods(&methods),
            None => expected,
        }
    }
}

/// The head of a stream (L052).
pub(super) fn stream_head() -> Expected {
    ["content-type: text/event-stream; charset=utf-8", "cache-control: no-cache, no-store, must-revalidate"]
        .into_iter()
        .chain(["connection: keep-alive", "x-accel-buffering: no"])
        .fold(empty(200), Expected::with)
}

/// Sends a request, and compares status, all headers and body; of a stream its head.
pub(super) async fn asks(gateway: &Running, label: &str, call: Call, expected: Expected, is_stream: bool) {
    if !is_stream {
        gateway.answers_as(label, call, expected).await;
        return;
    }
    let client = SseClient::open(gateway.address, &call).await;
    let head = client.head().clone();
    let framing = ["date", "content-length", "transfer-encoding"];
    let headers = head.headers.into_iter().filter(|(name, _)| !framing.contains(&name.as_str())).collect();
    let answer = Answer { status: head.status, headers, body: Default::default() };
    expected.compare(&format!("{label}: {call}"), &answer);
}
