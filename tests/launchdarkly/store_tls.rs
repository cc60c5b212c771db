//! V036: Redis with TLS, an authority of its own, and a certificate of the gateway.

use serde_json::json;
use tempfile::TempDir;
use yardarm_testkit::{RedisServer, until};

use crate::certificate;
use crate::flags::some_data;
use crate::program::run;
use crate::running::{Setup, common_toml};

#[tokio::test]
async fn data_is_written_by_tls_with_own_certificates() {
    let dir = TempDir::new().expect("a temporary folder");
    certificate::FIRST.write(dir.path());
    let Some((redis, port)) = RedisServer::start_tls(dir.path()) else { return };
    let file = |name: &str| json!(dir.path().join(name));
    let setup = || {
        let setup = Setup::with(some_data()).set("launchdarkly.redis.url", format!("rediss://localhost:{port}"));
        setup.set("launchdarkly.redis.ca_file", file("cert.pem"))
    };
    let with_certificate = setup()
        .set("launchdarkly.redis.client_cert", file("cert.pem"))
        .set("launchdarkly.redis.client_key", file("key.pem"));
    let gateway = with_certificate.start().await;
    until("data in Redis", || redis.field("launchdarkly:features", "plain").is_some()).await;
    gateway.stop().await;
    redis.ask(&["FLUSHALL"]);
    // The server refuses clients without a certificate, and the gateway serves nevertheless.
    let gateway = setup().start().await;
    let is_down = |it: &serde_json::Value| it["environments"]["main"]["dataStoreStatus"]["state"] == "INTERRUPTED";
    gateway.status_where("an outage of the store", is_down).await;
    assert_eq!(redis.field("launchdarkly:features", "plain"), None);
    gateway.stop().await;
}

#[test]
fn half_a_pair_and_unreadable_files_are_errors() {
    let dir = TempDir::new().expect("a temporary folder");
    for (line, expected) in [
        (
            "client_cert = \"/no/file\"",
            "`launchdarkly.redis.client_key`: is required with `launchdarkly.redis.client_cert`",
        ),
        ("ca_file = \"/no/file\"", "cannot be read"),
        ("connect_timeout = \"2h\"", "`launchdarkly.redis.connect_timeout`"),
    ] {
        let environment = "[[launchdarkly.environments]]\nname = \"main\"\nsdk_key = \"sdk-1\"\n";
        let redis = format!("[launchdarkly.redis]\nurl = \"rediss://localhost\"\n{line}\n");
        let text = format!("{}\n{environment}{redis}", common_toml(dir.path()));
        std::fs::write(dir.path().join("yardarm.toml"), text).expect("a file");
        let output = run(dir.path(), &["check"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && errors.contains(expected), "{line}: {errors}");
    }
    // As in the relay, files have no effect without TLS.
    let environment = "[[launchdarkly.environments]]\nname = \"main\"\nsdk_key = \"sdk-1\"\n";
    let redis = "[launchdarkly.redis]\nurl = \"redis://localhost\"\nca_file = \"/no/file\"\n";
    std::fs::write(dir.path().join("yardarm.toml"), format!("{}\n{environment}{redis}", common_toml(dir.path())))
        .expect("a file");
    let output = run(dir.path(), &["check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
