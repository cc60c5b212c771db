//! L001 to L015, L022 to L037, L235 to L238: paths and queries in every encoding.

use serde_json::json;
use yardarm_testkit::Call;

use super::{ROUTES, asks, stream_head};
use crate::expected::{TEXT_B, TEXT_C, TEXT_D, empty, json as json_answer, message, page_not_found, some_json, text};
use crate::flags::{by_key, data, flag, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

async fn gateway() -> Running {
    Setup::with(some_data()).events().start().await
}

fn get(path: impl Into<String>) -> Call {
    Call::get(path).key(SDK_KEY)
}

/// Returns the same path with every letter and digit escaped.
fn escaped(path: &str) -> String {
    path.chars().map(|it| if it.is_ascii_alphanumeric() { format!("%{:02x}", it as u32) } else { it.into() }).collect()
}

#[tokio::test]
async fn an_escaped_letter_is_a_letter() {
    // L012, L013: matched on the decoded path. A key that does not exist shows that the route was found.
    let gateway = gateway().await;
    for route in &ROUTES {
        let expected = match route.credential() {
            Some(_) => empty(401),
            None => route.lost(text(404, TEXT_D)),
        };
        let call = Call::new(route.method, escaped(&route.path("nobody")));
        gateway.answers_as("L013", call, expected).await;
    }
    gateway.answers_as("L013", Call::get(escaped("/status")), some_json(200)).await;
    gateway.answers_as("L012, L013", get("/sdk%2Fflags%2fplain"), some_json(200).with("etag: relay-3")).await;
    asks(&gateway, "L012, L013", Call::get(format!("/ping%2F{ENV_ID}")), stream_head().cors("*", "GET,OPTIONS"), true)
        .await;
    let goals = Call::get(format!("/sdk/goals/{}", escaped(ENV_ID)));
    gateway.answers_as("Go: as it was written", goals, some_json(200).cors("*", "GET,OPTIONS")).await;
    let request = gateway.upstream.requests().into_iter().find(|it| it.path.starts_with("/sdk/goals")).unwrap();
    assert_eq!(request.path, format!("/sdk/goals/{}", escaped(ENV_ID)));
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let gateway = gateway().await;
    let long = "a".repeat(20_000);
    for path in [
        "/all/",
        "/flags/",
        "/status/",
        "/sdk",
        "/sdk/",
        "/sdk/flags/",
        "/sdk/flags/a/b",
        "/sdk/segments",
        "/sdk/segments/",
        "/sdk/evalx",
        "/sdk/evalx/",
        "/sdk/evalx/contexts",
        "/sdk/evalx/contexts/",
        "/bulk/",
        "/diagnostic/",
        "/mping/",
        "/mping/x",
        "/meval/",
        "/meval/a/b",
        "/msdk/evalx",
        "/msdk/evalx/contexts/",
        "/msdk/evalx/x/contexts/y",
        "/mobile/",
        "/mobile/x",
        "/mobile/events/",
        "/mobile/events/bulk/",
        "/ping",
        "/ping/",
        "/ping/a/b",
        "/eval",
        "/eval/",
        "/eval/a/",
        "/eval/a/b/c",
        "/sdk/goals",
        "/sdk/goals/",
        "/sdk/goals/a/b",
        "/events",
        "/events/bulk",
        "/events/bulk/",
        "/events/bulk/a/b",
        "/events/diagnostic",
        "/events/diagnostic/",
        "/a",
        "/a/",
        "/a/.gif",
        "/a/x",
        "/a/x.GIF",
        "/a/x.gif/",
        "/a/x.gif/y",
        "/a/x.gi",
        "/sdk/evalx/x/contexts/a/b",
        "/sdk/evalx/x/y",
        "/sdk/evalx/x/y/z",
        "/All",
        "/sdk/Flags",
        "/metrics",
        "/sdk/flags%2F",
        "/sdk/flags/a%2Fb",
        "/meval/a%2Fb",
        "/eval/a%2fb/c%2Fd",
        "/%61ll%2f",
        "/all%00",
        "/all%20",
        "/all;x",
        "/all,",
        "/favicon.ico",
        "/...",
        "/.well-known",
        &format!("/{long}"),
        "/\u{e9}",
        "/%ff",
        "/sdk/polling",
    ] {
        for method in ["GET", "POST", "REPORT", "OPTIONS", "PUT", "BREW"] {
            let call = Call::new(method, path).key(SDK_KEY);
            gateway.answers_as("L001, L003, L012, L014", call, page_not_found()).await;
        }
        let head = gateway.answers(&Call::new("HEAD", path)).await;
        assert_eq!(head.status, 404, "{path}");
    }
}

#[tokio::test]
async fn unclean_paths_are_redirected_in_gos_spelling() {
    let gateway = gateway().await;
    for (path, location) in [
        ("//", "/"),
        ("//all", "/all"),
        ("/all//", "/all/"),
        ("/all/.", "/all"),
        ("/./all?x=%zz", "/all?x=%zz"),
        ("/x/../status?a=1&b", "/status?a=1&b"),
        ("//all?", "/all?"),
        ("/../../all", "/all"),
        ("/..", "/"),
        ("/eval//x", "/eval/x"),
        ("/sdk/evalx//contexts/x", "/sdk/evalx/contexts/x"),
        // Decoded first, so escapes can be unclean too; what Go escapes in paths is escaped again.
        ("/%2Fall", "/all"),
        ("/a%2F%2Fb", "/a/b"),
        ("/%2e%2E/all", "/all"),
        ("/a/%2e/b%20c", "/a/b%20c"),
        ("//a%2Fb", "/a/b"),
        ("//%41%c3%a9%ff%3f%25", "/A%C3%A9%FF%3F%25"),
        ("//a!b'(c)*;d:e@f=g&h+i,j$k~", "/a%21b%27%28c%29%2A;d:e@f=g&h+i,j$k~"),
        ("//\u{e9}", "/%C3%A9"),
        ("http://gateway.test//all?x", "http://gateway.test/all?x"),
        ("*", "/%2A"),
    ] {
        for method in ["GET", "POST", "REPORT", "HEAD", "BREW"] {
            let moved = empty(301).with(&format!("location: {location}"));
            gateway.answers_as("L010, L011", Call::new(method, path), moved).await;
        }
    }
    let moved = empty(301).with("location: /ping/x");
    gateway.answers_as("L010: before anything else", Call::options("//ping/x"), moved).await;
}

#[tokio::test]
async fn two_families_share_a_prefix() {
    let gateway = gateway().await;
    let no_context = message(400, "context part of URL path did not decode to valid evaluation context as JSON");
    let no_id = |methods: &str| text(404, TEXT_D).cors_methods(methods);
    for of in ["contexts", "users"] {
        for context in ["context", "user"] {
            let path = format!("/sdk/evalx/{of}/{context}");
            gateway.answers_as("two families: a server's context", get(&path), no_context.clone()).await;
            gateway.answers_as("two families: a server's context", Call::get(&path), empty(401)).await;
            gateway
                .answers_as("two families: browsers first", Call::report(&path, "{}"), no_id("REPORT,OPTIONS"))
                .await;
            gateway.answers_as("two families: browsers first", Call::options(&path), no_id("REPORT,OPTIONS")).await;
            gateway.answers_as("two families", Call::post(&path, "{}"), empty(405)).await;
        }
        for context in ["contexts", "users"] {
            let path = format!("/sdk/evalx/{of}/{context}");
            gateway.answers_as("two families: no alias here", Call::report(&path, "{}"), empty(405)).await;
            let path = format!("{path}/{CTX}");
            gateway.answers_as("two families: browsers first", Call::get(&path), no_id("GET,OPTIONS")).await;
            gateway.answers_as("two families: browsers first", Call::options(&path), no_id("GET,OPTIONS")).await;
        }
    }
    let path = format!("/sdk/evalx/context/contexts/{CTX}");
    gateway.answers_as("two families", Call::get(path), no_id("GET,OPTIONS")).await;
}

#[tokio::test]
async fn variables_are_decoded_once() {
    let keys = ["a b", "a+b", "%20", "\u{e9}", "a?b", "a#b", "..a", "{}", "\n"];
    let flags = keys.iter().zip(1..).map(|(key, version)| flag(key, version));
    let environment = json!({"name": "odd", "sdk_key": SDK_KEY, "env_id": "odd id+%\u{e9}"});
    let setup = Setup::with(data(flags, [])).environments([environment]).events();
    let gateway = setup.start().await;
    for (path, version) in [
        ("a%20b", 1),
        ("a+b", 2),
        ("a%2Bb", 2),
        ("%2520", 3),
        ("%C3%A9", 4),
        ("\u{e9}", 4),
        ("a%3Fb", 5),
        ("a%23b", 6),
        ("..a", 7),
        ("%2e.a", 7),
        ("{}", 8),
        ("%7B%7D", 8),
        ("%0A", 9),
    ] {
        let answer = gateway.answers(&get(format!("/sdk/flags/{path}"))).await;
        assert_eq!((answer.status, answer.json()["version"].as_i64()), (200, Some(version)), "L013: {path}");
    }
    for nothing in ["%ff", "%C3", "%00", "%ff%20b"] {
        gateway.answers_as("Go: bytes are a key too", get(format!("/sdk/flags/{nothing}")), empty(404)).await;
    }
    for (id, is_known) in [
        ("odd%20id+%25%C3%A9", true),
        ("odd%20id%2B%25\u{e9}", true),
        ("odd+id+%25%C3%A9", false),
        ("odd%20id+%2525%C3%A9", false),
        ("odd%20id+%25%C3%A9%20", false),
    ] {
        let expected =
            if is_known { empty(200).cors("*", "GET,OPTIONS") } else { text(404, TEXT_D).cors_methods("GET,OPTIONS") };
        gateway.answers_as("L031", Call::options(format!("/ping/{id}")), expected.clone()).await;
        gateway.answers_as("L031", Call::options(format!("/a/{id}.gif")), expected).await;
    }
}

#[tokio::test]
async fn the_first_readable_filter_counts() {
    let setup = Setup::with(some_data()).environment(json!({"filters": ["a"]})).events();
    let gateway = setup.data(&format!("{SDK_KEY}?filter=a"), data([flag("part", 2)], [])).start().await;
    let whole = || json_answer(200, by_key([flag("plain", 3)])).with("etag: relay-7958a0a3e057e9d");
    let part = || some_json(200).with("etag: relay-e90a5c7cfd8a9c5");
    for (query, expected) in [
        ("", whole()),
        ("?", whole()),
        ("?filter", whole()),
        ("?filter=", whole()),
        ("?filter=&filter=a", whole()),
        ("?filter=%zz", whole()),
        ("?filter=%", whole()),
        ("?filter=%+f", whole()),
        ("?filter=a;b", whole()),
        ("?filter=a;", whole()),
        ("?FILTER=a", whole()),
        ("?filters=a", whole()),
        ("?filter%3Da", whole()),
        ("?x?filter=a", whole()),
        ("?filter[]=a", whole()),
    ] {
        gateway.answers_as("L238", get(format!("/sdk/flags{query}")), expected).await;
    }
    for query in [
        "filter=a",
        "filter=a&filter=b",
        "filter=%61",
        "%66ilter=a",
        "filter=%zz&filter=a",
        "&&filter=a&",
        "x=1;y&filter=a",
        "filter=a#x",
        "=&filter=a",
    ] {
        gateway.answers_as("L235", get(format!("/sdk/flags?{query}")), part()).await;
    }
    for query in [
        "filter=A",
        "filter=b&filter=a",
        "filter=a%20",
        "filter=+a",
        "filter=a=b",
        "filter=%ff",
        "filter=%00",
        "filter=a?",
        "filter==a",
    ] {
        gateway.answers_as("L236", get(format!("/sdk/flags?{query}")), text(404, TEXT_B)).await;
    }
    for route in &ROUTES {
        let with = |filter: &str| format!("{}?filter={filter}", route.path(ENV_ID));
        let call = |filter: &str| match route.credential() {
            Some(key) => Call::new(route.method, with(filter)).key(key),
            None => Call::new(route.method, with(filter)),
        };
        gateway.answers_as("L215, L236, L237", call("unknown"), route.lost(text(404, TEXT_B))).await;
        if route.cors_methods().is_some() {
            let preflight = Call::options(with("unknown"));
            gateway.answers_as("L237", preflight, route.lost(text(404, TEXT_B))).await;
            gateway.answers_as("L235, L167", Call::options(with("a")), route.found(empty(200))).await;
        } else {
            let unknown = Call::new(route.method, with("unknown")).key("unknown");
            gateway.answers_as("L022, L236", unknown, text(401, TEXT_C)).await;
        }
    }
    let mobile = Call::get(format!("/msdk/evalx/contexts/{CTX}?filter=a")).key(MOBILE_KEY);
    let evaluated = json!({"part": {"value": true, "variation": 0, "version": 2}});
    gateway.answers_as("L235", mobile, json_answer(200, evaluated)).await;
}
