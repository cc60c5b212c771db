//! Hooks whose replies are shared and repeated answer the same bytes on a fresh instance, on a reused one and in a replay, to
//! a guest that replies with the time and with random numbers and has been granted both.
//!
//! Acceptance test 7 of the plugin system.

use yardarm_testkit::guests;

use super::*;
use crate::{Compiler, FieldClass, OperatorFiles, replay_file};

/// Writes the sum of three clocks and a random number as a JSON string of 18 bytes at 2048.
const WRITE_SUM: &str = r#"
(func $write_sum (local $x i64) (local $i i32)
  (call $wasi_now (i32.const 1536))
  (local.set $x (i64.add (call $now_ms) (i64.load (i32.const 1536))))
  (local.set $x (i64.add (local.get $x) (i64.add (call $monotonic_ns) (call $wasi_random))))
  (i32.store8 (i32.const 2048) (i32.const 34))
  (i32.store8 (i32.const 2065) (i32.const 34))
  (loop $more
    (i32.store8 offset=2049
      (local.get $i) (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $x) (i64.const 15)))))
    (local.set $x (i64.shr_u (local.get $x) (i64.const 4)))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $more (i32.lt_u (local.get $i) (i32.const 16)))))
(data (i32.const 2128) "user")
(data (i32.const 2136) "plan")
(data (i32.const 2144) "flag")
(data (i32.const 2152) "extra")
(data (i32.const 2160) "{\"key\":\"extra\",\"version\":1,\"x\":\"................\"}")
;; body
(call $write_sum)
(memory.copy (i32.const 2191) (i32.const 2048) (i32.const 18))
"#;

/// `evaluation-transform`: the sum becomes the value of the first result.
const RESULT: [u32; 10] = [1, 0, 1, 2048, 18, 0, 0, 0, 0, 0];

/// `payload-transform`: adds a flag that contains the sum.
const ADDED: [u32; 9] = [2, 2144, 4, 2152, 5, 2160, 50, 0, 0];

/// `context-enrichment`: the sum becomes the attribute `plan`.
const ATTRIBUTE: [u32; 6] = [2128, 4, 2136, 4, 2048, 18];

/// Returns a fragment that replies with a list of one element, whose words these are.
fn replying(element: &[u32]) -> String {
    let store = |(index, word)| format!("(i32.store (i32.const {}) (i32.const {word}))\n", 4096 + 4 * index);
    let stores: String = element.iter().enumerate().map(store).collect();
    format!("{WRITE_SUM}{stores}(call $list (i32.const 4096) (i32.const 1))")
}

async fn fixture(hook: GuestHook, fragment: &str, isolation: &str) -> Fixture {
    let component = Guest::new("zoo").hook(hook, fragment).component().unwrap();
    let binding = format!(
        "[plugin]\ngrants = [\"clock\", \"random\", \"flag-data\"]\n[[bind]]\nhook = \"{}\"\nisolation = \"{isolation}\"",
        hook.interface()
    );
    let files: [(&str, &[u8]); 2] = [("zoo.toml", binding.as_bytes()), ("zoo.wasm", &component)];
    Fixture::set_up(&files, |settings| settings.captures = Some(FieldClass::ALL.to_vec())).await
}

/// Calls the hook and returns its reply in words.
async fn reply(fixture: &Fixture, hook: GuestHook) -> String {
    match hook {
        GuestHook::PayloadTransform => format!("{:?}", fixture.payload().await.unwrap()),
        GuestHook::EvaluationTransform => format!("{:?}", fixture.results().await.unwrap()),
        hook => panic!("{hook:?}"),
    }
}

#[tokio::test]
async fn replies_are_the_same_on_fresh_and_reused_instances_and_in_a_replay() {
    for (hook, fragment) in
        [(GuestHook::PayloadTransform, replying(&ADDED)), (GuestHook::EvaluationTransform, replying(&RESULT))]
    {
        let mut replies = Vec::new();
        for isolation in ["call", "pool", "call", "pool"] {
            let fixture = fixture(hook, &fragment, isolation).await;
            for _ in 0..3 {
                replies.push(reply(&fixture, hook).await);
            }
            let name = hook.interface();
            let missing = fixture.plugin("zoo").active.unwrap().grants_missing;
            assert_eq!(missing, [format!("clock in {name}"), format!("random in {name}")]);
        }
        assert!(replies.iter().all(|it| *it == replies[0]), "{replies:#?}");

        let failing = self::fixture(hook, guests::TRAP, "pool").await;
        if hook == GuestHook::PayloadTransform {
            failing.payload().await.unwrap_err();
        } else {
            failing.results().await.unwrap_err();
        }
        let mut captures = failing.folder.captures("zoo").unwrap();
        captures.extend(captures.clone());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zoo.wasm");
        std::fs::write(&path, Guest::new("zoo").hook(hook, &fragment).component().unwrap()).unwrap();
        let replay = move || replay_file(&path, &OperatorFiles::default(), &captures, Compiler::InProcess).unwrap();
        let replayed = std::thread::spawn(replay).join().unwrap();
        let is_sum = |it: &&str| it.len() == 16 && it.bytes().all(|byte| (b'a'..=b'p').contains(&byte));
        let sum = replies[0].split(['"', '\\']).find(is_sum).unwrap();
        assert_eq!(replayed.calls.len(), 2);
        for call in &replayed.calls {
            let shown = serde_json::to_string(&call.reply).unwrap();
            assert!(shown.contains(sum), "{shown} instead of {sum}");
        }
    }
}

#[tokio::test]
async fn elsewhere_the_granted_clock_and_randomness_are_real() {
    let fixture = fixture(GuestHook::ContextEnrichment, &replying(&ATTRIBUTE), "pool").await;
    let first = fixture.attributes().await.unwrap();
    assert_ne!(first, fixture.attributes().await.unwrap());
    assert_eq!(fixture.plugin("zoo").active.unwrap().grants_missing, [""; 0]);
}
