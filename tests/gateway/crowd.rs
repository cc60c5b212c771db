//! L077, many concurrent streams, and the memory of one stream.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, Connection, FakeLaunchDarkly, SseClient, StreamItem};

use crate::flags::{flag, flag_with, put, some_data};
use crate::program::Program;
use crate::running::{SDK_KEY, Setup};
use crate::sdk::Sdk;

async fn program() -> (Program, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().expect("a temporary folder");
    let mut setup = Setup::with(some_data()).set("log.format", "json").set("log.level", "warn,yardarm=info");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    yardarm_testkit::within("`/ready`", program.wait_until_ready()).await;
    (program, cloud, dir)
}

async fn resident_bytes(program: &Program) -> i64 {
    program.operator_gets("/api/status").await.json()["resources"]["resident_bytes"].as_i64().expect("a number")
}

#[tokio::test]
async fn two_thousand_streams_receive_a_patch() {
    const COUNT: usize = 2000;
    let (program, cloud, _dir) = program().await;
    let mut sdks: Vec<Sdk> = Vec::with_capacity(COUNT);
    while sdks.len() < COUNT {
        let batch = (0..100).map(|index| program.opens(if index % 4 == 0 { "/flags" } else { "/all" }, SDK_KEY));
        sdks.extend(futures_util::future::join_all(batch).await);
    }
    for sdk in &mut sdks {
        sdk.receives_event("put").await;
    }
    let report = program.operator_gets("/api/status").await.json();
    assert_eq!(report["fanout"]["streams"], COUNT);
    cloud.patches(SDK_KEY, &flag("plain", 4));
    for (index, sdk) in sdks.iter_mut().enumerate() {
        let path = if index % 4 == 0 { "/plain" } else { "/flags/plain" };
        sdk.receives("patch", json!({"path": path, "data": flag("plain", 4)})).await;
    }
}

/// Opens plain streams and does not read them any more once everything has arrived.
async fn opens_quietly(program: &Program, count: usize, streams: &mut Vec<Sdk>) {
    let end = streams.len() + count;
    while streams.len() < end {
        let batch = futures_util::future::join_all((0..50).map(|_| program.opens("/all", SDK_KEY))).await;
        let first = streams.len();
        streams.extend(batch);
        for sdk in &mut streams[first..] {
            sdk.receives_event("put").await;
        }
    }
    // From now on only the fan-out threads hold them.
    yardarm_testkit::within("streams with the fan-out", async {
        while program.operator_gets("/api/status").await.json()["fanout"]["streams"] != streams.len() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_takes_little_memory() {
    const WARM: usize = 500;
    const COUNT: usize = 2500;
    // An empty read buffer of the HTTP library alone has twice as much.
    const LIMIT: i64 = 4 << 10;
    let (program, _cloud, _dir) = program().await;
    let mut streams = Vec::with_capacity(WARM + COUNT);
    // The first streams allocate what all share: threads, buffers, reserves of the allocator.
    opens_quietly(&program, WARM, &mut streams).await;
    let before = resident_bytes(&program).await;
    opens_quietly(&program, COUNT, &mut streams).await;
    let each = (resident_bytes(&program).await - before) / i64::try_from(COUNT).expect("a small number");
    assert!(each < LIMIT, "{each} bytes of memory for each idle stream");
}

#[tokio::test]
async fn a_stalled_reader_does_not_affect_others() {
    // L077
    const CHANGES: i64 = 1000;
    let (program, cloud, _dir) = program().await;
    let call = Call::get("/all").key(SDK_KEY);
    let narrow = Connection::open_narrow(program.address, 8192).await;
    let mut slow = Sdk::new(SseClient::open_on(narrow, &call).await, &call);
    slow.receives("put", put(some_data())).await;
    let mut quick = program.opens("/all", SDK_KEY).await;
    quick.receives("put", put(some_data())).await;
    let before = resident_bytes(&program).await;

    let filler = "f".repeat(48 << 10);
    for version in 4..4 + CHANGES {
        let change = flag_with("plain", version, json!({"filler": filler}));
        cloud.patches(SDK_KEY, &change);
        // In order and one by one: the next change is made when this one has been received.
        let received = quick.receives_event("patch").await;
        assert_eq!((&received["data"]["version"], &received["path"]), (&json!(version), &json!("/flags/plain")));
    }
    let report = program.operator_gets("/api/status").await.json();
    assert_eq!(report["fanout"]["blocked"], 1, "the slow one is known: {report}");
    let grown = resident_bytes(&program).await - before;
    assert!(grown < 40 << 20, "{} MiB of changes passed, memory grew by {} MiB", (CHANGES * 48) >> 10, grown >> 20);

    let last = 4 + CHANGES - 1;
    let mut received_events = 0;
    let newest = |received: &Value| match received["path"].as_str() {
        Some("/") => received["data"]["flags"]["plain"]["version"].as_i64(),
        _ => received["data"]["version"].as_i64(),
    };
    let mut version = 3;
    while version < last {
        let StreamItem::Event { data, .. } = slow.next().await else { panic!("the stream ended at {version}") };
        let next = newest(&serde_json::from_str(&data).unwrap()).expect("a version");
        assert!(next > version, "{next} after {version}");
        version = next;
        received_events += 1;
    }
    assert!(received_events < CHANGES, "it jumped: {received_events} events for {CHANGES} changes");
    cloud.patches(SDK_KEY, &flag("plain", last + 1));
    slow.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", last + 1)})).await;
    quick.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", last + 1)})).await;
}
