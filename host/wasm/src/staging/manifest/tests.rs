use yardarm_core::EnvironmentLabel;

use super::*;
use crate::vocabulary::{Pattern, Required, RolloutMode};

#[test]
fn a_full_file_is_read() {
    let manifest = Manifest::parse(
        r#"
        [plugin]
        name = "tenant-auth"
        sha256 = "0000000000000000000000000000000000000000000000000000000000000001"
        grants = ["clock", "header:Authorization", "event-bodies"]

        [plugin.config]
        issuer = "https://idp.internal"

        [[bind]]
        hook = "request-auth"
        environments = ["prod-*"]
        sdk = ["server", "client"]
        routes = ["server.*"]
        phase = "early"
        priority = 50
        on_failure = "open"
        i_accept_unauthenticated = true
        required = false
        limits = { deadline_ms = 7, memory_mb = 8 }
        isolation = "call"
        "#,
    )
    .unwrap();
    assert_eq!(manifest.name.as_deref(), Some("tenant-auth"));
    assert_eq!(manifest.grants.to_string(), "clock, event-bodies, header:authorization");
    assert_eq!(manifest.config["issuer"], "https://idp.internal");
    let bind = &manifest.binds[0];
    assert_eq!((bind.hook, bind.phase, bind.priority), (Hook::RequestAuth, Phase::Early, 50));
    assert_eq!((bind.on_failure, bind.required), (Policy::Open, Required::No));
    assert_eq!((bind.deadline, bind.memory_mb), (Duration::from_millis(7), 8));
    assert_eq!(bind.isolation, Some(Isolation::Call));
    assert!(bind.covers(&EnvironmentLabel::new("harness", "prod-eu")));
    assert!(!bind.covers(&EnvironmentLabel::new("harness", "test")));
    assert!(bind.covers_route("server.stream.all") && !bind.covers_route("mobile.poll"));
    assert!(bind.covers_sdk("client") && !bind.covers_sdk("mobile"));
}

#[test]
fn security_hooks_are_required_by_default() {
    for hook in Hook::ALL {
        let manifest = Manifest::parse(&format!("[[bind]]\nhook = \"{hook}\"")).unwrap();
        let expected = matches!(hook, Hook::RequestAuth | Hook::EventFilter | Hook::RouteResolver).into();
        assert_eq!(manifest.binds[0].required, expected, "{hook}");
        assert_eq!(Bind::automatic(hook).required, Required::No);
    }
}

#[test]
fn faults_name_the_key_and_what_to_write() {
    let table = [
        ("[plugin]\nnmae = \"x\"", "`plugin.nmae`: unknown key `nmae`, did you mean `name`?"),
        (
            "[[bind]]\nhook = \"request-aut\"",
            "`bind[0].hook`: unknown value `request-aut`, did you mean `request-auth`?",
        ),
        ("[[bind]]\nenvironments = [\"*\"]", "`bind[0].hook`: is missing"),
        (
            "[[bind]]\nhook = \"request-auth\"\non_failure = \"open\"",
            "`bind[0].on_failure`: `open` admits every request while the plugin fails; add `i_accept_unauthenticated = true` \
             to accept this",
        ),
        (
            "[[bind]]\nhook = \"event-filter\"\non_failure = \"closed\"",
            "`bind[0].on_failure`: unknown value `closed`, expected one of `hold`, `drop`, `pass`",
        ),
        (
            "[[bind]]\nhook = \"event-filter\"\nlimits = { deadline_ms = 0 }",
            "`bind[0].limits.deadline_ms`: must be a whole number from 1 to 60000",
        ),
        ("[plugin]\ngrants = [\"clok\"]", "`plugin.grants`: unknown grant `clok`, did you mean `clock`?"),
        (
            "[plugin]\ngrants = [\"header:x-*\"]",
            "`plugin.grants`: `header:x-*` is a pattern, which only a manifest may want; grant a header, URL or secret",
        ),
        ("[plugin]\nsha256 = \"ab\"", "`plugin.sha256`: must be 64 hexadecimal digits, as `sha256sum` prints them"),
        ("[binds]", "`binds`: unknown key `binds`, did you mean `bind`?"),
        ("[plugin]\nname = 3", "`plugin.name`: must be a text"),
    ];
    for (text, fault) in table {
        let bad = Manifest::parse(text).unwrap_err();
        assert_eq!(bad.faults, [fault], "{text}");
    }
}

#[test]
fn a_plugin_may_be_required_from_the_first_moment() {
    for (text, expected) in [("true", Required::Yes), ("false", Required::No), ("\"always\"", Required::Always)] {
        let text = format!("[[bind]]\nhook = \"payload-transform\"\nrequired = {text}");
        assert_eq!(Manifest::parse(&text).unwrap().binds[0].required, expected);
    }
    let bad = Manifest::parse("[[bind]]\nhook = \"request-auth\"\nrequired = \"allways\"").unwrap_err();
    assert_eq!(bad.faults, ["`bind[0].required`: must be `true`, `false` or `\"always\"`"]);
}

#[test]
fn patterns_match_whole_texts() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("prod-*", "prod-eu", true),
        ("prod-*", "preprod-eu", false),
        ("*-eu", "prod-eu", true),
        ("p*d*u", "prod-eu", true),
        ("p?od", "prod", true),
        ("p?od", "pod", false),
        ("", "x", false),
        ("harness/*", "harness/a", true),
        ("äö*", "äöü", true),
    ] {
        assert_eq!(Pattern::from(pattern).matches(text), expected, "{pattern} {text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn no_table_makes_the_reader_panic(
        section in "plugin|bind|plugin.config|binds",
        key in "name|grants|hook|limits|environments|sdk|priority|[a-z]{1,8}",
        value in "[0-9]{1,20}|\"[a-z*-]{0,9}\"|true|\\[\\]|\\[1\\]|\\{ x = 1 \\}|1979-05-27|1\\.5|inf",
        double in proptest::bool::ANY,
    ) {
        let head = if double { format!("[[{section}]]") } else { format!("[{section}]") };
        let _ = Manifest::parse(&format!("{head}\n{key} = {value}\n"));
    }

    #[test]
    fn matching_takes_bounded_time(pattern in "[*?a]{0,40}", text in "[ab]{0,60}") {
        let _ = Pattern::from(pattern.as_str()).matches(&text);
    }
}

#[test]
fn a_line_that_cannot_be_read_is_named_and_not_shown() {
    for (text, expected) in [
        ("[plugin]\nname = \"a\"\n[plugin.config]\ntokens = [\"canary\" \"canary\"]", "line 4, column 20: "),
        ("tokens = \"canary", "line 1, column "),
        ("ä = 1\nü = = \"canary\"", "line 2, column "),
    ] {
        let faults = Manifest::parse(text).unwrap_err().faults;
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{faults:?}");
        assert!(!faults[0].contains("canary") && !faults[0].contains('\n'), "{faults:?}");
    }
    let faults = Manifest::of_bytes(b"name = \"\xffcanary\"").unwrap_err().faults;
    assert_eq!(faults, ["byte 8 is not valid UTF-8"]);
}

#[test]
fn a_rollout_has_one_of_three_forms() {
    let after = |seconds| Some(Duration::from_secs(seconds));
    let canary = |percent| RolloutMode::Canary { percent };
    for (value, mode, promote_after) in [
        ("\"full\"", RolloutMode::Full, None),
        ("\"shadow\"", RolloutMode::Shadow, None),
        ("{ mode = \"shadow\", promote_after_s = 60 }", RolloutMode::Shadow, after(60)),
        ("{ percent = 5 }", canary(5), None),
        ("{ percent = 99, promote_after_s = 3600 }", canary(99), after(3_600)),
    ] {
        let manifest = Manifest::parse(&format!("[plugin]\nrollout = {value}")).unwrap();
        assert_eq!(manifest.rollout, RolloutPolicy { mode, promote_after }, "{value}");
    }
    for (value, expected) in [
        ("\"canary\"", "must be `\"full\"`, `\"shadow\"`"),
        ("5", "must be `\"full\"`"),
        ("{}", "must be `\"full\"`"),
        ("{ percent = 5, mode = \"shadow\" }", "must be `\"full\"`"),
        ("{ percent = 0 }", "`plugin.rollout.percent`: must be a whole number from 1 to 99"),
        ("{ percent = 100 }", "from 1 to 99"),
        ("{ percent = 5, promote_after = 1 }", "unknown key `promote_after`, did you mean `promote_after_s`?"),
    ] {
        let faults = Manifest::parse(&format!("[plugin]\nrollout = {value}")).unwrap_err().faults.join("\n");
        assert!(faults.contains(expected), "{value}: {faults}");
    }
    let resolver = "[plugin]\nrollout = { percent = 5 }\n[[bind]]\nhook = \"route-resolver\"";
    assert!(Manifest::parse(resolver).unwrap_err().faults[0].contains("use `\"shadow\"`"));
    assert!(Manifest::parse(&resolver.replace("{ percent = 5 }", "\"shadow\"")).is_ok());
}
