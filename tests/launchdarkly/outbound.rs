//! Connections to the vendor's services: through a proxy, and with further certificate authorities.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use yardarm_testkit::{Call, FakeLaunchDarkly, until, within};

use crate::certificate;
use crate::program::{Program, command};
use crate::running::{SDK_KEY, Setup};

/// A proxy that passes connections on to the host of their first request, and keeps the heads of these requests.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    #[expect(clippy::disallowed_methods, reason = "the proxy lives as long as the runtime of its test")]
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, Arc::clone(&kept)));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn forward(mut client: TcpStream, heads: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    // `GET http://host:port/path HTTP/1.1`
    let target = text.split(' ').nth(1).unwrap_or_default();
    let host = target.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
    heads.lock().unwrap().push(text);
    let mut server = TcpStream::connect(host).await?;
    server.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[tokio::test]
async fn u153_all_requests_pass_through_the_configured_proxy() {
    let (cloud, proxy, dir) = (FakeLaunchDarkly::start().await, Proxy::start().await, TempDir::new().unwrap());
    cloud.add_environment(SDK_KEY);
    cloud.puts(SDK_KEY, &serde_json::json!({"flags": {}, "segments": {}}));
    let url = cloud.url();
    let mut relay = command(dir.path());
    relay.args(["ld-relay", "-from-env"]).env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0").env("LOG_FORMAT", "json");
    relay.env("PORT", "18037").env("LD_ENV_a", SDK_KEY).env("STREAM_URI", &url).env("BASE_URI", &url);
    relay.env("USE_EVENTS", "1").env("EVENTS_HOST", &url).env("EVENTS_FLUSH_INTERVAL", "50ms");
    relay.env("PROXY_URL", format!("http://user:canary@{}", proxy.address));
    let program = Program::launch(relay).await;
    within("`/ready`", program.wait_until_ready()).await;
    let post = Call::post("/bulk", r#"[{"kind":"identify","creationDate":1,"context":{"kind":"user","key":"a"}}]"#);
    assert_eq!(program.answers(&post.key(SDK_KEY)).await.status, 202);
    until("the events", || !cloud.posts("/bulk").is_empty()).await;
    let heads = proxy.heads();
    for line in [format!("GET {url}/all "), format!("POST {url}/bulk ")] {
        let head = heads.iter().find(|it| it.starts_with(&line)).unwrap_or_else(|| panic!("{line}: {heads:?}"));
        // `user:canary`
        assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjpjyw5hcnk=\r\n"), "{head}");
    }
    let streams = heads.iter().filter(|it| it.starts_with(&format!("GET {url}/all "))).count();
    assert_eq!(cloud.stream_requests().len(), streams, "no stream takes another way");
    let log = program.log();
    assert!(log.iter().any(|it| it.contains("Using proxy server at http://user:xxxxx@")), "{log:?}");
    assert!(!log.iter().any(|it| it.contains("canary")), "{log:?}");
}

#[tokio::test]
async fn u155_certificates_of_private_authorities_are_trusted() {
    let certificates = TempDir::new().unwrap();
    let path = |name: &str| certificates.path().join(name).to_str().unwrap().to_owned();
    certificate::FIRST.write(certificates.path());
    let data = serde_json::json!({"flags": {"f": {"key": "f", "version": 1}}, "segments": {}});
    let upstream = Setup::with(data).set("server.tls.cert", path("cert.pem")).set("server.tls.key", path("key.pem"));
    let upstream = upstream.start().await;
    let url = format!("https://localhost:{}", upstream.address.port());
    let dir = TempDir::new().unwrap();
    let relay = |port: &str| {
        let mut relay = command(dir.path());
        relay.args(["ld-relay", "-from-env"]).env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0").env("LOG_FORMAT", "json");
        relay.env("PORT", port).env("LD_ENV_a", SDK_KEY).env("STREAM_URI", &url);
        relay
    };
    let mut trusting = relay("18038");
    trusting.env("PROXY_CA_CERTS", path("cert.pem"));
    let program = Program::launch(trusting).await;
    within("`/ready`", program.wait_until_ready()).await;
    let flags = program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(flags.json()["f"]["version"], 1, "{}", flags.text());
    let other = Program::launch(relay("18039")).await;
    until("a refused certificate", || other.has_logged("upstream stream interrupted")).await;
    assert_eq!(other.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 503);
}
