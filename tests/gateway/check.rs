//! `yardarm check` opens everything that a start opens, and reports the same errors.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use tempfile::TempDir;
use yardarm_testkit::FakeLaunchDarkly;

use crate::certificate::{FIRST, SECOND};
use crate::flags::some_data;
use crate::program::{Program, Signal, command, run};
use crate::running::Setup;

const ENVIRONMENT: &str = "[[launchdarkly.environments]]\nname = \"main\"\nsdk_key = \"sdk-1\"\n";
const LISTENERS: &str = "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a folder that can be written");
}

#[test]
fn check_reports_the_errors_of_a_start() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let busy = taken.local_addr().unwrap();
    let tls = |cert: &str, key: &str| {
        format!("{LISTENERS}server.tls = {{ cert = \"{cert}\", key = \"{key}\" }}\n{ENVIRONMENT}")
    };
    let listens = |lines: &str| format!("{lines}\n{ENVIRONMENT}");
    for (text, code, parts) in [
        (
            listens("server.listen = \"127.0.0.1:7777\"\nadmin.listen = \"127.0.0.1:7777\""),
            78,
            &["`admin.listen` (yardarm.toml, line 2", "is the same address as `server.listen`"][..],
        ),
        (
            listens("server.listen = \"0.0.0.0:7777\"\nadmin.listen = \"127.0.0.1:7777\""),
            78,
            &["`admin.listen`", "`server.listen`"],
        ),
        (
            listens("server.listen = \"127.0.0.1:8040\""),
            78,
            &["`admin.listen`: is the same address as `server.listen`"],
        ),
        (
            listens(&format!(
                "{LISTENERS}launchdarkly.listen = \"127.0.0.1:7777\"\nlaunchdarkly.prometheus.listen = \"127.0.0.1:7777\""
            )),
            78,
            &["`launchdarkly.prometheus.listen`", "`launchdarkly.listen`"],
        ),
        (
            listens(&format!("server.listen = \"{busy}\"\nadmin.listen = \"127.0.0.1:0\"")),
            69,
            &[&busy.to_string(), "in use by another program", "Change `server.listen`"],
        ),
        (
            listens(&format!("server.listen = \"127.0.0.1:0\"\nadmin.listen = \"{busy}\"")),
            69,
            &[&busy.to_string(), "Change `admin.listen`"],
        ),
        (
            listens(&format!("{LISTENERS}launchdarkly.prometheus.listen = \"{busy}\"")),
            69,
            &[&busy.to_string(), "Change `launchdarkly.prometheus.listen`"],
        ),
        (
            listens(&format!("{LISTENERS}launchdarkly.prometheus.prefix = \"my-relay\\\"\"")),
            78,
            &["`launchdarkly.prometheus.prefix` (yardarm.toml, line ", "letters, digits, `_` and `:`"],
        ),
        (
            listens("server.listen = \"192.0.2.1:1\"\nadmin.listen = \"127.0.0.1:0\""),
            78,
            &["192.0.2.1:1", "Change `server.listen`"],
        ),
        (tls("nowhere.pem", "key.pem"), 78, &["`server.tls.cert`", "`nowhere.pem`"]),
        (tls("cert.pem", "nowhere.pem"), 78, &["`server.tls.key`", "`nowhere.pem`"]),
        (tls("cert.pem", "cert.pem"), 78, &["`server.tls.key`", "`cert.pem`"]),
        (tls("cert.pem", "other.pem"), 78, &["cannot be used together"]),
        (
            format!("{LISTENERS}launchdarkly.offline.file = \"nowhere.tar.gz\""),
            78,
            &["`nowhere.tar.gz`", "`launchdarkly.offline.file`"],
        ),
        (
            format!("{LISTENERS}launchdarkly.offline.file = \"cert.pem\""),
            78,
            &["`cert.pem`", "`launchdarkly.offline.file`"],
        ),
        (format!("{LISTENERS}harness.offline.dir = \"nowhere\""), 78, &["`nowhere`", "`harness.offline.dir`"]),
        (listens(&format!("{LISTENERS}data.dir = \"cert.pem\"")), 73, &["`cert.pem`", "`data.dir`"]),
        (listens(&format!("{LISTENERS}data.dir = \"cert.pem/x\"")), 73, &["`cert.pem/x`", "`data.dir`"]),
        (
            format!("{LISTENERS}[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = {{ file = \"nowhere\" }}"),
            78,
            &["sdk_key", "`nowhere`"],
        ),
    ] {
        let dir = TempDir::new().unwrap();
        write(dir.path(), "cert.pem", FIRST.certificate);
        write(dir.path(), "key.pem", FIRST.key);
        write(dir.path(), "other.pem", SECOND.key);
        write(dir.path(), "yardarm.toml", &text);
        for arguments in ["check", "run"] {
            let output = run(dir.path(), &[arguments]);
            let error = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<_> = error.lines().filter(|it| it.starts_with("error: ")).collect();
            assert_eq!((output.status.code(), errors.len()), (Some(code), 1), "{arguments} {text}: {error}");
            for part in parts {
                assert!(error.contains(part), "{arguments} {text}: `{part}` is missing in {error}");
            }
            assert!(arguments == "run" || !dir.path().join("data").exists(), "{text}");
        }
    }
}

#[test]
fn root_certificates_that_cannot_be_used_prevent_a_start() {
    let dir = TempDir::new().unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write(dir.path(), "roots.pem", bad);
    write(dir.path(), "yardarm.toml", &format!("{LISTENERS}{ENVIRONMENT}"));
    for arguments in ["check", "run"] {
        let output = command(dir.path())
            .arg(arguments)
            .env("SSL_CERT_FILE", dir.path().join("roots.pem"))
            .env("SSL_CERT_DIR", dir.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{arguments}: {error}");
        assert!(error.contains("none of the system's root certificates"), "{arguments}: {error}");
    }
}

#[test]
fn several_errors_are_reported_at_once() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "in-the-way", "");
    let text =
        format!("{LISTENERS}data.dir = \"in-the-way\"\nserver.tls = {{ cert = \"a\", key = \"b\" }}\n{ENVIRONMENT}");
    write(dir.path(), "yardarm.toml", &text);
    for arguments in ["check", "run"] {
        let output = run(dir.path(), &[arguments]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "the configuration comes first: {error}");
        assert!(error.contains("`data.dir`") && error.contains("`server.tls.cert`"), "{arguments}: {error}");
    }
}

#[test]
fn check_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    write(dir.path(), "yardarm.toml", &format!("{LISTENERS}data.dir = \"a/b\"\n{ENVIRONMENT}"));
    let output = run(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    write(dir.path(), "plugins.d", "no folder");
    let output = run(dir.path(), &["check"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("refused: plugin folder: ") && text.contains("plugins.d"), "{text}");
}

#[tokio::test]
async fn a_running_gateway_does_not_fail_the_check_of_its_successor() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::with(some_data()).set("log.format", "json");
    setup.fill(&cloud);
    let (server, admin) = (free(), free());
    let setup = setup.set("server.listen", server.to_string()).set("admin.listen", admin.to_string());
    setup.set("data.dir", dir.path().join("data").to_str().unwrap()).write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    let checks = async || {
        let dir = dir.path().to_owned();
        let output = tokio::task::spawn_blocking(move || command(&dir).arg("check").output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = checks().await;
    assert_eq!(code, Some(0), "{text}");
    for address in [server, admin] {
        let warning = format!("warning: {address} is in use by the gateway that runs as process {}", program.id());
        assert!(text.contains(&warning), "{text}");
    }
    assert!(
        text.contains(&format!(
            "warning: a gateway is running: `data.dir`: folder `{}`",
            dir.path().join("data").display()
        )),
        "{text}"
    );
    program.signal(Signal::TERM);
    program.ends().await;
    assert!(!checks().await.1.contains("warning"), "all is free again");
    // Another program at the port is an error.
    let _taken = TcpListener::bind(server).unwrap();
    let (code, text) = checks().await;
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains(&format!("cannot listen on {server}: it is in use by another program")), "{text}");
}

fn free() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr()).expect("a free port")
}
