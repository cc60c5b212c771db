//! L262, U158: shutdown. Requests in progress are completed.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use yardarm_testkit::{Call, Connection, FakeLaunchDarkly, StreamItem};

use crate::expected::empty;
use crate::flags::{put, some_data};
use crate::program::{Program, Signal};
use crate::running::{MOBILE_KEY, SDK_KEY, Setup};

async fn program(setup: Setup) -> (Program, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().expect("a temporary folder");
    let mut setup = setup.set("log.format", "json");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    yardarm_testkit::within("`/ready`", program.wait_until_ready()).await;
    (program, cloud, dir)
}

#[tokio::test]
async fn streams_end_one_after_the_other_and_events_are_delivered() {
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h");
    let (program, cloud, _dir) = program(setup.set("shutdown.drain", "800ms")).await;
    let mut sdks = Vec::new();
    for index in 0..8 {
        let (path, key) = if index % 2 == 0 { ("/all", SDK_KEY) } else { ("/mping", MOBILE_KEY) };
        let mut sdk = program.opens(path, key).await;
        if index % 2 == 0 {
            sdk.receives("put", put(some_data())).await;
        } else {
            sdk.receives_ping().await;
        }
        sdks.push(sdk);
    }
    let call = Call::post("/bulk", r#"[{"n":1}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    empty(202).compare("L262", &program.answers(&call).await);
    let mut idle = Connection::open(program.address).await;
    assert_eq!(Call::get("/status").on(&mut idle).await.status, 200);

    program.signal(Signal::TERM);
    let signalled = Instant::now();
    // Meanwhile `/ready` answers 503, and the process is alive.
    yardarm_testkit::within("`/ready` to fail", async {
        while program.operator_gets("/ready").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(program.operator_gets("/ready").await.text(), "waiting for: shutting down\n");
    assert_eq!(program.operator_gets("/live").await.status, 200);

    let ends = sdks.into_iter().map(|mut sdk| async move {
        assert_eq!(sdk.next().await, StreamItem::End, "the last chunk, not a cut");
        signalled.elapsed()
    });
    let mut ends: Vec<_> = futures_util::future::join_all(ends).await;
    ends.sort();
    // Spread: the last stream ended no earlier than the window, the first one long before.
    assert!(ends[7] >= Duration::from_millis(780), "{ends:?}");
    assert!(ends[0] + Duration::from_millis(200) <= ends[7], "{ends:?}");

    assert_eq!(
        idle.closes_within(yardarm_testkit::WAIT_TIMEOUT).await.as_deref(),
        Some(&b""[..]),
        "idle connections are closed"
    );
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "L262, U158: {log:#?}");
    let posts = cloud.posts("/bulk");
    assert_eq!(posts.len(), 1, "L262, U158: events are flushed");
    assert_eq!(posts[0].json(), json!([{"n": 1}]));
    assert!(log.iter().any(|line| line.contains("\"clean\":true")), "{log:#?}");
}

#[tokio::test]
async fn a_stream_opened_during_shutdown_ends_regularly() {
    let (program, _cloud, _dir) = program(Setup::with(some_data()).set("shutdown.drain", "500ms")).await;
    let mut first = program.opens("/all", SDK_KEY).await;
    let mut second = program.opens("/all", SDK_KEY).await;
    first.receives("put", put(some_data())).await;
    second.receives("put", put(some_data())).await;
    program.signal(Signal::TERM);
    // Whichever ends first: its SDK reconnects at once.
    tokio::select! {
        () = first.receives_end() => (),
        () = second.receives_end() => (),
    }
    let mut late = program.opens("/all", SDK_KEY).await;
    late.receives("put", put(some_data())).await;
    late.receives_end().await;
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[tokio::test]
async fn during_the_grace_time_requests_are_still_served() {
    let setup = Setup::with(some_data()).set("shutdown.grace", "4s").set("shutdown.drain", "100ms");
    let (program, _cloud, _dir) = program(setup).await;
    program.signal(Signal::INT);
    yardarm_testkit::within("`/ready` to fail", async {
        while program.operator_gets("/ready").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut late = program.opens("/all", SDK_KEY).await;
    late.receives("put", put(some_data())).await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    late.receives_end().await;
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let setup = Setup::with(some_data()).set("shutdown.grace", "1h");
    let (program, _cloud, _dir) = program(setup).await;
    program.signal(Signal::TERM);
    yardarm_testkit::until("the first signal", || program.has_logged("draining")).await;
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(1), "{log:#?}");
}

#[tokio::test]
async fn an_unresponsive_upstream_does_not_delay_shutdown() {
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h");
    let (program, cloud, _dir) = program(setup.set("shutdown.timeout", "500ms")).await;
    cloud.delays_posts(Duration::from_secs(3600));
    let call = Call::post("/bulk", "[1]").key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    empty(202).compare("queued", &program.answers(&call).await);
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "an orderly end: {log:#?}");
    assert!(log.iter().any(|line| line.contains("events could not all be sent")), "logged: {log:#?}");
}

#[tokio::test]
async fn a_request_in_progress_is_completed() {
    let setup = Setup::with(some_data()).events();
    let (program, cloud, _dir) = program(setup).await;
    let body = r#"[{"n":"half before, half after"}]"#;
    let head = format!(
        "POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nX-LaunchDarkly-Event-Schema: 4\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(program.address).await;
    connection.sends(head + &body[..10]).await;
    // The gateway has read the head once it has looked up the key; a later request shows that time has passed.
    assert_eq!(program.answers(&Call::get("/status")).await.status, 200);
    program.signal(Signal::TERM);
    yardarm_testkit::until("the signal", || program.has_logged("draining")).await;
    connection.sends(&body[10..]).await;
    let answer = connection.answer("POST").await.expect("an answer");
    assert_eq!(answer.status, 202);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
    yardarm_testkit::until("its event", || !cloud.posts("/bulk").is_empty()).await;
}
