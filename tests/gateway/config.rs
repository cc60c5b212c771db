//! What a wrong configuration says: all errors at once, each with its key and what to do. Exit code 64.

use tempfile::TempDir;

use crate::program::{command, run};

const GOOD: &str = r#"
[launchdarkly]
stream_uri = "http://127.0.0.1:9"
[[launchdarkly.environments]]
name = "main"
sdk_key = "sdk-canary-1"
mobile_key = { env = "THE_KEY" }
"#;

fn folder(text: &str) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("yardarm.toml"), text).expect("a folder that can be written");
    dir
}

#[test]
fn wrong_values_are_named_with_their_keys() {
    for (text, says) in [
        ("", &["no vendor is configured", "`[[launchdarkly.environments]]`", "yardarm demo"][..]),
        ("[server", &["is not valid TOML", "yardarm.toml"]),
        ("[server]\nlisen = 1", &["`server.lisen`", "did you mean `server.listen`?"]),
        ("[server]\nlisten = \"nowhere\"", &["`server.listen`", "must be an address with a port", "not `nowhere`"]),
        ("[server]\nmax_head = \"much\"", &["`server.max_head`"]),
        ("[shutdown]\ndrain = \"soon\"", &["`shutdown.drain`", "such as `5s`"]),
        ("[log]\nformat = \"xml\"", &["`log.format`", "`text` or `json`"]),
        (
            "[launchdarkly]\nstream_uri = \"not a uri\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"a\"",
            &["`launchdarkly.stream_uri`"],
        ),
        (
            "[launchdarkly]\nclient_streams = \"patch\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"a\"",
            &["`launchdarkly.client_streams`", "must be `ping` or `evaluated`"],
        ),
        ("[[launchdarkly.environments]]\nname = \"a\"", &["`launchdarkly.environments[0].sdk_key`", "is required"]),
        ("[[launchdarkly.environments]]\nsdk_key = \"a\"", &["`launchdarkly.environments[0].name`", "is required"]),
        // U006: a key that cannot be sent is not tried, and not printed.
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary\\n1\"",
            &["`launchdarkly.environments[0].sdk_key`", "contains characters that no key has"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = { env = \"NOWHERE\" }",
            &["`launchdarkly.environments[0].sdk_key`", "the variable `NOWHERE` is not set"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = { file = \"nowhere\" }",
            &["`launchdarkly.environments[0].sdk_key`", "the file `nowhere` cannot be read"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary-1\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary-1\"",
            &["there is another environment named `a`", "another environment has the same key"],
        ),
    ] {
        let dir = folder(text);
        for arguments in [&["run"][..], &["check"][..], &[][..]] {
            let output = run(dir.path(), arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{text}: {error}");
            for part in says {
                assert!(error.contains(part), "{text}: `{part}` is missing in {error}");
            }
            assert!(!error.contains("canary"), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["run", "--config", "elsewhere.toml"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64));
    assert!(error.contains("`elsewhere.toml` cannot be read"), "{error}");
}

#[test]
fn check_shows_every_value_with_its_source_and_no_secret() {
    let dir = folder(GOOD);
    let mut check = command(dir.path());
    check.args(["check", "--print-effective"]).env("THE_KEY", "mob-canary-2");
    check.env("YARDARM_SERVER_MAX_STREAMS", "17").env("YARDARM_SERVER_MAX_STREAM", "18");
    check.env("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_ENV_ID", "some-id");
    let output = check.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let line = |start: &str| {
        text.lines().find(|it| it.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}")).to_owned()
    };
    for (start, parts) in [
        ("server.max_streams = ", &["17", "YARDARM_SERVER_MAX_STREAMS"][..]),
        ("launchdarkly.stream_uri = ", &["http://127.0.0.1:9", "file"]),
        ("shutdown.drain = ", &["5s", "default"]),
        ("launchdarkly.environments[0].sdk_key = ", &["***", "file"]),
        ("launchdarkly.environments[0].mobile_key = ", &["THE_KEY", "file"]),
        ("launchdarkly.environments[0].env_id = ", &["some-id", "YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_ENV_ID"]),
        ("warning: ", &["YARDARM_SERVER_MAX_STREAM", "did you mean YARDARM_SERVER_MAX_STREAMS?"]),
        ("configuration is fine", &[]),
    ] {
        let line = line(start);
        for part in parts {
            assert!(line.contains(part), "{line}: {part}");
        }
    }
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_plugin_that_would_be_refused_fails_the_check() {
    let dir = folder(GOOD);
    std::fs::create_dir(dir.path().join("plugins.d")).unwrap();
    std::fs::write(dir.path().join("plugins.d/broken.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let mut check = command(dir.path());
    let output = check.arg("check").env("THE_KEY", "mob-1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("refused: ") && text.contains("broken.wasm"), "{text}");
}

#[test]
fn an_address_in_use_says_which_key_to_change() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["server.listen", "admin.listen"] {
        let (section, other) = if key == "server.listen" { ("server", "admin") } else { ("admin", "server") };
        let text = format!(
            "[data]\ndir = \"\"\n[{section}]\nlisten = \"{address}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n{GOOD}"
        );
        let dir = folder(&text.replace("{ env = \"THE_KEY\" }", "\"mob-1\""));
        let output = run(dir.path(), &["run"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for part in [&address.to_string(), &format!("Change `{key}`")] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
