//! Gateways that share upstream connections: real processes, a real Redis, and links that are cut.

mod chain;
mod failover;
mod link;
mod list;
mod outages;

use std::net::SocketAddr;

use serde_json::Value;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, within};

use self::link::Link;
use crate::flags::some_data;
use crate::program::{Program, Signal};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY};
use crate::sdk::Sdk;

/// A gateway of a fleet, with links to the database and to upstream of its own.
struct Member {
    dir: TempDir,
    redis: Link,
    upstream: Link,
    /// `None` while it is not running.
    program: Option<Program>,
}

/// A fleet before one upstream.
struct Fleet {
    cloud: FakeLaunchDarkly,
    members: Vec<Member>,
}

fn configuration(member: &Member, fleet: &str, more: &str) -> String {
    let (upstream, data) = (member.upstream.address(), member.dir.path().join("data"));
    format!(
        r#"
        server.listen = "127.0.0.1:0"
        admin.listen = "127.0.0.1:0"
        data.dir = {data:?}
        plugins.dir = ""
        log.format = "json"
        shutdown.drain = "0s"
        {fleet}
        [launchdarkly]
        stream_uri = "http://{upstream}"
        base_uri = "http://{upstream}"
        events_uri = "http://{upstream}"
        min_reconnect_delay = "50ms"
        max_reconnect_delay = "500ms"
        {more}
        "#
    )
}

fn usual_environment() -> String {
    format!(
        "[[launchdarkly.environments]]\nname = \"main\"\nsdk_key = \"{SDK_KEY}\"\nmobile_key = \"{MOBILE_KEY}\"\n\
         env_id = \"{ENV_ID}\"\n"
    )
}

impl Member {
    async fn new(redis: SocketAddr, upstream: SocketAddr, more: &str) -> Self {
        let member = Self::alone(redis, upstream, more).await;
        let fleet = format!("[fleet]\nredis.url = \"redis://{}\"\nlease = \"1500ms\"\n", member.redis.address());
        std::fs::write(member.dir.path().join("yardarm.toml"), configuration(&member, &fleet, more)).unwrap();
        member
    }

    /// A gateway without a fleet.
    async fn alone(redis: SocketAddr, upstream: SocketAddr, more: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let member = Self { dir, redis: Link::to(redis).await, upstream: Link::to(upstream).await, program: None };
        std::fs::write(member.dir.path().join("yardarm.toml"), configuration(&member, "", more)).unwrap();
        member
    }

    async fn start(&mut self) {
        self.program = Some(Program::start(self.dir.path()).await);
    }

    async fn kill(&mut self) {
        let program = self.program.take().expect("a program that runs");
        program.signal(Signal::KILL);
        program.ends().await;
    }

    fn program(&self) -> &Program {
        self.program.as_ref().expect("a program that runs")
    }

    /// The report of the only environment.
    async fn report(&self) -> Value {
        self.program().operator_gets("/api/environments").await.json()["environments"][0].clone()
    }

    async fn role(&self) -> String {
        self.report().await["role"].as_str().unwrap_or_default().to_owned()
    }

    async fn opens(&self, key: &str) -> Sdk {
        self.program().opens_when_served("/all", key).await
    }

    /// Waits until the SDKs of a key are served a version of the flag.
    async fn serves(&self, key: &str, version: i64) {
        let call = Call::get("/sdk/flags").key(key);
        within(&format!("version {version}"), async {
            loop {
                let answer = self.program().answers(&call).await;
                if answer.status == 200 && answer.json()["plain"]["version"] == version {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn waits_for_role(&self, roles: &[&str]) -> String {
        self.waits_for("role", roles).await
    }

    async fn waits_for(&self, property: &str, values: &[&str]) -> String {
        within(&format!("{property} {values:?}"), async {
            loop {
                let value = self.report().await[property].as_str().unwrap_or_default().to_owned();
                if values.contains(&&*value) {
                    return value;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Fleet {
    /// Starts this many gateways, one after the other: the first one is the leader.
    async fn start(redis: &RedisServer, count: usize, more: &str) -> Self {
        let cloud = FakeLaunchDarkly::start().await;
        cloud.add_environment(SDK_KEY);
        cloud.puts(SDK_KEY, &some_data());
        Self::before(cloud, redis, count, more).await
    }

    async fn before(cloud: FakeLaunchDarkly, redis: &RedisServer, count: usize, more: &str) -> Self {
        let mut fleet = Self { cloud, members: Vec::new() };
        let upstream = fleet.cloud.url().trim_start_matches("http://").parse().expect("an address");
        let database = redis.url().trim_start_matches("redis://").parse().expect("an address");
        for _ in 0..count {
            let mut member = Member::new(database, upstream, more).await;
            member.start().await;
            member.program().wait_until_ready().await;
            fleet.members.push(member);
        }
        fleet
    }

    /// Waits until one gateway leads and all others follow; returns which one leads.
    async fn settles(&self) -> usize {
        within("one leader", async {
            loop {
                let mut leaders = Vec::new();
                let mut followers = 0;
                for (index, member) in self.members.iter().enumerate().filter(|it| it.1.program.is_some()) {
                    match &*member.role().await {
                        "leader" => leaders.push(index),
                        "follower" => followers += 1,
                        _ => (),
                    }
                }
                let running = self.members.iter().filter(|it| it.program.is_some()).count();
                if leaders.len() == 1 && followers == running - 1 {
                    return leaders[0];
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }

    async fn all_serve(&self, version: i64) {
        for member in self.members.iter().filter(|it| it.program.is_some()) {
            member.serves(SDK_KEY, version).await;
        }
    }

    fn open_streams(&self) -> usize {
        self.cloud.open_streams(SDK_KEY)
    }
}

fn browser() -> Call {
    Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"))
}
