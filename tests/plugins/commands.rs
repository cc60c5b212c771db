//! The commands that control plugins of a running gateway: what they do and print, and how they find the gateway.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};

use super::folder::{Prepared, status_where};
use super::manual::{TOKEN, prepared, replaced, runs, with_token};
use crate::program::{self, Program, Signal};

/// Runs a command beside the configuration file of the gateway, with its address.
fn runs_command(prepared: &Prepared, program: &Program, arguments: &str) -> Output {
    let admin = program.admin.to_string();
    let arguments: Vec<&str> = ["plugin", "--json"].into_iter().chain(arguments.split(' ')).collect();
    let is_local = arguments.contains(&"--dir");
    let address: &[&str] = if is_local { &[] } else { &["--admin", &admin] };
    program::run(prepared.dir.path(), &[&arguments, address].concat())
}

/// Returns the exit code and the document of a command.
fn outcome(output: &Output) -> (Option<i32>, Value) {
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), document)
}

#[tokio::test]
async fn commands_do_the_same() {
    let prepared = prepared(with_token()).await;
    let program = replaced(&prepared).await;
    let run = |arguments: &str| outcome(&runs_command(&prepared, &program, arguments));
    let (code, list) = run("list");
    assert_eq!((code, &list["is_fine"]), (Some(0), &json!(true)));
    assert_eq!(list["plugins"][0]["probation"]["previous_version"], "1.0.0");
    for (action, code) in [
        ("promote", 0),
        ("promote", 1),
        ("pin", 0),
        ("unpin", 0),
        ("rollback", 0),
        ("clear", 0),
        ("retire", 0),
        ("pin", 1),
        ("reinstate", 0),
    ] {
        let (actual, document) = run(&format!("{action} gate"));
        assert_eq!((actual, &document["is_fine"]), (Some(code), &json!(code == 0)), "{action}: {document}");
        match code {
            0 => assert!(document["action"] == action && document["changed"] == true, "{document}"),
            _ => assert_eq!(document["error"]["gateway"], program.admin.to_string()),
        }
    }
    status_where(&program, "the plugin", |status| runs(status, "2.0.0")).await;
    let (code, document) = run("order");
    let order = &document["orders"][0];
    assert_eq!((code, &order["environments"]), (Some(0), &json!(["launchdarkly/main"])));
    let place = &order["hooks"]["request-auth"][0];
    assert_eq!((&place["name"], &place["phase"], &place["priority"]), (&json!("gate"), &json!("early"), &json!(-3)));
    let (code, document) = run("order --dir plugins.d");
    assert_eq!((code, &document["orders"][0]["hooks"]["request-auth"][0]), (Some(0), place));

    // As text.
    let admin = program.admin.to_string();
    let print = |arguments: &[&str]| {
        program::run(prepared.dir.path(), &[&["plugin"], arguments, &["--admin", &admin]].concat())
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let listed = text(&print(&["list"]));
    assert!(listed.lines().any(|line| line.starts_with("gate    active  2.0.0    request-auth  *")), "{listed}");
    let ordered = text(&print(&["order"]));
    assert_eq!(ordered, "launchdarkly/main\n  request-auth\n    1.  gate  early  -3  environments *\n");
    let pinned = text(&print(&["pin", "gate"]));
    assert_eq!(pinned, "gate: pinned to version `2.0.0`: neither newer files nor failures replace it\n");
    let unknown = print(&["pin", "no/such plugin"]);
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && error.contains("there is no plugin `no/such plugin`"), "{error}");
}

#[tokio::test]
async fn commands_find_the_gateway_and_its_token_or_say_what_is_missing() {
    let prepared = prepared(with_token()).await;
    let program = prepared.start().await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let admin = program.admin.to_string();
    let token_file: PathBuf = elsewhere.path().join("token");
    std::fs::write(&token_file, format!("{TOKEN}\n")).expect("a file");
    let run = |arguments: &str, variables: &[(&str, &str)]| {
        let mut command = program::command(elsewhere.path());
        command.arg("plugin").args(arguments.split(' ')).envs(variables.iter().copied());
        let output = command.output().expect("a program that starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    // By arguments, by variables, by a configuration file with errors elsewhere.
    let toml = format!("[admin]\nlisten = \"{admin}\"\ntoken = {{ file = \"token\" }}\n[server]\nlisen = 1\n");
    std::fs::write(elsewhere.path().join("other.toml"), toml).expect("a file");
    for (arguments, variables) in [
        (format!("pin gate --admin http://{admin} --token-file token"), &[][..]),
        ("unpin gate".to_owned(), &[("YARDARM_ADMIN_LISTEN", &*admin), ("YARDARM_ADMIN_TOKEN", TOKEN)]),
        ("pin gate --config other.toml".to_owned(), &[]),
    ] {
        let (code, text) = run(&arguments, variables);
        assert!(code == Some(0) && text.contains("pinned"), "{arguments}: {text}");
    }
    // Reads need no token, although it cannot be read.
    std::fs::remove_file(&token_file).expect("a file");
    assert_eq!(run("list --config other.toml", &[]).0, Some(0));
    for (arguments, expected) in [
        ("pin gate --config other.toml", "the file `token` cannot be read"),
        (&format!("pin gate --admin {admin}"), "no token was found: give its file with `--token-file`"),
        (&format!("pin gate --admin {admin} --token-file absent"), "error: absent: cannot be read"),
        ("list --config absent.toml", "absent.toml"),
    ] {
        let (code, text) = run(arguments, &[]);
        assert!(code == Some(1) && text.contains(expected), "{arguments}: {code:?} {text}");
    }
    std::fs::write(&token_file, "another-token-of-operators").expect("a file");
    let (code, text) = run(&format!("pin gate --admin {admin} --token-file token"), &[]);
    assert!(code == Some(1) && text.contains("the token is wrong"), "{text}");
    for arguments in
        ["pin", "list --admin 127.0.0.1", "pin gate --admin https://127.0.0.1:1", "order --dir x --admin h:1"]
    {
        assert_eq!(run(arguments, &[]).0, Some(2), "{arguments}");
    }
    program.signal(Signal::TERM);
    program.ends().await;
    let (code, text) = run(&format!("list --admin {admin}"), &[]);
    assert!(code == Some(1) && text.contains(&format!("error: {admin}: no answer: ")), "{text}");
    assert!(text.contains("`admin.listen`") && text.contains("YARDARM_ADMIN_LISTEN"), "{text}");
}
