//! Decompression bombs and similar requests: the process survives them, and other callers are hardly affected.

use std::cell::Cell;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use yardarm_testkit::{Call, FakeLaunchDarkly, gzip};

use crate::flags::{data, flag_with, some_data};
use crate::program::{Program, Signal};
use crate::running::{ENV_ID, SDK_KEY, Setup};

/// Maximum growth of the process, in bytes.
const MAX_GROWTH: u64 = 200 << 20;

/// Returns the resident memory of the process.
async fn resident(program: &Program) -> u64 {
    let text = program.operator_gets("/metrics").await.text().to_owned();
    let line = text.lines().find(|it| it.starts_with("yardarm_process_resident_bytes ")).expect("resident memory");
    line.rsplit(' ').next().and_then(|it| it.parse::<f64>().ok()).expect("a number") as u64
}

/// Starts a gateway in its own process, because other memory would be measured too.
async fn program() -> (Program, FakeLaunchDarkly, TempDir) {
    program_with(Setup::with(some_data()).events()).await
}

async fn program_with(setup: Setup) -> (Program, FakeLaunchDarkly, TempDir) {
    let (dir, cloud) = (TempDir::new().expect("a folder"), FakeLaunchDarkly::start().await);
    // Long work has a low priority, and takes its time on a busy machine.
    let mut setup = setup.set("log.format", "json").set("server.request_timeout", "1h");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    program.wait_until_ready().await;
    (program, cloud, dir)
}

/// Returns the longest time of a server's post.
async fn slowest(program: &Program, count: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..count {
        let start = Instant::now();
        let call = Call::post("/bulk", json!([n]).to_string()).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
        assert_eq!(program.answers(&call).await.status, 202);
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn four_posts_that_inflate_to_25_megabytes_are_harmless() {
    let (program, cloud, _dir) = program().await;
    let zeros = gzip(format!("[{}0]", "0,".repeat((25 << 19) - 10)).as_bytes());
    assert!(zeros.len() < 60_000);
    let deep = gzip("[".repeat(24 << 20).as_bytes());
    let text = gzip(format!("[\"{}\"]", "x".repeat(24 << 20)).as_bytes());
    let objects = gzip(format!("[{}{{}}]", "{},".repeat(8 << 20)).as_bytes());
    slowest(&program, 20).await;
    let quiet = slowest(&program, 50).await;
    let before = resident(&program).await;
    let path = format!("/events/bulk/{ENV_ID}");
    let post = async |bomb: Vec<u8>| {
        let call = Call::post(&path, bomb).header("Content-Encoding", "gzip");
        program.answers(&call.header("X-LaunchDarkly-Event-Schema", "4")).await.status
    };
    let (mut worst, mut largest) = (Duration::ZERO, before);
    let bombs = async { tokio::join!(post(zeros), post(deep), post(text), post(objects)) };
    let honest = async {
        for _ in 0..20 {
            worst = worst.max(slowest(&program, 10).await);
            largest = largest.max(resident(&program).await);
        }
    };
    let ((first, second, third, fourth), ()) = tokio::join!(bombs, honest);
    assert_eq!([first, second, third, fourth], [202; 4]);
    largest = largest.max(resident(&program).await);
    let growth = largest.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more");
    // Generous, because the machine may be busy.
    assert!(worst < quiet * 10 + Duration::from_secs(1), "{worst:?} instead of {quiet:?}");
    let report = program.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone();
    let reasons: Vec<_> =
        report["dropped"].as_array().expect("a list").iter().map(|it| it[0].as_str().expect("a reason")).collect();
    for reason in ["event-too-large", "too-deep", "too-many-events"] {
        assert!(reasons.contains(&reason), "{report}");
    }
    program.signal(Signal::TERM);
    program.ends().await;
    let honest: usize = cloud.posts("/bulk").iter().map(|it| it.json().as_array().expect("a list").len()).sum();
    assert_eq!(honest, 70 + 200, "nothing that servers sent is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_empty_post_does_not_delay_others() {
    let (program, cloud, _dir) = program().await;
    // Compressed streams without content, which do not count towards the limit on the length.
    let nothing = gzip(b"").repeat(400_000);
    let event = gzip(b"[{\"kind\":\"custom\",\"key\":\"a\"}]");
    slowest(&program, 20).await;
    let quiet = slowest(&program, 50).await;
    let path = format!("/events/bulk/{ENV_ID}");
    let post = async || {
        let call = Call::post(&path, [&nothing[..], &event].concat()).header("Content-Encoding", "gzip");
        program.answers(&call).await.status
    };
    let posts = async { tokio::join!(post(), post(), post(), post()) };
    let ((first, second, third, fourth), worst) = tokio::join!(posts, slowest(&program, 100));
    assert_eq!([first, second, third, fourth], [400; 4]);
    // Generous, because the machine may be busy.
    assert!(worst < quiet * 10 + Duration::from_secs(1), "{worst:?} instead of {quiet:?}");
    program.signal(Signal::TERM);
    program.ends().await;
    assert!(cloud.posts(&path).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_contexts_do_not_delay_others() {
    let (program, _cloud, _dir) = program().await;
    let attributes: Vec<_> = (0..200_000).map(|n| format!("\"a{n}\":[{n}]")).collect();
    let context = format!("{{\"kind\":\"user\",\"key\":\"a\",{}}}", attributes.join(","));
    let quiet = slowest(&program, 50).await;
    let before = resident(&program).await;
    let report = || Call::report(format!("/sdk/evalx/{ENV_ID}/context"), context.clone());
    let large = async {
        let calls = (0..8).map(|_| async { report().to(program.address).await.status });
        futures_util::future::join_all(calls).await
    };
    let (statuses, worst) = tokio::join!(large, slowest(&program, 50));
    assert!(statuses.iter().all(|it| [200, 503].contains(it)) && statuses.contains(&200), "{statuses:?}");
    assert!(worst < quiet * 10 + Duration::from_secs(1), "{worst:?} instead of {quiet:?}");
    let growth = resident(&program).await.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "{growth} bytes more");
    program.signal(Signal::TERM);
    program.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_evaluations_do_not_delay_others() {
    // Each rollout hashes the key. Many rollouts of a key of moderate length make evaluation much longer than parsing,
    // so that all evaluations run at the same time.
    let rollout = json!({"variations": [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]});
    let flag = |n| flag_with(&format!("flag{n}"), 1, json!({"fallthrough": {"rollout": rollout}}));
    let setup = Setup::with(data((0..2400).map(flag), [])).events();
    let (program, _cloud, _dir) = program_with(setup).await;
    let context = json!({"kind": "user", "key": "k".repeat(128 << 10)}).to_string();
    let report = async || {
        let call = Call::report(format!("/sdk/evalx/{ENV_ID}/context"), context.clone());
        program.answers(&call).await.status
    };
    let is_over = Cell::new(false);
    let long = async {
        let start = Instant::now();
        // Twice as many as there are threads that serve requests.
        let count = 2 * (std::thread::available_parallelism().expect("a number").get() + 2);
        let statuses = futures_util::future::join_all((0..count).map(|_| report())).await;
        is_over.set(true);
        (statuses, start.elapsed())
    };
    let others = async {
        let mut worst = Duration::ZERO;
        while !is_over.get() {
            worst = worst.max(slowest(&program, 1).await);
        }
        worst
    };
    let ((statuses, took), worst) = tokio::join!(long, others);
    assert!(statuses.iter().all(|it| *it == 200), "{statuses:?}");
    // If evaluations occupied the threads that serve requests, one request would wait for about half of the time.
    assert!(worst < took / 5, "{worst:?} of {took:?}");
    program.signal(Signal::TERM);
    program.ends().await;
}
