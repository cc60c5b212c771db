//! L080 to L095: the streams of mobile and browser SDKs, which only announce that something changed.

use serde_json::json;
use yardarm_testkit::{Call, StreamItem};

use super::server::shown;
use crate::expected::{ALLOWED_HEADERS, Expected, empty, message, text};
use crate::flags::{data, flag, flag_with, segment, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

const USER: &str = r#"{"kind":"user","key":"a"}"#;

fn streams() -> [(&'static str, Call); 6] {
    [
        ("L080", Call::get("/mping").key(MOBILE_KEY)),
        ("L081", Call::get(format!("/meval/{CTX}?withReasons=true")).key(MOBILE_KEY)),
        ("L082", Call::report("/meval", USER).key(MOBILE_KEY)),
        ("L083", Call::get(format!("/ping/{ENV_ID}"))),
        ("L084", Call::get(format!("/eval/{ENV_ID}/{CTX}"))),
        ("L085", Call::report(format!("/eval/{ENV_ID}"), USER)),
    ]
}

async fn all(gateway: &Running) -> Vec<Sdk> {
    let mut all = Vec::new();
    for (_, call) in streams() {
        let mut sdk = gateway.opens_with(&call).await;
        sdk.receives_ping().await;
        all.push(sdk);
    }
    all
}

#[tokio::test]
async fn six_streams_send_a_ping_at_once_and_after_every_change() {
    let gateway = Setup::with(some_data()).start().await;
    let upstream = gateway.upstream.clone();
    let mut sdks = all(&gateway).await; // L080 to L085
    let hidden = json!({"clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false}});
    let changes: [(&str, &dyn Fn()); 7] = [
        ("L086", &|| upstream.patches(SDK_KEY, &flag("plain", 4))),
        ("L087", &|| upstream.patches(SDK_KEY, &flag_with("hidden", 1, hidden.clone()))),
        ("L086: a segment", &|| upstream.patches_segment(SDK_KEY, &segment("crew", 3))),
        ("L086: an old version", &|| upstream.patches(SDK_KEY, &flag("plain", 1))),
        ("L086: a deletion", &|| upstream.deletes(SDK_KEY, "/flags/plain", 9)),
        ("L086: a segment's deletion", &|| upstream.deletes(SDK_KEY, "/segments/crew", 9)),
        ("L088", &|| upstream.puts(SDK_KEY, &data([flag("plain", 10)], []))),
    ];
    for (_, change) in changes {
        change();
        // L086, L095: exactly one, and nothing else: a second one would be received after the next change.
        for sdk in &mut sdks {
            sdk.receives_ping().await;
        }
    }
    let chunk = sdks[0].client().chunks()[0].clone();
    assert_eq!(chunk, "event: ping\ndata:  \n\n", "L080: one space of data, 21 bytes");
    // No more pings than changes: the next item on each stream is its end.
    let mut gateway_stops = std::pin::pin!(gateway.stop());
    let mut ends = std::pin::pin!(async {
        for sdk in &mut sdks {
            sdk.receives_end().await;
        }
    });
    futures_util::future::join(gateway_stops.as_mut(), ends.as_mut()).await;
}

#[tokio::test]
async fn heads_of_mobile_streams_are_those_of_server_streams_and_browsers_get_theirs() {
    let gateway = Setup::with(some_data()).start().await;
    let reference = shown(&gateway.opens("/all", SDK_KEY).await);
    for (row, call) in streams() {
        let sdk = gateway.opens_with(&call.clone().header("Origin", "https://app.example")).await;
        let mut expected = reference.clone();
        if matches!(row, "L083" | "L084" | "L085") {
            let methods = if call.method() == "REPORT" { "REPORT,OPTIONS" } else { "GET,OPTIONS" };
            expected.extend(
                [
                    ("access-control-allow-credentials", "false"),
                    ("access-control-allow-headers", ALLOWED_HEADERS),
                    ("access-control-allow-methods", methods),
                    ("access-control-expose-headers", "Date"),
                    ("access-control-max-age", "300"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            expected.sort();
        }
        assert_eq!(shown(&sdk), expected, "{row}, L052");
    }
}

#[tokio::test]
async fn a_burst_of_changes_may_be_merged_and_the_last_one_can_be_read() {
    // L089
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/mping", MOBILE_KEY).await;
    sdk.receives_ping().await;
    for version in 4..=8 {
        gateway.upstream.patches(SDK_KEY, &flag("plain", version));
    }
    let mut pings = 0;
    loop {
        sdk.receives_ping().await;
        pings += 1;
        let call = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
        if gateway.answers(&call).await.json()["plain"]["version"] == 8 {
            break;
        }
    }
    // One more change, to see how many pings were pending before it: five at most, and one for this.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 9));
    gateway.upstream.closes_streams(SDK_KEY);
    gateway
        .status_where("an interruption", |it| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED")
        .await;
    let stop = gateway.stop();
    let count = async {
        while let StreamItem::Event { name, data } = sdk.next().await {
            assert_eq!((name.as_str(), data.as_str()), ("ping", " "));
            pings += 1;
        }
    };
    futures_util::future::join(stop, count).await;
    // A reconnect may have happened before the stop, which causes one `put` and one more ping.
    assert!((2..=7).contains(&pings), "{pings} pings for six changes");
}

#[tokio::test]
async fn contexts_on_streams_are_checked() {
    let gateway = Setup::with(some_data()).start().await;
    let unbuffered = |expected: Expected| expected.with("x-accel-buffering: no");
    let no_base64 = || message(400, "context part of URL path did not decode as valid base64");
    let no_context = || message(400, "context part of URL path did not decode to valid evaluation context as JSON");
    let no_json = || text(415, "Content-Type must be application/json.");
    let cut_off = || message(400, "unexpected end of JSON input");
    let browser = |expected: Expected, methods: &str| unbuffered(expected).cors("*", methods);
    let eval = format!("/eval/{ENV_ID}");
    for (row, call, expected) in [
        ("L090", Call::get("/meval/!!!!").key(MOBILE_KEY), unbuffered(no_base64())),
        ("L091", Call::get("/meval/eyJubyI6MX0").key(MOBILE_KEY), unbuffered(no_context())),
        ("L092", Call::new("REPORT", "/meval").body(USER).key(MOBILE_KEY), unbuffered(no_json())),
        ("L093", Call::report(&eval, "{"), browser(cut_off(), "REPORT,OPTIONS")),
        ("L090", Call::get(format!("{eval}/!!!!")), browser(no_base64(), "GET,OPTIONS")),
        ("L092", Call::new("REPORT", &eval).body(USER), browser(no_json(), "REPORT,OPTIONS")),
        ("L094", Call::get(&eval), empty(405)),
        ("L094", Call::post("/meval", USER).key(MOBILE_KEY), empty(405)),
    ] {
        gateway.answers_as(row, call, expected).await;
    }
    // L113: a user with an empty key may open a stream.
    let call = Call::report("/meval", r#"{"key":""}"#).key(MOBILE_KEY);
    gateway.opens_with(&call).await.receives_ping().await;
}

#[tokio::test]
async fn jitter_delays_and_merges_what_follows() {
    // L265
    let gateway = Setup::with(some_data()).set("launchdarkly.ping_stream_jitter_time", "600ms").start().await;
    let mut phone = gateway.opens("/mping", MOBILE_KEY).await;
    let mut server = gateway.opens("/all", SDK_KEY).await;
    phone.receives_ping().await; // the first one is not delayed
    server.receives_event("put").await;
    // The announcement of the first data may still be due, and covers this change.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    server.receives_event("patch").await;
    phone.receives_ping().await;
    // Half of 600 ms, less one millisecond, the resolution of timers.
    let min_delay = std::time::Duration::from_millis(299);
    let start = tokio::time::Instant::now();
    for version in 5..=9 {
        gateway.upstream.patches(SDK_KEY, &flag("plain", version));
    }
    for _ in 5..=9 {
        server.receives_event("patch").await; // server-side streams are not affected
    }
    phone.receives_ping().await;
    assert!(start.elapsed() >= min_delay, "L265: {:?}", start.elapsed());
    // Exactly one: the next ping follows the next change and not before.
    let again = tokio::time::Instant::now();
    gateway.upstream.patches(SDK_KEY, &flag("plain", 10));
    server.receives_event("patch").await;
    phone.receives_ping().await;
    assert!(again.elapsed() >= min_delay, "L265: one ping for five changes");
    let call = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    assert_eq!(gateway.answers(&call).await.json()["plain"]["version"], 10);
}
