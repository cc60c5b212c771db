use yardarm_testkit::{RedisServer, Reply};

use super::*;
use crate::fleet::LogEntry;

const LIFETIME: Duration = Duration::from_millis(400);
const WAIT: Duration = Duration::from_secs(2);

fn fleet(server: &RedisServer, name: &str) -> RedisFleet {
    let address = RedisAddress::parse(&server.url(), false, None, None).expect("an address");
    RedisFleet::new(&address, name)
}

fn request(source: &str, action: LeaseAction, note: &str) -> LeaseRequest {
    LeaseRequest { source: source.into(), action, note: note.into() }
}

async fn heartbeat(fleet: &RedisFleet, instance: &str, action: LeaseAction) -> SourceState {
    let state =
        fleet.heartbeat(instance, LIFETIME, &[request("s", action, instance)]).await.expect("a reachable database");
    state.sources.into_iter().next().expect("one source")
}

fn set(key: &str, text: &str) -> Entry {
    (key.into(), Some(text.into()))
}

async fn content(fleet: &RedisFleet) -> Option<(Position, Vec<Entry>)> {
    let (position, mut entries) = fleet.read("s").await.expect("a reachable database")?;
    entries.sort();
    Some((position, entries))
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_ends_or_is_released() {
    let Some(server) = RedisServer::start() else { return };
    let (a, b) = (fleet(&server, "f"), fleet(&server, "f"));
    assert_eq!(heartbeat(&a, "a", LeaseAction::Wait).await, SourceState::default());
    assert_eq!(heartbeat(&a, "a", LeaseAction::Claim).await.holder.as_deref(), Some("a"));
    let seen = heartbeat(&b, "b", LeaseAction::Claim).await;
    assert_eq!((seen.holder.as_deref(), &*seen.note), (Some("a"), "a"));
    assert_eq!(heartbeat(&b, "b", LeaseAction::Release).await.holder.as_deref(), Some("a"), "not b's to release");
    assert_eq!(heartbeat(&a, "a", LeaseAction::Release).await.holder, None);
    assert_eq!(heartbeat(&b, "b", LeaseAction::Claim).await.holder.as_deref(), Some("b"));
    let other = fleet(&server, "g");
    assert_eq!(heartbeat(&other, "a", LeaseAction::Wait).await.holder, None, "fleets are apart");
    // Not renewed, it ends by the clock of the database.
    tokio::time::sleep(LIFETIME * 2).await;
    assert_eq!(heartbeat(&a, "a", LeaseAction::Claim).await.holder.as_deref(), Some("a"));
}

#[tokio::test]
async fn many_sources_are_answered_in_order() {
    let Some(server) = RedisServer::start() else { return };
    let fleet = fleet(&server, "f");
    let requests: Vec<_> =
        (0..300).map(|it| request(&format!("s{it}"), LeaseAction::Claim, &format!("n{it}"))).collect();
    let state = fleet.heartbeat("a", LIFETIME, &requests).await.unwrap();
    let notes: Vec<_> = state.sources.iter().map(|it| it.note.to_string()).collect();
    assert_eq!(notes, (0..300).map(|it| format!("n{it}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_the_holder_writes_and_changes_follow_the_position() {
    let Some(server) = RedisServer::start() else { return };
    let fleet = fleet(&server, "f");
    let mut log = fleet.follow().await.unwrap();
    let (first, second) = (Position::first("g"), Position::first("g").next());
    let write = |instance, next| Write { source: "s", instance, next };
    assert_eq!(fleet.replace(&write("a", &first), &[]).await.unwrap(), Written::NotLeader);
    assert_eq!(content(&fleet).await, None);
    heartbeat(&fleet, "a", LeaseAction::Claim).await;
    assert_eq!(fleet.append(&write("a", &first), &first, &[]).await.unwrap(), Written::OtherPosition, "no content yet");
    let all = [set("x", "1"), set("y", "2")];
    assert_eq!(fleet.replace(&write("a", &first), &all).await.unwrap(), Written::Yes);
    assert_eq!(content(&fleet).await, Some((first.clone(), all.to_vec())));
    let changes = [set("x", "3"), ("y".into(), None), set("z", "4")];
    assert_eq!(fleet.append(&write("b", &second), &first, &changes).await.unwrap(), Written::NotLeader);
    assert_eq!(fleet.append(&write("a", &second), &first, &changes).await.unwrap(), Written::Yes);
    assert_eq!(fleet.append(&write("a", &second), &first, &changes).await.unwrap(), Written::OtherPosition);
    assert_eq!(content(&fleet).await, Some((second.clone(), vec![set("x", "3"), set("z", "4")])));
    assert_eq!(heartbeat(&fleet, "b", LeaseAction::Wait).await.position, Some(second.clone()));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(log.next(WAIT).await.unwrap());
    }
    let replaced = LogEntry { source: "s".into(), position: first, changes: None };
    assert_eq!(seen, [replaced, LogEntry { source: "s".into(), position: second, changes: Some(changes.to_vec()) }]);
    let Reply::Number(lifetime) = server.ask(&["PTTL", "{yardarm:f}:content:s"]) else { panic!("a number") };
    assert!(lifetime > 1_000_000_000, "unused content is removed: {lifetime}");
}

#[tokio::test]
async fn large_changes_and_large_content_are_read_whole() {
    let Some(server) = RedisServer::start() else { return };
    let fleet = fleet(&server, "f");
    heartbeat(&fleet, "a", LeaseAction::Claim).await;
    let mut log = fleet.follow().await.unwrap();
    let long = "x".repeat(100_000);
    let mut all: Vec<Entry> = (0..1000).map(|it| set(&format!("k{it:04}"), "small")).collect();
    let (first, second) = (Position::first("g"), Position::first("g").next());
    let write = |next| Write { source: "s", instance: "a", next };
    assert_eq!(fleet.replace(&write(&first), &all).await.unwrap(), Written::Yes);
    assert_eq!(fleet.append(&write(&second), &first, &[set("k0000", &long)]).await.unwrap(), Written::Yes);
    all[0] = set("k0000", &long);
    assert_eq!(content(&fleet).await, Some((second.clone(), all)));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(log.next(WAIT).await.unwrap());
    }
    assert!(seen.iter().all(|it| it.changes.is_none()), "changes of this size have to be read");
}

#[tokio::test]
async fn instances_are_counted_while_they_send_heartbeats() {
    let Some(server) = RedisServer::start() else { return };
    let fleet = fleet(&server, "f");
    let members = async |instance| fleet.heartbeat(instance, LIFETIME, &[]).await.unwrap().members;
    assert_eq!((members("a").await, members("b").await, members("a").await), (1, 2, 2));
    tokio::time::sleep(LIFETIME * 2).await;
    assert_eq!(members("a").await, 1);
}
