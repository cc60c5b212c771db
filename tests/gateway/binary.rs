//! The command line.

use tempfile::TempDir;
use yardarm_testkit::FakeLaunchDarkly;

use crate::flags::some_data;
use crate::program::{Program, Signal, run};
use crate::running::Setup;

#[test]
fn version_help_and_usage_errors_are_printed() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("yardarm ", env!("CARGO_PKG_VERSION"), "\n"));
    let output = run(dir.path(), &["--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for command in ["run", "demo", "check", "convert", "health", "ld-relay", "ff-proxy"] {
        assert!(text.contains(command), "{command}: {text}");
    }
    // EX_USAGE of sysexits(3).
    for (arguments, part) in [
        (&["runn"][..], "runn"),
        (&["run", "--listen", "nowhere"], "--listen"),
        (&["check", "--nonesuch"], "--nonesuch"),
        (&["health", "--admin", "x"], "--admin"),
    ] {
        let output = run(dir.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(run(dir.path(), &["--help"]).status.code(), Some(0));
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::new().set("log.format", "json").set("launchdarkly.init_timeout", "1h");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    let admin = program.admin.to_string();
    let ask = async |more: &'static [&'static str]| {
        let (dir, admin) = (dir.path().to_owned(), admin.clone());
        let asking =
            tokio::task::spawn_blocking(move || run(&dir, &[&["health", "--admin", &admin][..], more].concat()));
        let output = asking.await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(ask(&[]).await, (Some(0), "live\n".to_owned()));
    assert_eq!(ask(&["--ready"]).await, (Some(1), "waiting for: launchdarkly/main (initializing)\n".to_owned()));
    cloud.puts(crate::running::SDK_KEY, &some_data());
    yardarm_testkit::within("`/ready`", program.wait_until_ready()).await;
    assert_eq!(ask(&["--ready"]).await, (Some(0), "ready\n".to_owned()));
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
    let (code, text) = ask(&[]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains(&admin), "{text}");
}

#[tokio::test]
async fn arguments_win_over_the_file() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::with(some_data()).set("server.listen", "192.0.2.1:1").set("log.format", "json");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start_with(dir.path(), &["run", "--listen", "127.0.0.1:0"]).await;
    assert!(program.address.ip().is_loopback());
}
