//! The list of environments of auto-configuration in a fleet.

use serde_json::json;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until, within};

use super::Fleet;
use crate::flags::some_data;
use crate::launchdarkly::auto_config::{AUTO_KEY, environment, list};

const ID: &str = "507f1f77bcf86cd79943902a";

fn keys(version: i64, sdk_key: &str, expiring: Option<(&str, u64)>) -> serde_json::Value {
    let expiring = expiring.map(|(value, at)| json!({"value": value, "timestamp": at}));
    let key = match expiring {
        Some(expiring) => json!({"value": sdk_key, "expiring": expiring}),
        None => json!({"value": sdk_key}),
    };
    environment(ID, version, key, json!({}))
}

#[tokio::test]
async fn one_gateway_receives_the_list_and_keys_rotate_on_all() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = FakeLaunchDarkly::start().await;
    cloud.add_environment(AUTO_KEY);
    for key in ["sdk-a", "sdk-b", "sdk-c"] {
        cloud.add_environment(key);
        cloud.puts(key, &some_data());
    }
    cloud.lists(AUTO_KEY, &list([keys(1, "sdk-a", None)]));
    let more = format!("auto_config.key = \"{AUTO_KEY}\"\nexpired_credential_cleanup_interval = \"100ms\"\n");
    let mut fleet = Fleet::before(cloud, &redis, 3, &more).await;
    let leader = fleet.settles().await;
    until("one list and one stream", || fleet.cloud.open_streams(AUTO_KEY) + fleet.cloud.open_streams("sdk-a") == 2)
        .await;
    for member in &fleet.members {
        member.serves("sdk-a", 3).await;
    }
    // Both keys are accepted, everywhere, while the old one expires.
    let far = 4_102_444_800_000;
    fleet.cloud.lists_one(AUTO_KEY, &format!("/environments/{ID}"), &keys(2, "sdk-b", Some(("sdk-a", far))));
    for member in &fleet.members {
        member.serves("sdk-b", 3).await;
        member.serves("sdk-a", 3).await;
    }
    // The leader is killed while the next rotation is under way. No SDK with a valid key is refused.
    fleet.members[leader].kill().await;
    fleet.cloud.lists_one(AUTO_KEY, &format!("/environments/{ID}"), &keys(3, "sdk-c", Some(("sdk-b", far))));
    fleet.cloud.lists(AUTO_KEY, &list([keys(3, "sdk-c", Some(("sdk-b", far)))]));
    let call = |key| Call::get("/sdk/flags").key(key);
    within("the new key on all gateways", async {
        loop {
            let mut accepted = 0;
            for member in fleet.members.iter().filter(|it| it.program.is_some()) {
                let old = member.program().answers(&call("sdk-b")).await;
                assert_eq!(old.status, 200, "a key that stays valid");
                accepted += usize::from(member.program().answers(&call("sdk-c")).await.status == 200);
            }
            if accepted == 2 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    fleet.settles().await;
    // The list contains keys and is not readable in the database.
    for name in redis.names(&["KEYS", "*auto-configuration*"]) {
        let values = if name.contains(":content:") { redis.names(&["HVALS", &name]) } else { Vec::new() };
        assert!(values.iter().all(|it| !it.contains("sdk-") && !it.contains(ID)), "{name}");
    }
}
