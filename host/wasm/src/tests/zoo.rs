//! Hostile guests: each call ends in its failure class, and the host keeps working.
//!
//! Acceptance test 1 of the plugin system.

use std::path::Path;

use yardarm_testkit::guests;

use super::*;

async fn class(fixture: &Fixture) -> &'static str {
    match fixture.authenticate().await {
        Err(failure) => failure.class,
        Ok(admission) => panic!("{admission:?}"),
    }
}

#[tokio::test]
async fn calls_end_in_their_class() {
    for (fragment, expected) in [
        (guests::TRAP, "trap"),
        (guests::DIVIDE, "trap"),
        (guests::RECURSE, "trap"),
        (guests::SPIN, "deadline"),
        (guests::SPIN_IN_HOST, "deadline"),
        (guests::GROW, "memory-limit"),
        (guests::NOT_UTF8, "output-invalid"),
        (guests::OUT_OF_MEMORY, "output-invalid"),
        (guests::LONG_PRINCIPAL, "output-too-large"),
        (guests::TEMPORARY, "guest-error"),
        (guests::INVALID_INPUT, "guest-error"),
    ] {
        let fixture = Fixture::of(GuestHook::RequestAuth, fragment).await;
        assert_eq!(class(&fixture).await, expected, "{fragment}");
        assert_eq!(fixture.calls("zoo", expected), 1);
    }
}

#[tokio::test]
async fn invalid_replies_are_not_used() {
    for fragment in [guests::DROP_NOWHERE, guests::DROP_TWICE, guests::REPLACE_BADLY] {
        let fixture = Fixture::of(GuestHook::EventFilter, fragment).await;
        assert_eq!(fixture.filter(&events(2)).await, Filtering::Hold { plugin: "zoo".into() });
        assert_eq!(fixture.calls("zoo", "output-invalid"), 1, "{fragment}");
    }
    for fragment in [guests::VERSION_BACK, guests::HIDE_NOWHERE] {
        let fixture = Fixture::of(GuestHook::PayloadTransform, fragment).await;
        assert_eq!(fixture.payload().await.unwrap_err().class, "output-invalid", "{fragment}");
    }
    let fixture = Fixture::of(GuestHook::EvaluationTransform, guests::FIRST_NONSENSE).await;
    assert_eq!(fixture.results().await.unwrap_err().class, "output-invalid");
    for value in ["null  ", "{     "] {
        let not_a_value = guests::SET_PLAN.replace("\\\"gold\\\"", value);
        for fragment in [guests::SET_KEY, &not_a_value] {
            let fixture = Fixture::of(GuestHook::ContextEnrichment, fragment).await;
            assert_eq!(fixture.attributes().await, Ok(Vec::new()), "{fragment}");
            assert_eq!(fixture.calls("zoo", "output-invalid"), 1, "{fragment}");
        }
    }
}

#[tokio::test]
async fn a_trap_ends_one_instance_and_not_the_plugin() {
    let fragment = "(global $calls (mut i32) (i32.const 0))\n;; body\n\
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))\n\
        (if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))\n\
        (call $deny (i32.const 2) (global.get $calls))";
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, fragment).component().unwrap();
    let toml = b"[[bind]]\nhook = \"request-auth\"\nisolation = \"pool\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    for _ in 0..3 {
        assert!(fixture.authenticate().await.is_ok());
        assert!(fixture.authenticate().await.is_ok());
        assert_eq!(class(&fixture).await, "trap");
    }
    assert_eq!((fixture.calls("zoo", "deny"), fixture.calls("zoo", "trap")), (6, 3));
    fixture
        .shows("a replacement", |status| status.plugins[0].active.as_ref().unwrap().bindings[0].pool.idle >= 1)
        .await;
}

#[tokio::test]
async fn unusual_input_does_not_open_the_breaker() {
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::INVALID_INPUT).await;
    for _ in 0..20 {
        assert_eq!(class(&fixture).await, "guest-error");
    }
    assert_eq!(fixture.calls("zoo", "breaker-open"), 0);
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::TEMPORARY).await;
    for _ in 0..5 {
        assert_eq!(class(&fixture).await, "guest-error");
    }
    assert_eq!(class(&fixture).await, "breaker-open");
}

#[tokio::test]
async fn a_flood_of_log_lines_is_bounded() {
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::FLOOD).await;
    assert!(fixture.authenticate().await.is_ok());
    let dropped = fixture.folder.metrics()[0].log_lines_dropped;
    assert!((700..=800).contains(&dropped), "{dropped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looping_guests_do_not_stop_the_others() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::SPIN).component().unwrap();
    let toml = b"[[bind]]\nhook = \"request-auth\"\nlimits = { deadline_ms = 400 }";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    let chain = fixture.hooks_of("prod");
    for _ in 0..2 {
        let chain = Arc::clone(&chain);
        fixture.lifecycle.spawn("loop", async move {
            let _ = authenticate(&chain, request()).await;
        });
    }
    // A task that wants to run periodically, while both workers are busy with guests.
    let began = tokio::time::Instant::now();
    let mut turns = 0;
    while began.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        turns += 1;
    }
    assert!(turns >= 20, "{turns} turns in 300 ms");
    fixture.shows("both deadlines", |_| fixture.calls("zoo", "deadline") == 2).await;
}

/// Compares why the files are refused with texts that were reviewed: each says what is wrong and what to do, without a look
/// anywhere else (acceptance test 10). `UPDATE_DOCS=1` writes them instead.
fn reviewed(name: &str, fixture: &Fixture) {
    let status = fixture.folder.status();
    let refusals = status.plugins.iter().filter_map(|row| Some((&row.file, row.refused.as_ref()?)));
    let mut lines: Vec<String> =
        refusals.map(|(file, it)| format!("{file}: {} {}: {}\n", it.code, it.class, it.text)).collect();
    lines.sort();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/tests/zoo/{name}.txt"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, lines.concat()).expect("a folder for the texts");
    }
    let expected = std::fs::read_to_string(&path).expect("the reviewed texts");
    assert_eq!(lines.concat(), expected, "review the new texts, and write them with UPDATE_DOCS=1");
}

#[tokio::test]
async fn files_that_are_not_plugins_are_rejected_with_their_kind() {
    let good = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW);
    let component = good.component().unwrap();
    let native = {
        let engine = crate::runtime::engine::Engine::new(4).unwrap();
        engine.engines.plain().precompile_component(&component).unwrap()
    };
    let core = good.core().unwrap();
    let fixture = Fixture::with(&[
        ("empty.wasm", b""),
        ("text.wasm", b"(component)"),
        ("html.wasm", b"<!doctype html>"),
        ("core.wasm", &core),
        ("native.wasm", &native),
        ("short.wasm", &component[..6]),
        ("half.wasm", &component[..component.len() / 2]),
    ])
    .await;
    reviewed("no_plugins", &fixture);
    assert!(fixture.hooks_of("prod").request_auth.is_none());
}

#[tokio::test]
async fn incompatible_plugins_are_rejected_with_the_fix() {
    let allow = |guest: Guest| guest.hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap();
    let trap = allow(Guest::new("trap").init("unreachable"));
    let slow = allow(Guest::new("slow").init("(loop $l (br $l)) unreachable"));
    let config = allow(Guest::new("config").init("(call $fail (i32.const 0) (i32.const 1024) (i32.const 6))"));
    let later = allow(Guest::new("later").init("(call $fail (i32.const 1) (i32.const 1024) (i32.const 5))"));
    let newer = allow(Guest::new("newer").interface("0.2.0"));
    let foreign = allow(Guest::new("foreign").foreign_import());
    let types = allow(Guest::new("types").wrong_types());
    let hookless = Guest::new("hookless").component().unwrap();
    let misnamed = allow(Guest::new("somebody"));
    let odd = allow(Guest::new("odd name"));
    let pinned = allow(Guest::new("pinned"));
    let unbound = allow(Guest::new("unbound"));
    let fixture = Fixture::with(&[
        ("trap.wasm", &trap),
        ("slow.wasm", &slow),
        ("config.wasm", &config),
        ("later.wasm", &later),
        ("newer.wasm", &newer),
        ("foreign.wasm", &foreign),
        ("types.wasm", &types),
        ("hookless.wasm", &hookless),
        ("misnamed.wasm", &misnamed),
        ("misnamed.toml", b"[plugin]\nname = \"misnamed\""),
        ("odd.wasm", &odd),
        ("pinned.wasm", &pinned),
        ("pinned.toml", b"[plugin]\nsha256 = \"00000000000000000000000000000000000000000000000000000000000000aa\""),
        ("unbound.wasm", &unbound),
        ("unbound.toml", b"[[bind]]\nhook = \"event-filter\"\nrequired = false"),
        ("typo.wasm", &pinned),
        ("typo.toml", b"[[bind]]\nhok = \"event-filter\""),
    ])
    .await;
    reviewed("incompatible", &fixture);
}

#[tokio::test]
async fn damaged_components_are_rejected_without_a_crash() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let component = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap();
    let engine = crate::runtime::engine::Engine::new(8).unwrap();
    let (here, limits) = (crate::Compiler::InProcess, crate::CompileLimits::default());
    let compilation =
        crate::staging::compilation::Compilation::new(&engine.engines, here, limits, (None, None)).unwrap();
    let shares = crate::runtime::cpu_share::CpuShares::new(crate::CpuLimits::default());
    let stager = crate::staging::Stager {
        engine: Arc::new(engine),
        compilation,
        lifecycle: Lifecycle::new(),
        shares,
        services: crate::services::Services::for_checks(&crate::ServiceSettings::default()),
        mailboxes: crate::notices::Mailboxes::default(),
        captures: None,
        signatures: Arc::default(),
        published: Arc::default(),
    };
    for round in 0..400 {
        let mut bytes: Vec<u8> = match round % 4 {
            0 => (0..random.random_range(0..300)).map(|_| random.random()).collect(),
            1 => [b"\0asm\x0d\0\x01\0".to_vec(), (0..random.random_range(0..200)).map(|_| random.random()).collect()]
                .concat(),
            _ => component.clone(),
        };
        match round % 4 {
            2 => bytes.truncate(random.random_range(0..component.len())),
            3 => {
                for _ in 0..random.random_range(1..20) {
                    let index = random.random_range(8..bytes.len());
                    bytes[index] = random.random();
                }
            }
            _ => (),
        }
        let candidate = crate::staging::Candidate {
            stem: "noise".into(),
            sha256: [0; 32],
            bytes: bytes.into(),
            manifest: None,
            generation: 1,
            rollout: crate::vocabulary::RolloutPolicy::default(),
            compiled: None,
            progress: Default::default(),
        };
        match Box::pin(stager.stage(candidate, |_| Arc::default())).await.map(|plugin| plugin.name.clone()) {
            // Cut between two sections, a component may be valid and export nothing.
            Err(crate::LoadError::NoHook) if matches!(round % 4, 1 | 2) => (),
            Err(error) if round % 4 != 3 => assert!(["L01", "L03"].contains(&error.code()), "{round}: {error}"),
            // Changed bytes may be harmless, or change names; any result but a crash is acceptable.
            Err(_) => (),
            Ok(_) => assert_eq!(round % 4, 3, "{round}"),
        }
    }
}
