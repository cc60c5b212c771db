//! V040 to V042: the list of environments in the database, in the layout of LaunchDarkly's relay.

use std::collections::BTreeMap;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yardarm_testkit::{DynamoDbKind, DynamoDbServer, FakeLaunchDarkly, RedisServer, Reply, until};

use super::auto_config::{AUTO_KEY, ID, becomes, environment, list, main, path, poll, setup, status_of};
use super::databases::start;
use crate::flags::{data, flag};
use crate::running::Setup;

const OTHER_ID: &str = "507f1f77bcf86cd79943902b";
const CACHE: &str = "auto config";
const SECRET: &str = "a secret of the fleet";

/// The cipher of the relay, independent of that of the gateway.
fn cipher(secret: &str) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &Sha256::digest(secret.as_bytes())).expect("a key"))
}

fn encrypted(secret: &str, plain: &Value) -> Vec<u8> {
    let mut content = plain.to_string().into_bytes();
    let nonce = [7; 12];
    let unique = Nonce::assume_unique_for_key(nonce);
    cipher(secret).seal_in_place_append_tag(unique, Aad::empty(), &mut content).expect("a sealed text");
    [&nonce[..], &content].concat()
}

fn decrypted(secret: &str, item: &[u8]) -> Value {
    let (nonce, content) = item.split_first_chunk().expect("a nonce");
    let mut content = content.to_vec();
    let opened = cipher(secret).open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut content);
    serde_json::from_slice(opened.expect("an item that can be opened")).expect("JSON")
}

/// The fields of the hash at one moment, in bytes.
fn stored(redis: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    const HEX: &str = "local all = redis.call('HGETALL', KEYS[1])
        for index = 2, #all, 2 do
            all[index] = all[index]:gsub('.', function(it) return ('%02x'):format(it:byte()) end)
        end
        return all";
    let Reply::List(list) = redis.ask(&["EVAL", HEX, "1", CACHE]) else { panic!("no list") };
    let texts: Vec<String> = list.into_iter().filter_map(Reply::text).collect();
    texts.chunks(2).map(|pair| (pair[0].clone(), hex::decode(&pair[1]).expect("hexadecimal digits"))).collect()
}

fn store(redis: &RedisServer, name: &str, item: &[u8]) {
    const HEX: &str = "redis.call('HSET', KEYS[1], ARGV[1], (ARGV[2]:gsub('..', function(it) return string.char(tonumber(it, 16)) end)))";
    redis.ask(&["EVAL", HEX, "1", CACHE, name, &hex::encode(item)]);
}

fn item(model_version: i64, environment: &Value) -> Value {
    json!({"kind": "environment", "modelVersion": model_version, "data": environment})
}

fn caching(redis: &RedisServer) -> Setup {
    setup()
        .set("launchdarkly.redis.url", redis.url())
        .set("launchdarkly.auto_config.datastore_prefix", "ld:$CID")
        .set("launchdarkly.auto_config.cache_key", format!(" {CACHE} "))
        .set("launchdarkly.auto_config.cache_encryption_key", SECRET)
        .data("sdk-a", data([flag("plain", 3)], []))
        .data("sdk-other", data([flag("other", 1)], []))
}

fn other(version: i64) -> Value {
    environment(OTHER_ID, version, json!({"value": "sdk-other"}), json!({"secureMode": true, "defaultTtl": 5}))
}

fn holds(redis: &RedisServer, environments: &[&Value]) -> bool {
    let stored = stored(redis);
    let name = |it: &Value| format!("env:{}", it["envID"].as_str().expect("an ID"));
    stored.len() == environments.len()
        && environments
            .iter()
            .all(|it| stored.get(&name(it)).is_some_and(|found| decrypted(SECRET, found) == item(2, it)))
}

#[tokio::test]
async fn v042_the_list_is_written_in_the_layout_of_the_relay() {
    let Some(redis) = RedisServer::start() else { return };
    let rotating = |version: i64| {
        let old = json!({"value": "sdk-old", "timestamp": 9_000_000_000_000_u64});
        environment(ID, version, json!({"value": "sdk-a", "expiring": old}), json!({}))
    };
    let cloud = FakeLaunchDarkly::start().await;
    cloud.lists(AUTO_KEY, &list([rotating(1), other(1)]));
    let gateway = caching(&redis).cloud(&cloud).start().await;
    until("V042: both environments", || holds(&redis, &[&rotating(1), &other(1)])).await;
    for item in stored(&redis).into_values() {
        assert!(!item.windows(4).any(|it| it == b"sdk-"), "V041: no key is readable");
    }
    cloud.lists_one(AUTO_KEY, &path(ID), &rotating(2));
    until("V042: a patch", || holds(&redis, &[&rotating(2), &other(1)])).await;
    cloud.delists(AUTO_KEY, &path(OTHER_ID), 2);
    until("V042: a deletion", || holds(&redis, &[&rotating(2)])).await;
    // Another list replaces the hash.
    store(&redis, "env:stale", b"x");
    let _gateway = gateway.restarted().await;
    cloud.lists(AUTO_KEY, &list([other(3)]));
    until("V042: another list", || holds(&redis, &[&other(3)])).await;
}

#[tokio::test]
async fn v040_v042_a_gateway_without_launchdarkly_serves_the_cached_list() {
    let Some(redis) = RedisServer::start() else { return };
    // What a relay of an earlier version has left, and items that cannot be used (V041).
    store(&redis, &format!("env:{ID}"), &encrypted(SECRET, &item(1, &main(5, "sdk-a"))));
    store(&redis, &format!("env:{OTHER_ID}"), &encrypted(SECRET, &item(2, &other(1))));
    store(&redis, "env:foreign", &encrypted("another secret", &item(2, &other(1))));
    store(&redis, "env:later", &encrypted(SECRET, &item(3, &other(1))));
    store(&redis, "filter:f", &encrypted(SECRET, &json!({"kind": "filter", "modelVersion": 2, "data": {}})));
    store(&redis, "env:damaged", b"\x00\xff");
    let gateway = caching(&redis).start().await;
    gateway.wait_until_ready().await;
    for key in ["sdk-a", "sdk-other"] {
        becomes(&gateway, "V040", &poll(key), 200).await;
    }
    assert_eq!(stored(&redis).len(), 6, "what was read is not written back");
    // V040: the list of LaunchDarkly replaces that one, an older version included.
    gateway.upstream.lists(AUTO_KEY, &list([main(2, "sdk-a")]));
    becomes(&gateway, "V040", &poll("sdk-other"), 401).await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 200);
    until("V042: the hash is replaced", || holds(&redis, &[&main(2, "sdk-a")])).await;
}

#[tokio::test]
async fn v040_the_cached_list_is_read_once_the_database_is_there() {
    let Some(mut redis) = RedisServer::start() else { return };
    store(&redis, &format!("env:{ID}"), &encrypted(SECRET, &item(2, &main(1, "sdk-a"))));
    assert_eq!(redis.ask(&["SAVE"]).text().as_deref(), Some("OK"));
    redis.kill();
    let gateway = caching(&redis).start().await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 503);
    redis.restart();
    store(&redis, &format!("env:{ID}"), &encrypted(SECRET, &item(2, &main(1, "sdk-a"))));
    becomes(&gateway, "V040", &poll("sdk-a"), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v042_dynamodb_has_the_list_in_a_partition() {
    const TABLE: &str = "flags";
    let Some(server) = DynamoDbServer::start(DynamoDbKind::Dynalite) else { return };
    server.create_table(TABLE);
    let configured = || {
        setup()
            .set("launchdarkly.auto_config.datastore_prefix", "ld:$CID")
            .set("launchdarkly.auto_config.cache_key", CACHE)
    };
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts("sdk-a", &data([flag("plain", 3)], []));
    cloud.lists(AUTO_KEY, &list([main(1, "sdk-a"), other(1)]));
    let (program, _dir) = start(&server, configured(), &cloud).await;
    let name = format!("env:{ID}");
    until("V042: the items", || server.items(TABLE, CACHE).len() == 2).await;
    let found = server.items(TABLE, CACHE).remove(&name).expect("an item");
    let binary = found["item"]["B"].as_str().expect("bytes");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, binary).expect("base64");
    // Without an encryption key, the auto-configuration key is used.
    assert_eq!(decrypted(AUTO_KEY, &bytes), item(2, &main(1, "sdk-a")), "V042");
    assert_eq!(found.as_object().map(serde_json::Map::len), Some(3), "V042: {found}");
    cloud.delists(AUTO_KEY, &path(OTHER_ID), 2);
    until("V042: a deletion", || server.items(TABLE, CACHE).keys().eq([&name])).await;
    drop(program);

    let silent = FakeLaunchDarkly::start().await;
    silent.add_environment(AUTO_KEY);
    silent.puts("sdk-a", &data([flag("plain", 3)], []));
    let (program, _dir) = start(&server, configured(), &silent).await;
    program.wait_until_ready().await;
    assert_eq!(program.answers(&poll("sdk-a")).await.status, 200, "V040");
}
