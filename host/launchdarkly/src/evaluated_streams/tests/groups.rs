//! Groups and their tasks.

use super::*;
use crate::config::PLUGIN_RETRY;

/// An environment whose groups have tasks of their own.
fn streams(hooks: &Hooks) -> (Writer<FlagData>, Environment<FlagData>, EvaluatedStreams, Lifecycle) {
    let (writer, data) = environment();
    let lifecycle = Lifecycle::new();
    let label = EnvironmentLabel::new("launchdarkly", "test");
    let evaluators = ByTrust::from_fn(|_| Evaluators::start().unwrap());
    let streams =
        EvaluatedStreams::new(label, data.clone(), None, (hooks.clone(), registry()), &evaluators, lifecycle.clone());
    (writer, data, streams, lifecycle)
}

/// Waits until a client receives events.
async fn next_events(client: &mut Client, source: &Arc<dyn UpdateSource>) -> Vec<String> {
    let mut versions = source.versions();
    loop {
        versions.borrow_and_update();
        let received = client.received();
        if !received.is_empty() {
            return received;
        }
        tokio::time::timeout(Duration::from_secs(60), versions.changed()).await.expect("an event").expect("a group");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_lives_as_long_as_its_streams() {
    let (mut writer, _data, streams, lifecycle) = streams(&Hooks::none());
    writer.update(&put(many(3, 1)));
    let join = |kind, with_reasons| streams.join(evaluation_request(ADA, kind, with_reasons));
    let (first, second) = (join(SdkKind::Mobile, false), join(SdkKind::Mobile, false));
    assert!(Arc::ptr_eq(&first, &second));
    let others = [join(SdkKind::Browser, false), join(SdkKind::Mobile, true)];
    assert_eq!(streams.len(), 3);
    let mut clients = [&first, &second].map(|it| Client::new(Rules::Current, Arc::clone(it)));
    for client in &mut clients {
        assert_eq!(next_events(client, &first).await, ["put"]);
    }
    drop((others, clients, first));
    assert_eq!(streams.len(), 1);
    drop(second);
    assert_eq!(streams.len(), 0);
    // Its tasks end with its streams, without a signal.
    while Arc::strong_count(&streams.0) > 1 {
        tokio::task::yield_now().await;
    }
    let again = join(SdkKind::Mobile, false);
    assert_eq!(next_events(&mut Client::new(Rules::Current, Arc::clone(&again)), &again).await, ["put"]);
    assert!(lifecycle.stop(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn clients_share_results_unless_plugins_read_their_requests() {
    let hooks = Hooks::none();
    let (mut writer, data) = environment();
    let (lifecycle, registry) = (Lifecycle::new(), registry());
    let label = EnvironmentLabel::new("launchdarkly", "test");
    let evaluators = ByTrust::from_fn(|_| Evaluators::start().unwrap());
    let both = (hooks.clone(), registry.clone());
    let streams = EvaluatedStreams::new(label.clone(), data, None, both, &evaluators, lifecycle);
    writer.update(&put(many(3, 1)));
    let join = || streams.join(evaluation_request(ADA, SdkKind::Browser, false));
    let shared = [join(), join()];
    assert!(Arc::ptr_eq(&shared[0], &shared[1]));
    let open = |route| registry.open(RequestFacts::new(label.clone(), route, "client").into(), None).unwrap();
    let (of_results, of_data) = (open("client.stream"), open("server.stream.all"));
    hooks.replace(Nosy.plan());
    while of_results.ending().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((of_results.ending(), of_data.ending()), (Some(EndReason::ResultsDiffer), None));
    // One that was admitted before, and registered after its group had been judged.
    let late = open("client.stream");
    let start = tokio::time::Instant::now();
    while late.ending().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() < PLUGIN_RETRY * 2, "{:?}", start.elapsed());
    assert_eq!((late.ending(), of_data.ending()), (Some(EndReason::ResultsDiffer), None));
    drop(shared);
    let apart = [join(), join()];
    assert!(!Arc::ptr_eq(&apart[0], &apart[1]));
    let mut client = Client::new(Rules::Current, Arc::clone(&apart[0]));
    assert_eq!(next_events(&mut client, &apart[0]).await, ["put"]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_sent_without_data_and_while_plugins_fail() {
    let hooks = Hooks::none();
    hooks.replace(Doing { fails: true, ..Doing::default() }.plan());
    let (mut writer, data, streams, lifecycle) = streams(&hooks);
    let source = streams.join(evaluation_request(ADA, SdkKind::Mobile, false));
    let mut client = Client::new(Rules::Current, Arc::clone(&source));
    tokio::time::sleep(Duration::from_millis(1)).await;
    data.heartbeat();
    assert_eq!(next_events(&mut client, &source).await, ["heartbeat"]);
    writer.update(&put(many(3, 1)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    data.heartbeat();
    assert_eq!(next_events(&mut client, &source).await, ["heartbeat"]);
    // A working plan is used at once.
    let start = tokio::time::Instant::now();
    hooks.replace(no_plugins());
    assert_eq!(next_events(&mut client, &source).await, ["put"]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(lifecycle.stop(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_failed_plugin_is_called_again_a_little_later() {
    let (hooks, fails) = (Hooks::none(), Arc::new(AtomicBool::new(false)));
    hooks.replace(Flaky(Arc::clone(&fails)).plan());
    let (mut writer, _data, streams, lifecycle) = streams(&hooks);
    writer.update(&put(many(9, 1)));
    let source = streams.join(evaluation_request(ADA, SdkKind::Mobile, false));
    let mut client = Client::new(Rules::Current, Arc::clone(&source));
    assert_eq!(next_events(&mut client, &source).await, ["put"]);
    fails.store(true, Ordering::Relaxed);
    let start = tokio::time::Instant::now();
    writer.update(&Change::Patch(many(1, 2).remove(0)));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(client.received(), Vec::<String>::new());
    fails.store(false, Ordering::Relaxed);
    assert_eq!(next_events(&mut client, &source).await, ["patch"]);
    assert!((4..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(lifecycle.stop(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn many_groups_queue_and_heartbeats_do_not_wait() {
    let (hooks, slow) = (Hooks::none(), Slow::default());
    let calls = Arc::clone(&slow.0);
    hooks.replace(slow.plan());
    let (mut writer, data, streams, lifecycle) = streams(&hooks);
    writer.update(&put(many(3, 1)));
    let joins = |it: usize| {
        streams.join(evaluation_request(&format!(r#"{{"kind":"user","key":"u{it}"}}"#), SdkKind::Mobile, false))
    };
    let sources: Vec<_> = (0..5 * MAX_EVALUATING).map(joins).collect();
    let mut clients: Vec<_> = sources.iter().map(|it| Client::new(Rules::Current, Arc::clone(it))).collect();
    tokio::time::sleep(Duration::from_millis(150)).await;
    // The last ones are still queued, and all receive the heartbeat.
    data.heartbeat();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(clients.iter_mut().all(|it| it.received().contains(&"heartbeat".to_owned())));
    // Later changes are in the `put` of groups that are evaluated later.
    writer.update(&Change::Patch(many(1, 2).remove(0)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    for client in &mut clients {
        client.reads();
        assert_eq!(client.results()["many000"]["version"], 2);
    }
    assert_eq!((calls.0.load(Ordering::Relaxed), calls.1.load(Ordering::Relaxed)), (0, MAX_EVALUATING));
    assert!(lifecycle.stop(Duration::from_secs(1)).await);
}
