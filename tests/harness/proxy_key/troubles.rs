//! Failures with a proxy key, and what is served meanwhile.

use super::*;

#[tokio::test]
async fn nothing_is_missed_in_an_outage() {
    let cloud = proxied_cloud().await;
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    let (mut mine, mut other) = (listens(&gateway, KEY).await, listens(&gateway, OTHER_KEY).await);
    cloud.streams_go_down();
    mine.receives_end().await;
    other.receives_end().await;
    until("polls", || cloud.gets("/proxy/config").len() > 4).await;
    assert_eq!(states(&gateway).await, ["DISCONNECTED"; 2]);
    let call = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&call).await.status, 503, "SDKs poll, too");
    // Polls find changed flags, and environments and keys that are added and removed.
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "polled", |_, it| it["version"] == 7).await;
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "an environment that came").await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 401, "an environment that went").await;
    cloud.removes_key(third, &FakeHarness::hash("third-key"));
    exchanges(&gateway, "third-key", 401, "a key that went").await;
    // An outage loses nothing.
    cloud.goes_down();
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "served while all is down", |_, it| it["version"] == 7).await;
    let before = report(&gateway, "prod").await["sequence"].clone();
    cloud.comes_back();
    cloud.streams_come_back();
    let mut mine = listens(&gateway, KEY).await;
    assert_eq!(report(&gateway, "prod").await["sequence"], before, "D15: nothing was different");
    let event = mine.receives_event("*").await;
    assert_eq!((&event["identifier"], &event["version"]), (&json!("a"), &json!(7)), "what a stream missed, once");
    cloud.changes_flag(ENV, &flag("b", 7));
    assert_eq!(mine.receives_event("*").await["identifier"], "b", "D15: and nothing before");
}

#[tokio::test]
async fn a_silent_stream_counts_as_lost() {
    let cloud = proxied_cloud().await;
    cloud.beats(None);
    let gateway = started(&cloud, "read_timeout = \"300ms\"").await;
    listens(&gateway, KEY).await.receives_end().await;
    until("another stream", || cloud.gets("/stream").len() > 1).await;
}

#[tokio::test]
async fn without_streams_everything_is_polled() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "stream_enabled = false\nflag_poll_interval = \"50ms\"").await;
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "polled", |_, it| it["version"] == 7).await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 401, "an environment that went").await;
    let call = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&call).await.status, 501);
    assert!(cloud.gets("/stream").is_empty());
}

#[tokio::test]
async fn a_restart_during_an_outage_serves_persisted_data() {
    let cloud = proxied_cloud().await;
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    let gateway = started(&cloud, "").await;
    cloud.adds_key(ENV, &FakeHarness::hash("second-key"));
    exchanges(&gateway, "second-key", 200, "F114").await;
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "F114").await;
    cloud.removes_from_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 401, "F114").await;
    cloud.goes_down();
    // Ready without upstream.
    let gateway = gateway.restarted().await;
    for (key, path, wanted) in [
        (KEY, flags(ENV), json!([flag("b", 1), flag("a", 2)])),
        ("second-key", flags(ENV), json!([flag("b", 1), flag("a", 2)])),
        (OTHER_KEY, flags(OTHER_ENV), json!([flag("other", 1)])),
    ] {
        let call = Call::get(path).key(&token(&gateway, key).await);
        assert_eq!(gateway.answers(&call).await.json(), wanted, "{key}");
    }
    assert_eq!(gateway.answers(&exchange("third-key")).await.status, 401, "what went is not kept");
    assert_eq!(report(&gateway, "prod").await["is_stale"], true);
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    cloud.adds_to_proxy(PROXY, third);
    cloud.stores_flag(ENV, &flag("a", 3));
    cloud.comes_back();
    exchanges(&gateway, "third-key", 200, "what came meanwhile").await;
    exchanges(&gateway, OTHER_KEY, 401, "what went meanwhile").await;
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "the newest", |_, it| it["version"] == 3).await;
    assert_eq!(report(&gateway, "prod").await["is_stale"], false);
}

#[tokio::test]
async fn a_rejected_key_is_retried_rarely_and_shown() {
    for status in [401, 403] {
        let cloud = cloud().await;
        cloud.delays("/proxy/auth", Duration::from_secs(3));
        cloud.answers_next("/proxy/auth", [status; 100]);
        let gateway = Running::before_harness_proxy(&cloud, PROXY, "flag_poll_interval = \"20ms\"").await;
        assert_eq!(gateway.answers(&exchange(KEY)).await.status, 500, "not known yet");
        assert_eq!(gateway.operator_gets("/ready").await.status, 503);
        let row = report(&gateway, "proxy key").await;
        assert_eq!((&row["phase"], &row["vendor"]), (&json!("starting"), &json!("harness")));
        let mut row = report(&gateway, "proxy key").await;
        while row["phase"] == "starting" {
            tokio::time::sleep(Duration::from_millis(5)).await;
            row = report(&gateway, "proxy key").await;
        }
        assert_eq!(row["phase"], "rejected");
        let ready = gateway.operator_gets("/ready").await;
        assert_eq!(ready.status, 503, "there is nothing to serve");
        assert!(ready.text().starts_with("waiting for: harness/proxy key (off; last error: "), "{}", ready.text());
        assert_eq!(row["last_error"]["status"], status);
        assert!(!row.to_string().contains(PROXY), "{row}");
        assert_eq!(
            gateway.answers(&exchange(KEY)).await.status,
            500,
            "it may be accepted again: no key is unknown for sure"
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
        let requests = paths(&cloud.requests());
        assert!(
            requests.len() < 4 && requests.iter().all(|it| it == "POST /api/1.0/proxy/auth"),
            "left alone: {requests:?}"
        );
    }
}

#[tokio::test]
async fn a_deleted_key_keeps_served_data() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"20ms\"").await;
    let mut sdk: Sdk = listens(&gateway, KEY).await;
    cloud.deletes_proxy(PROXY);
    sdk.receives_end().await;
    let before = cloud.posts("/proxy/auth").len();
    until("a refusal", || cloud.posts("/proxy/auth").len() > before).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(cloud.posts("/proxy/auth").len() < before + 4, "no hot loop");
    assert_eq!(report(&gateway, "prod").await["connection"], "interrupted", "it was accepted before, so that may heal");
    let call = Call::get(flags(ENV)).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200, "the last good data");
    // The deletion can be undone without a restart.
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    listens(&gateway, KEY).await;
}

#[tokio::test]
async fn malformed_responses_lose_nothing() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    let is_served = async |what: &str| {
        for (key, id) in [(KEY, ENV), (OTHER_KEY, OTHER_ENV)] {
            let call = Call::get(flags(id)).key(&token(&gateway, key).await);
            let answer = gateway.answers(&call).await.json();
            assert!(answer.as_array().is_some_and(|it| !it.is_empty()), "{what}: {answer}");
        }
    };
    cloud.streams_go_down();
    for body in [
        "{}",
        "[]",
        "{",
        r#"{"environments":null,"pageCount":1}"#,
        r#"{"environments":[{"apiKeys":[]}],"pageCount":1}"#,
        r#"{"environments":[{"id":7}],"pageCount":1}"#,
        r#"{"environments":"none","pageCount":1}"#,
    ] {
        let before = cloud.gets("/proxy/config").len();
        cloud.answers_next("/proxy/config", [HarnessAnswer::from(200).body("application/json", body)]);
        until("a poll", || cloud.gets("/proxy/config").len() > before + 1).await;
        is_served(body).await;
    }
    cloud.answers_next("/proxy/config", [HarnessAnswer::cut()]);
    cloud.answers_next("/proxy/config", [HarnessAnswer::from(200).body("text/html", "<p>")]);
    cloud.streams_come_back();
    let _sdk = listens(&gateway, KEY).await;
    is_served("cut").await;
}

#[tokio::test]
async fn an_unreadable_environment_does_not_affect_others() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    listens(&gateway, KEY).await;
    cloud.puts(OTHER_ENV, [json!({"feature": 7})], []);
    cloud.stores_flag(ENV, &flag("a", 7));
    cloud.closes_streams(PROXY);
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "the readable environment", |_, it| it["version"] == 7).await;
    let call = Call::get(flags(OTHER_ENV)).key(&token(&gateway, OTHER_KEY).await);
    assert_eq!(gateway.answers(&call).await.json(), json!([flag("other", 1)]), "the last good data");
    assert_eq!(report(&gateway, OTHER_ENV).await["last_error"]["kind"], "invalid-data");
    // It is polled although there is a stream.
    listens(&gateway, KEY).await;
    cloud.puts(OTHER_ENV, [flag("other", 2)], []);
    serves(&gateway, OTHER_KEY, &flags(OTHER_ENV), "healed", |_, it| *it == json!([flag("other", 2)])).await;
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_loses_nothing() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    cloud.streams_go_down();
    // The environments moved up while they were read, so the one between two pages was on none of them.
    let before = cloud.gets("/proxy/config").len();
    let page = |environments: Value, count: usize| {
        let body = json!({"environments": environments, "itemCount": count, "pageCount": 2}).to_string();
        HarnessAnswer::from(200).body("application/json", &body)
    };
    let first = json!([{"id": ENV, "apiKeys": [FakeHarness::hash(KEY)], "featureConfigs": [flag("a", 5)]}]);
    let reading = [page(first, 12), page(json!([]), 11)];
    cloud.answers_next("/proxy/config", [reading.clone(), reading.clone(), reading].concat());
    until("a few readings", || cloud.gets("/proxy/config").len() > before + 6).await;
    token(&gateway, OTHER_KEY).await;
}

#[tokio::test]
async fn no_key_is_logged_or_sent_to_others() {
    const CANARY: &str = "0ca9a4e1";
    let (proxy, key) = (format!("proxy-{CANARY}-01"), format!("api-{CANARY}-02"));
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [key.as_str()]);
    cloud.puts(ENV, [flag("a", 1)], []);
    cloud.adds_proxy(&proxy, [ENV]);
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let more = "flag_poll_interval = \"50ms\"\nrejected_retry_interval = \"50ms\"";
    let toml =
        format!("log.format = \"json\"\nlog.level = \"trace\"\n{}", proxy_toml(dir.path(), &cloud, &proxy, more));
    std::fs::write(dir.path().join("yardarm.toml"), toml).expect("a file");
    // Every way in which a request with the key in its URL can fail, one after the other.
    let json = |body: &str| HarnessAnswer::from(200).body("application/json", body);
    cloud.answers_next(
        "/proxy/config",
        [
            HarnessAnswer::from(307).header("location", "/elsewhere"),
            HarnessAnswer::from(307).header("location", "http://127.0.0.1:1/elsewhere"),
            HarnessAnswer::cut(),
            json("{"),
            HarnessAnswer::from(503),
            HarnessAnswer::from(403),
        ],
    );
    let program = Program::start(dir.path()).await;
    yardarm_testkit::within("data", async {
        while program.answers(&exchange(&key)).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // And while upstream is unreachable.
    cloud.hangs_up().await;
    yardarm_testkit::until("a failed poll", || program.has_logged("poll failed")).await;
    let shown = program.operator_gets("/api/environments").await;
    program.signal(Signal::TERM);
    let (_, log) = program.ends().await;
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is at its loudest");
    for line in log.iter().map(String::as_str).chain([shown.text()]) {
        assert!(!line.contains(CANARY), "a key in {line}");
    }
    for request in cloud.requests() {
        assert_eq!(request.header("referer"), None, "{}", request.path);
    }
    assert!(cloud.gets("/proxy/config").len() > 6, "all of the ways were gone");
    let (mut folders, mut files) = (vec![dir.path().join("data")], 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).expect("a folder").map(|it| it.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).expect("a file");
            let has_key = content.windows(CANARY.len()).any(|it| it == CANARY.as_bytes());
            assert!(!has_key, "a key in {}", path.display());
            files += 1;
        }
    }
    assert!(files > 0, "something is kept");
}

#[tokio::test]
async fn an_event_that_names_no_environment_is_not_lost() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    let mut mine = listens(&gateway, KEY).await;
    for (version, environment) in [(7, json!(null)), (8, json!("")), (9, json!(7))] {
        cloud.stores_flag(ENV, &flag("a", version));
        let event = json!({"event": "patch", "domain": "flag", "identifier": "a", "version": version, "environment": environment});
        cloud.sends_event(PROXY, &event);
        let received = mine.receives_event("*").await;
        assert_eq!((&received["identifier"], &received["version"]), (&json!("a"), &json!(version)), "{environment}");
    }
    assert_eq!(cloud.gets("/stream").len(), 1, "the same stream all the time");
}
