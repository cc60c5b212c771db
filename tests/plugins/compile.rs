//! Components that are costly to compile: the compiler is stopped, and the gateway serves as if nothing had happened.
#![cfg(target_os = "linux")]

use std::fs;

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook, costly};
use yardarm_testkit::{Call, until};

use super::folder::{Prepared, plugins, row, setup, status_where};
use super::put;
use crate::program::{Program, Signal};
use crate::running::SDK_KEY;

/// The log line with which each compilation begins.
const COMPILING: &str = "compiling a plugin";
const MIB: u64 = 1 << 20;

fn component(guest: Guest, fragment: &str) -> Vec<u8> {
    guest.hook(GuestHook::RequestAuth, fragment).component().expect("a component")
}

/// Returns a figure of a process in bytes, such as its peak of resident memory.
fn memory(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process that runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().expect("a number") * 1024
}

/// Returns the state and the parent of a process; `None` if there is none.
fn state(id: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Returns the processes that a process has started and that have not ended.
fn children(id: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("procfs");
    let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|it| state(*it).is_some_and(|(state, parent)| parent == id && state != 'Z')).collect()
}

fn is_refused(status: &Value, file: &str, class: &str) -> bool {
    row(status, file)["refused"]["class"] == class
}

async fn serves(program: &Program) {
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
}

#[tokio::test]
async fn a_costly_component_is_stopped_at_its_memory_and_not_compiled_again_by_the_next_process() {
    let prepared = Prepared::new(setup().set("plugins.compile_memory", "256MiB")).await;
    let program = prepared.start().await;
    let before = memory(program.id(), "VmHWM");
    let costly = component(Guest::new("costly"), &costly::in_memory(guests::ALLOW));
    put(&prepared.plugins, "costly.wasm", &costly);
    until("the compiler", || program.has_logged(COMPILING)).await;
    serves(&program).await;
    put(&prepared.plugins, "small.wasm", component(Guest::new("small"), guests::ALLOW));
    let is_stopped = |status: &Value| is_refused(status, "costly", "compile-memory");
    let status = status_where(&program, "the costly component to be stopped", is_stopped).await;
    let refused = row(&status, "costly")["refused"].clone();
    let text = refused["text"].as_str().expect("a text");
    assert!(text.contains("256 MiB") && text.contains("quarantine") && refused["code"] == "L03", "{refused}");
    status_where(&program, "the small one to be active", |status| row(status, "small")["state"] == "active").await;
    serves(&program).await;
    let grown = memory(program.id(), "VmHWM") - before;
    assert!(grown < 128 * MIB, "the gateway has grown by {grown} bytes");
    assert!(children(program.id()).is_empty());

    // The digest of the file is in the store.
    let digest = hex::decode(refused["sha256"].as_str().expect("a digest")).expect("hexadecimal digits");
    let store = prepared.dir.path().join("data/store.redb");
    let is_kept = || fs::read(&store).is_ok_and(|it| it.windows(digest.len()).any(|it| it == digest));
    until("the quarantine on disk", is_kept).await;
    program.signal(Signal::KILL);
    program.ends().await;

    let program = prepared.start().await;
    let status = status_where(&program, "the same refusal", is_stopped).await;
    assert_eq!(row(&status, "costly")["refused"]["text"], refused["text"]);
    assert_eq!(row(&status, "small")["state"], "active", "{status}");
    // The other one may be compiled again, if its record was not committed before the kill.
    let is_of_costly = |line: &String| line.contains(COMPILING) && line.contains(&hex::encode(&digest));
    assert!(!program.log().iter().any(is_of_costly), "{:#?}", program.log());
    // Another file of the same name is compiled.
    put(&prepared.plugins, "costly.wasm", component(Guest::new("costly"), guests::ALLOW));
    status_where(&program, "the better build", |status| row(status, "costly")["state"] == "active").await;
}

/// Returns a component with this many bytes that mean nothing, all of the same value.
#[cfg(target_env = "gnu")]
fn padded(value: u8, bytes: usize) -> Vec<u8> {
    let mut component = component(Guest::new("padded").version(&format!("1.{value}.0")), guests::ALLOW);
    // A custom section: identifier, length in LEB128, and a name, here an empty one.
    component.push(0);
    let mut rest = bytes + 1;
    while rest >= 0x80 {
        component.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    component.extend([rest as u8, 0]);
    component.resize(component.len() + bytes, value);
    component
}

#[cfg(target_env = "gnu")]
#[tokio::test]
async fn the_memory_of_large_components_is_returned() {
    let prepared = Prepared::new(setup()).await;
    let program = prepared.start().await;
    let mut before = 0;
    for value in 1..=6 {
        put(&prepared.plugins, "padded.wasm", padded(value, 18 << 20));
        let version = format!("1.{value}.0");
        let is_active = |status: &Value| row(status, "padded")["active"]["version"] == *version;
        status_where(&program, &version, is_active).await;
        if value == 1 {
            before = memory(program.id(), "VmRSS");
        }
    }
    until("the memory of five components", || memory(program.id(), "VmRSS") < before + 16 * MIB).await;
}

#[tokio::test]
async fn a_compiler_ends_with_its_gateway_however_that_ends() {
    for signal in [Signal::KILL, Signal::TERM] {
        let prepared = Prepared::new(setup()).await;
        let program = prepared.start().await;
        put(&prepared.plugins, "costly.wasm", component(Guest::new("costly"), &costly::in_time(guests::ALLOW)));
        let is_compiling = |status: &Value| row(status, "costly")["staging_step"] == "compiling";
        status_where(&program, "the step of the costly component", is_compiling).await;
        let mut compilers = Vec::new();
        until("a compiler", || {
            compilers = children(program.id());
            !compilers.is_empty()
        })
        .await;
        assert_eq!(compilers.len(), 1);
        serves(&program).await;
        program.signal(signal);
        program.ends().await;
        let has_ended = || state(compilers[0]).is_none_or(|(state, _)| state == 'Z');
        until("the end of the compiler", has_ended).await;
    }
}

#[tokio::test]
async fn a_component_is_stopped_when_it_takes_too_long() {
    let prepared = Prepared::new(setup().set("plugins.compile_timeout", "2s")).await;
    let program = prepared.start().await;
    put(&prepared.plugins, "costly.wasm", component(Guest::new("costly"), &costly::in_time(guests::ALLOW)));
    // On a busy machine the time passes before the processor time.
    let is_stopped =
        |status: &Value| is_refused(status, "costly", "compile-cpu") || is_refused(status, "costly", "compile-timeout");
    let status = status_where(&program, "the costly component to be stopped", is_stopped).await;
    let text = row(&status, "costly")["refused"]["text"].to_string();
    assert!(text.contains("2 s") && text.contains("quarantine"), "{text}");
    serves(&program).await;
    assert!(children(program.id()).is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_component_is_found_before_it_is_compiled() {
    let prepared = Prepared::new(setup()).await;
    let program = prepared.start().await;
    let fragment = costly::in_time(guests::ALLOW);
    put(&prepared.plugins, "foreign.wasm", component(Guest::new("foreign").foreign_import(), &fragment));
    put(&prepared.plugins, "newer.wasm", component(Guest::new("newer").interface("0.2.0"), &fragment));
    put(&prepared.plugins, "unbound.wasm", component(Guest::new("unbound"), &fragment));
    put(&prepared.plugins, "unbound.toml", "[[bind]]\nhook = \"event-filter\"\nrequired = false\n");
    for (file, class) in
        [("foreign", "unknown-import"), ("newer", "unsupported-interface"), ("unbound", "manifest-invalid")]
    {
        status_where(&program, file, |status| is_refused(status, file, class)).await;
    }
    assert!(!program.has_logged(COMPILING), "{:#?}", program.log());
    assert!(plugins(&program).await["trouble"].is_null());
}
