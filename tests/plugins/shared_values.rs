//! Stored values in a database that several gateways share (`kv = "redis"`), with the rate limit of the cookbook.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_testkit::{Call, RedisServer, within};

use super::{Plugged, put, sample};
use crate::flags::some_data;
use crate::running::{MOBILE_KEY, SDK_KEY, Setup};

/// Returns a rate limit of three requests of servers in an hour, which counts in Redis.
fn rate_limit(lines: &str) -> String {
    format!(
        "[plugin]\nname = \"rate-limit\"\ngrants = [\"clock\", \"kv\"]\nkv = \"redis\"\n[plugin.config]\nwindow_s = 3600\n\
         [plugin.config.limits]\nserver = 3\n[[bind]]\nhook = \"request-auth\"\n\
         limits = {{ deadline_ms = 1000 }}\n{lines}\n"
    )
}

fn fill(folder: &Path, binding: &str) {
    put(folder, "rate-limit.toml", binding);
    put(folder, "rate-limit.wasm", sample("rate-limit"));
}

/// Starts a gateway whose plugins share values in a database.
async fn sharing(redis: &RedisServer, binding: &str) -> Plugged {
    let setup = Setup::with(some_data())
        .set("plugins.kv_redis.url", redis.url())
        .set("plugins.fingerprint_key", "the same key in all of them");
    let plugged = Plugged::start(setup, |folder| fill(folder, binding)).await;
    plugged.wait_until_active("rate-limit").await;
    plugged
}

async fn status(plugged: &Plugged) -> u16 {
    plugged.gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status
}

/// Waits until a request has one of these answers.
async fn answers(plugged: &Plugged, what: &str, wanted: &[u16]) {
    within(what, async {
        while !wanted.contains(&status(plugged).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn gateways_share_a_rate_limit() {
    let Some(redis) = RedisServer::start_protected("canary-of-redis") else { return };
    let (one, other) = (sharing(&redis, &rate_limit("")).await, sharing(&redis, &rate_limit("")).await);
    let mut statuses = Vec::new();
    // A new window may begin in between, but not twice.
    for _ in 0..4 {
        statuses.extend([status(&one).await, status(&other).await]);
    }
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert!((3..=6).contains(&admitted) && statuses.iter().all(|it| [200, 429].contains(it)), "{statuses:?}");
    let mobile = Call::get(format!("/msdk/evalx/contexts/{}", crate::running::CTX)).key(MOBILE_KEY);
    assert_eq!(other.gateway.answers(&mobile).await.status, 200, "kinds of callers without a limit");

    let shown = one.gateway.operator_gets("/api/plugins").await.json();
    assert_eq!(shown["kv_redis"]["connected"], true, "{shown}");
    assert!(!shown.to_string().contains("canary-of-redis"), "{shown}");
    let keys = redis.names(&["KEYS", "*"]);
    assert_eq!(keys, ["yardarm:kv:{rate-limit}", "yardarm:kv:{rate-limit}:ends"]);
    let fields = redis.names(&["HKEYS", "yardarm:kv:{rate-limit}"]).join(" ");
    assert!(!fields.contains(SDK_KEY), "credentials are fingerprints: {fields}");
}

#[tokio::test]
async fn without_the_database_the_failure_policy_decides() {
    let Some(mut redis) = RedisServer::start() else { return };
    let open = "on_failure = \"open\"\ni_accept_unauthenticated = true";
    let (closed, open) = (sharing(&redis, &rate_limit("")).await, sharing(&redis, &rate_limit(open)).await);
    assert_eq!(status(&closed).await, 200);

    redis.kill();
    answers(&closed, "a failure", &[503]).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!((status(&closed).await, status(&open).await), (503, 200));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "no request waits: {:?}", began.elapsed());
    let metrics = closed.gateway.operator_gets("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let line =
        metrics.lines().find_map(|it| it.strip_prefix("yardarm_plugin_kv_unavailable_total{plugin=\"rate-limit\"} "));
    assert!(line.is_some_and(|count| count != "0"), "{line:?}");
    let shown = closed.gateway.operator_gets("/api/plugins").await.json();
    assert_eq!(shown["kv_redis"]["connected"], false, "{}", shown["kv_redis"]);
    let class = shown["plugins"][0]["last_errors"][0]["class"].as_str().unwrap_or_default().to_owned();
    assert!(class != "deadline" && class != "trap", "{class}");

    // Its data is lost, so the window begins anew.
    redis.restart();
    answers(&closed, "the return of the database", &[200]).await;
    answers(&closed, "the limit", &[429]).await;
    answers(&open, "the limit of both", &[429]).await;
}

#[tokio::test]
async fn a_binding_needs_the_setting() {
    let plugged =
        Plugged::start(Setup::with(some_data()).without_waiting(), |folder| fill(folder, &rate_limit(""))).await;
    let row = plugged.plugin_where("rate-limit", "refused", |row| row["refused"].is_object()).await;
    let text = row["refused"]["text"].as_str().unwrap_or_default();
    assert!(row["refused"]["code"] == "L07" && text.contains("`plugins.kv_redis.url`"), "{row}");
}
