//! DynamoDB as the database (U103, U104, U114), against two servers: moto, and dynalite, which is stricter.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, DynamoDbKind, DynamoDbServer, FakeLaunchDarkly, until, within};

use super::big_segments::{HASH, gated, includes, revision};
use super::databases::{Database, a_gateway_lives_with, reaches_state, start};
use crate::flags::{data, flag, flag_with, put, some_data};
use crate::running::{CTX, SDK_KEY, Setup};

const TABLE: &str = "flags";

impl Database for DynamoDbServer {
    fn configure(&self, setup: Setup) -> Setup {
        setup.set("launchdarkly.dynamodb.url", self.url()).set("launchdarkly.dynamodb.table_name", TABLE)
    }

    fn variables(&self) -> Vec<(&'static str, &'static str)> {
        Self::variables().to_vec()
    }

    fn stored(&self, prefix: &str, collection: &str) -> Value {
        let items = self.items(TABLE, &format!("{prefix}:{collection}"));
        let value = |item: Value| {
            let value: Value = serde_json::from_str(item["item"]["S"].as_str().expect("a text")).expect("JSON");
            assert_eq!(item["version"]["N"], value["version"].to_string(), "U103");
            assert_eq!(item.as_object().map(serde_json::Map::len), Some(4), "U103: {item}");
            value
        };
        items.into_iter().map(|(key, item)| (key, value(item))).collect()
    }

    fn is_complete(&self, prefix: &str) -> bool {
        let marker = format!("{prefix}:$inited");
        let expected = json!({"namespace": {"S": marker}, "key": {"S": marker}});
        let found = self.items(TABLE, &marker);
        assert!(found.values().all(|it| *it == expected), "U103: {found:?}");
        !found.is_empty()
    }

    fn wipe(&self) {
        self.empty_table(TABLE);
    }

    fn goes_down(&mut self) {
        self.kill();
    }

    fn comes_back(&mut self) {
        self.restart();
        self.create_table(TABLE);
    }

    fn place(&self) -> Value {
        json!({"database": "dynamodb", "dbServer": self.url(), "dbPrefix": "p", "dbTable": TABLE})
    }
}

/// Starts a server with the table.
fn server(kind: DynamoDbKind) -> Option<DynamoDbServer> {
    let server = DynamoDbServer::start(kind)?;
    server.create_table(TABLE);
    Some(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_lives_with_dynamodb_of_moto() {
    let Some(server) = server(DynamoDbKind::Moto) else { return };
    a_gateway_lives_with(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_lives_with_dynamodb_of_dynalite() {
    let Some(server) = server(DynamoDbKind::Dynalite) else { return };
    a_gateway_lives_with(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_item_is_left_out_and_served() {
    // U104
    let Some(server) = server(DynamoDbKind::Dynalite) else { return };
    let cloud = FakeLaunchDarkly::start().await;
    let huge = |version: i64| flag_with("huge", version, json!({"description": "x".repeat(400_000)}));
    // More than one batch.
    let many = (0..60).map(|number| flag(&format!("flag-{number:02}"), 1));
    let sent = data(many.chain([huge(1)]), []);
    cloud.puts(SDK_KEY, &sent);
    let (program, _dir) = start(&server, Setup::new().environment(json!({"prefix": "p"})), &cloud).await;
    let mut sdk = program.opens_when_served("/all", SDK_KEY).await;
    sdk.receives("put", put(sent.clone())).await;
    until("the marker", || server.is_complete("p")).await;
    let mut expected = sent["flags"].clone();
    expected.as_object_mut().expect("flags").remove("huge");
    assert_eq!(server.stored("p", "features"), expected, "U104");
    let lines = || program.log().iter().filter(|it| it.contains("too large") && it.contains("huge")).count();
    until("U104: a line in the log", || lines() == 1).await;
    cloud.patches(SDK_KEY, &huge(2));
    cloud.patches(SDK_KEY, &flag("next", 1));
    until("U104: the next change", || server.stored("p", "features")["next"]["version"] == 1).await;
    assert_eq!(server.stored("p", "features").get("huge"), None, "U104");
    until("U104: another line", || lines() == 2).await;
    reaches_state("U104", &program, "VALID").await;
    let served = program.answers(&Call::get("/sdk/flags/huge").key(SDK_KEY)).await;
    assert_eq!((served.status, &served.json()["version"]), (200, &json!(2)), "U104");
}

#[tokio::test(flavor = "multi_thread")]
async fn big_segments_are_kept_in_the_same_table() {
    // U114; dynalite has no transactions.
    let Some(server) = server(DynamoDbKind::Moto) else { return };
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &gated());
    let many: Vec<_> = (0..60).map(|number| format!("context-{number:02}")).collect();
    let changes = json!({"included": {"add": many, "remove": []}, "excluded": {"add": ["x"], "remove": []}});
    cloud.revises_silently(SDK_KEY, &revision(1, changes));
    let moved =
        json!({"included": {"add": ["x"], "remove": [many[0]]}, "excluded": {"add": [many[0]], "remove": ["x"]}});
    cloud.revises_silently(SDK_KEY, &revision(2, moved));
    let setup = Setup::new().set("launchdarkly.big_segments_retry_interval", "50ms");
    let (program, _dir) = start(&server, setup, &cloud).await;
    within("`/ready`", program.wait_until_ready()).await;
    let metadata = || server.items(TABLE, "big_segments_metadata").remove("big_segments_metadata");
    until("U114: the time", || metadata().is_some_and(|it| it["synchronizedOn"]["N"].is_string())).await;
    assert_eq!(metadata().expect("metadata")["lastVersion"], json!({"S": "100:2"}), "U114");
    let members = server.items(TABLE, "big_segments_user");
    assert_eq!(members.len(), 61, "U114: all of them");
    let group = json!({"SS": ["big.g2"]});
    assert_eq!(members["context-59"]["included"], group, "U114");
    assert_eq!((&members["x"]["included"], members["x"].get("excluded")), (&group, None), "U114");
    let first = &members["context-00"];
    assert_eq!((&first["excluded"], first.get("included")), (&group, None), "U114");
    let names = ["$inited", "big_segments_metadata", "big_segments_user", "features", "segments"];
    assert_eq!(server.namespaces(TABLE), names, "U103: no colon without a prefix");

    cloud.revises(SDK_KEY, &revision(3, includes(HASH)));
    let call = Call::get(format!("/sdk/evalx/contexts/{CTX}?withReasons=true")).key(SDK_KEY);
    let mut result = Value::Null;
    let looks = async {
        while result["value"] != true {
            result = program.answers(&call).await.json()["gated"].clone();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("U107: a member", looks).await;
    assert_eq!(result["reason"]["bigSegmentsStatus"], "HEALTHY");
    let status = program.answers(&Call::get("/status")).await.json();
    let entry = &status["environments"]["main"];
    assert_eq!(entry["bigSegmentStatus"]["available"], true, "L232");
    assert!(entry["dataStoreStatus"].get("dbPrefix").is_none(), "L229: no prefix by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_reported_until_it_is_created() {
    let Some(server) = DynamoDbServer::start(DynamoDbKind::Dynalite) else { return };
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &some_data());
    let (program, _dir) = start(&server, Setup::new().environment(json!({"prefix": "p"})), &cloud).await;
    let mut store = Value::Null;
    let looks = async {
        while store["state"] != "missing" {
            store = program.operator_gets("/api/status").await.json()["environments"][0]["store"].clone();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("a missing table", looks).await;
    assert_eq!(store["last_answer"], "table `flags` does not exist in this region", "{store}");
    assert!(store["advice"].as_str().is_some_and(|it| it.contains("partition key `namespace`")), "{store}");
    server.create_table(TABLE);
    until("the marker", || server.is_complete("p")).await;
    reaches_state("a table", &program, "VALID").await;
}

#[test]
fn tables_and_databases_are_checked_before_anything_starts() {
    let environment = |name: &str, more: &str| {
        format!("[[launchdarkly.environments]]\nname = \"{name}\"\nsdk_key = \"sdk-{name}\"\n{more}\n")
    };
    let (one, table) = (environment("a", ""), "[launchdarkly.dynamodb]\ntable_name = \"t\"\n");
    let two = |first: &str, second: &str| environment("a", first) + &environment("b", second);
    let auto_config = "[launchdarkly.auto_config]\nkey = \"rel-1\"\n";
    for (text, part) in [
        (format!("{one}{table}"), None),
        (environment("a", "table_name = \"t\""), None),
        (two("table_name = \"t\"", "table_name = \"u\""), None),
        (format!("{}{table}", two("prefix = \"p\"", "table_name = \"u\"")), None),
        (
            format!("{one}[launchdarkly.dynamodb]\nurl = \"http://localhost:8000\"\n"),
            Some("`launchdarkly.dynamodb.table_name`: is required, because an environment has no `table_name`"),
        ),
        (two("table_name = \"t\"", "table_name = \"t\""), Some("environment `a` uses `` in the table `t` already")),
        (format!("{}{table}", two("", "prefix = \"p\"")), Some("`launchdarkly.environments[0].prefix`: is required")),
        (
            format!("{one}{table}[launchdarkly.redis]\nurl = \"redis://h\"\n[launchdarkly.consul]\nhost = \"h\"\n"),
            Some("multiple databases are enabled (Redis, Consul, DynamoDB); only one is allowed"),
        ),
        (
            environment("a", "table_name = \"t\"") + "[launchdarkly.redis]\nurl = \"redis://h\"\n",
            Some("multiple databases are enabled (Redis, DynamoDB); only one is allowed"),
        ),
        (format!("{auto_config}datastore_table_name = \"t-$CID\"\n"), None),
        (
            format!("{auto_config}datastore_table_name = \"t\"\n"),
            Some("`launchdarkly.auto_config.datastore_prefix`: is required with a database and must contain `$CID`"),
        ),
        (format!("{one}[launchdarkly.consul]\nhost = \"h/x\"\n"), Some("must be an address such as `host:8500`")),
        (format!("{one}[launchdarkly.consul]\ntoken = \"t\"\n"), Some("`launchdarkly.consul.host`: is required")),
        (
            format!("{one}[launchdarkly.consul]\nhost = \"h\"\ntoken_file = \"none\"\n"),
            Some("the file `none` cannot be read"),
        ),
        (
            format!("{one}[launchdarkly.consul]\nhost = \"h\"\ntoken = \"t\"\ntoken_file = \"none\"\n"),
            Some("cannot be combined with `launchdarkly.consul.token`"),
        ),
    ] {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::write(dir.path().join("yardarm.toml"), &text).expect("a folder that can be written");
        let mut check = crate::program::command(dir.path());
        check.env("YARDARM_SERVER_LISTEN", "127.0.0.1:0").env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0");
        let output = check.arg("check").output().expect("a program that starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if part.is_some() { 78 } else { 0 }), "U143: {text}{error}");
        assert!(error.contains(part.unwrap_or_default()), "U143: {part:?}: {error}");
    }
}
