//! Guests that import WASI 0.3, alone or beside 0.2.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use yardarm_testkit::guests;

use super::*;

const DAY: u64 = 86_400;

/// Collects the log of guests, on the thread of a test.
#[derive(Clone, Default)]
struct GuestLog(Arc<Mutex<Vec<String>>>);

/// The text of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl tracing::Subscriber for GuestLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "yardarm::guest"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(event.metadata().level().to_string() + " ");
        event.record(&mut text);
        self.0.lock().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn guest(fragment: &str) -> Guest {
    Guest::new("zoo").hook(GuestHook::RequestAuth, fragment)
}

fn missing(fixture: &Fixture) -> Vec<String> {
    fixture.plugin("zoo").active.unwrap().grants_missing
}

#[tokio::test]
async fn the_clock_of_0_3_stands_still_and_is_recorded_unless_granted() {
    let read = guest(guests::READ_WASI_0_3).component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &read)]).await;
    assert_eq!(missing(&fixture), [""; 0]);
    assert_eq!(principal_of(fixture.authenticate().await), "18262", "2020-01-01");
    assert_eq!(missing(&fixture), ["clock", "random"]);
    let granted = b"[plugin]\ngrants = [\"clock\", \"random\"]\n[[bind]]\nhook = \"request-auth\"";
    fixture.swap(|fixture| fixture.put("zoo.toml", granted)).await;
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / DAY;
    let shown: u64 = principal_of(fixture.authenticate().await).parse().unwrap();
    assert!((day..=day + 1).contains(&shown), "{shown}");
    assert_eq!(missing(&fixture), [""; 0]);
}

#[tokio::test]
async fn what_is_read_of_0_3_during_the_start_does_not_count() {
    let init = "(call $wasi3_now (i32.const 8192)) (drop (call $wasi3_random)) (i32.const 128)";
    let starting = guest(guests::ALLOW).init(init).component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &starting)]).await;
    fixture.authenticate().await.unwrap();
    assert_eq!(missing(&fixture), [""; 0]);
}

#[tokio::test]
async fn what_is_printed_through_0_3_is_in_the_log() {
    let log = GuestLog::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let printing = guest(guests::PRINT_WASI_0_3).component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &printing)]).await;
    log.0.lock().clear();
    for _ in 0..3 {
        assert_eq!(principal_of(fixture.authenticate().await), "zoo");
    }
    assert_eq!(*log.0.lock(), ["INFO printed by 0.3", "INFO without an end"].repeat(3));
}

#[tokio::test]
async fn one_component_can_import_0_2_and_0_3_and_host_functions_that_wait() {
    let text = "(call $wasi_now (i32.const 4096))\n(call $wasi3_now (i32.const 4112))\n\
         (if (i64.ne (i64.load (i32.const 4096)) (i64.load (i32.const 4112))) (then unreachable))\n\
         (call $kv_increment (i32.const 1024) (i32.const 3) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 4128))\n\
         (call $allow (i32.const 1024) (i32.const 3))";
    let mixed = guest(text).component().unwrap();
    let grants = b"[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("zoo.wasm", &mixed), ("zoo.toml", grants)]).await;
    for _ in 0..3 {
        assert_eq!(principal_of(fixture.authenticate().await), "zoo");
    }
}

#[tokio::test]
async fn a_call_of_0_3_that_waits_ends_the_hook() {
    let waiting = guest(guests::WAIT_WASI_0_3).component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &waiting)]).await;
    assert!(fixture.authenticate().await.is_err());
    let errors = fixture.plugin("zoo").last_errors;
    assert_eq!(errors[0].class, "trap");
    assert!(errors[0].text.contains("cannot block a synchronous task"), "{}", errors[0].text);
}

#[tokio::test]
async fn deadlines_and_memory_limits_hold_beside_0_3() {
    for fragment in [guests::SPIN, guests::GROW] {
        let (module, body) = fragment.split_once(";; body").unwrap_or(("", fragment));
        let text = format!("{module}\n;; body\n(call $wasi3_now (i32.const 4096))\n{body}");
        let fixture = Fixture::with(&[("zoo.wasm", &guest(&text).component().unwrap())]).await;
        assert!(fixture.authenticate().await.is_err(), "{fragment}");
    }
}

#[tokio::test]
async fn sockets_of_0_3_and_async_exports_are_refused() {
    let resolving = guest(guests::RESOLVE_WASI_0_3).component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &resolving)]).await;
    let (code, text) = fixture.refusal("zoo");
    assert_eq!(code, "L05");
    assert!(text.starts_with("unknown imports: `wasi:sockets/ip-name-lookup@0.3.0` (sockets are never"), "{text}");
    let exporting = guest(guests::ALLOW).export_async().component().unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &exporting)]).await;
    let (code, text) = fixture.refusal("zoo");
    assert_eq!(code, "L04");
    assert_eq!(
        text,
        "exported as `async func`: `authenticate` of `yardarm:plugin/request-auth@0.1.0`; in `yardarm:plugin@0.1.0` \
         they are plain `func`, generate the bindings without `async`"
    );
}

#[tokio::test]
async fn code_of_both_engines_is_cached() {
    let data = DataDir::open().await;
    let (new, old) = (guest(guests::READ_WASI_0_3).component().unwrap(), Guest::new("old"));
    let old = old.hook(GuestHook::RequestAuth, guests::READ_WASI).component().unwrap();
    for is_cached in [false, true] {
        let mut fixture = Fixture::cached(&[("zoo.wasm", &new), ("old.wasm", &old)], &data, 1 << 30).await;
        for file in ["zoo", "old"] {
            assert_eq!(fixture.plugin(file).active.unwrap().compiled_before, is_cached, "{file}");
        }
        fixture.stop().await;
    }
}
