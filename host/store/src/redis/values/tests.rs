use yardarm_testkit::RedisServer;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const NO_LIMITS: ValueLimits = ValueLimits { keys: 1_000_000, bytes: 1 << 30 };

/// Creates values and starts the task that connects.
#[expect(clippy::disallowed_methods, reason = "the task lives as long as the runtime of its test")]
fn values(server: &RedisServer, limits: ValueLimits) -> Arc<RedisValues> {
    let address = RedisAddress::parse(&server.url(), false, None, None).unwrap();
    let values = Arc::new(RedisValues::new(&address, "p", limits));
    let task = Arc::clone(&values);
    tokio::spawn(async move { task.run(|_| ()).await });
    values
}

#[tokio::test]
async fn increments_of_many_clients_are_not_lost() {
    let Some(server) = RedisServer::start() else { return };
    let clients = [values(&server, NO_LIMITS), values(&server, NO_LIMITS)];
    let count = async |client: &RedisValues| {
        for _ in 0..200 {
            client.increment("n", ("hits", 1), None, LIMIT).await.unwrap();
        }
    };
    tokio::join!(count(&clients[0]), count(&clients[1]), count(&clients[0]), count(&clients[1]));
    assert_eq!(clients[0].increment("n", ("hits", 0), None, LIMIT).await.unwrap(), 800);
    assert_eq!(clients[0].get("other", "hits", LIMIT).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_is_left_of_values_that_are_gone() {
    let Some(server) = RedisServer::start() else { return };
    let values = values(&server, NO_LIMITS);
    let short = Some(Duration::from_millis(20));
    values.set("n", ("short", b"1"), short, LIMIT).await.unwrap();
    assert_eq!(server.names(&["KEYS", "*"]), ["p:kv:{n}", "p:kv:{n}:ends"]);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(server.names(&["KEYS", "*"]), Vec::<String>::new());

    values.set("n", ("short", b"1"), short, LIMIT).await.unwrap();
    values.set("n", ("long", b"1"), None, LIMIT).await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(values.get("n", "short", LIMIT).await.unwrap(), None);
    values.set("n", ("long", b"22"), None, LIMIT).await.unwrap();
    assert_eq!(server.names(&["HKEYS", "p:kv:{n}"]), ["#bytes", "#version", "=long"]);
    assert_eq!(server.field("p:kv:{n}", "#bytes").as_deref(), Some("6"));
    assert!(values.delete("n", "long", LIMIT).await.unwrap());
    assert_eq!(server.names(&["KEYS", "*"]), Vec::<String>::new());
    assert!(!values.delete("n", "long", LIMIT).await.unwrap());
}

#[tokio::test]
async fn values_that_the_database_has_evicted_are_gone_and_harm_no_others() {
    let Some(server) = RedisServer::start() else { return };
    let values = values(&server, NO_LIMITS);
    let hour = Some(Duration::from_secs(3_600));
    values.set("n", ("a", b"1"), hour, LIMIT).await.unwrap();
    server.ask(&["DEL", "p:kv:{n}"]);
    assert_eq!(values.get("n", "a", LIMIT).await.unwrap(), None);
    values.set("n", ("b", b"1"), None, LIMIT).await.unwrap();
    assert_eq!(server.ask(&["TTL", "p:kv:{n}"]), yardarm_testkit::Reply::Number(-1), "it has no end");

    values.set("n", ("a", b"1"), Some(Duration::from_millis(20)), LIMIT).await.unwrap();
    server.ask(&["DEL", "p:kv:{n}:ends"]);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(values.get("n", "a", LIMIT).await.unwrap(), None);
    assert_eq!(values.increment("n", ("a", 5), hour, LIMIT).await.unwrap(), 5);
    assert!(values.get("n", "b", LIMIT).await.unwrap().is_some());
}

#[tokio::test]
async fn thousands_of_values_that_are_gone_make_room() {
    let Some(server) = RedisServer::start() else { return };
    let values = values(&server, ValueLimits { keys: 2_500, bytes: 1 << 20 });
    let short = Some(Duration::from_millis(1_500));
    for number in 0..2_500 {
        values.set("n", (&format!("key-{number}"), &[0; 300]), short, LIMIT).await.unwrap();
    }
    let full = values.set("n", ("more", b""), None, LIMIT).await;
    assert!(matches!(full, Err(ValueError::Full)), "{full:?}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    values.set("n", ("large", &[0; 1_000_000]), None, LIMIT).await.unwrap();
    assert_eq!(server.names(&["HKEYS", "p:kv:{n}"]), ["#bytes", "#version", "=large"]);
}

#[tokio::test]
async fn versions_grow_although_the_database_loses_its_data() {
    let Some(mut server) = RedisServer::start() else { return };
    let values = values(&server, NO_LIMITS);
    let version = async || {
        values.set("n", ("a", b"1"), None, LIMIT).await.ok()?;
        Some(values.get("n", "a", LIMIT).await.ok()??.version)
    };
    let first = version().await.unwrap();
    assert!(version().await > Some(first));
    server.restart();
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(later) = version().await {
            assert!(later > first);
            break;
        }
        assert!(tokio::time::Instant::now() < end, "{:?}", values.connection());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The script is loaded again, also without a new connection.
    server.ask(&["SCRIPT", "FLUSH"]);
    assert!(version().await.is_some());
}

#[tokio::test]
async fn an_unreachable_database_is_an_error_at_once() {
    let Some(mut server) = RedisServer::start() else { return };
    let values = values(&server, NO_LIMITS);
    assert_eq!(values.connection(), None);
    values.set("n", ("a", b"1"), None, LIMIT).await.unwrap();
    assert_eq!(values.connection(), Some(Ok(())));
    server.kill();
    while values.get("n", "a", LIMIT).await.is_ok() || values.connection() == Some(Ok(())) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = tokio::time::Instant::now();
    values.get("n", "a", LIMIT).await.expect_err("no server");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    // The listener accepts connections and never replies, like a firewall that drops packets.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    let values = RedisValues::new(&RedisAddress::parse(&address, false, None, None).unwrap(), "p", NO_LIMITS);
    let began = tokio::time::Instant::now();
    let get = values.get("n", "a", Duration::from_millis(3));
    let result = tokio::select! {
        result = get => result,
        () = values.run(|_| ()) => unreachable!("it never returns"),
    };
    assert!(matches!(result, Err(ValueError::Store(StoreError::TimedOut))), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
