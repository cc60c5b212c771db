use std::fs;
use std::time::Duration;

use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::*;
use crate::runtime::engine::{Engine, EngineKind, Engines, on_demand};

/// A compiler that is a line of shell, which appends to a file first.
struct Scripted {
    dir: tempfile::TempDir,
    compilation: Compilation,
}

impl Scripted {
    fn new(line: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("echo x >> '{}'; {line}", dir.path().join("runs").display());
        let compiler = Compiler::Child { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
        let limits = CompileLimits { time: Duration::from_secs(1), ..CompileLimits::default() };
        let compilation = Compilation::new(&engines(), compiler, limits, (None, None)).unwrap();
        Self { dir, compilation }
    }

    async fn compile(&self) -> Result<bool, LoadError> {
        compile(&self.compilation).await
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().len() / 2
    }
}

fn engines() -> Engines {
    Engines::new(on_demand(EngineKind::Plain, false).unwrap(), None, false)
}

fn source() -> Source {
    let bytes = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap();
    Source { bytes: bytes.into(), sha256: [7; 32], complexity: 0, kind: EngineKind::Plain }
}

async fn compile(compilation: &Compilation) -> Result<bool, LoadError> {
    compilation.compile(source(), &Progress::default()).await.map(|(_, was_cached)| was_cached)
}

#[tokio::test]
async fn a_compilation_that_is_stopped_is_not_repeated_until_it_is_cleared() {
    for (line, class) in [
        ("kill -KILL $$", "compile-killed"),
        ("kill -XCPU $$", "compile-cpu"),
        ("kill -SEGV $$", "compile-crashed"),
        ("echo memory allocation of 9 bytes failed >&2; kill -ABRT $$", "compile-memory"),
        ("exec sleep 600", "compile-timeout"),
    ] {
        let scripted = Scripted::new(line);
        let first = scripted.compile().await.unwrap_err();
        assert_eq!((first.code(), first.class()), ("L03", class), "{first}");
        assert_eq!(scripted.compile().await.unwrap_err(), first);
        assert_eq!(scripted.runs(), 1, "{line}");
        assert!(scripted.compilation.quarantine().clear(&[7; 32]));
        assert!(!scripted.compilation.quarantine().clear(&[7; 32]));
        assert_eq!(scripted.compile().await.unwrap_err(), first);
        assert_eq!(scripted.runs(), 2, "{line}");
    }
}

#[tokio::test]
async fn a_compiler_that_cannot_run_says_nothing_about_the_component() {
    for line in ["exit 71", "exit 0", "kill -TERM $$", "echo junk"] {
        let scripted = Scripted::new(line);
        for runs in 1..=2 {
            let error = scripted.compile().await.unwrap_err();
            assert_eq!(error.class(), "compiler-unavailable", "{line}: {error}");
            assert!(error.may_pass());
            assert_eq!(scripted.runs(), runs, "{line}");
        }
    }
    let engine = engines();
    let nowhere = Compiler::program("/nowhere/yardarm");
    let compilation = Compilation::new(&engine, nowhere, CompileLimits::default(), (None, None)).unwrap();
    let error = compile(&compilation).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/yardarm"), "{error}");
}

#[tokio::test]
async fn a_compiler_is_killed_with_the_future_that_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, limits) = (dir.path().join("id"), CompileLimits::default());
    let script = format!("echo $$ > '{}'; exec sleep 600", path.display());
    let compiler = Compiler::Child { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] };
    let compilation = Compilation::new(&engines(), compiler, limits, (None, None)).unwrap();
    let id = async {
        loop {
            if let Ok(id) = fs::read_to_string(&path).unwrap_or_default().trim().parse::<i32>() {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let id = tokio::select! {
        result = compile(&compilation) => panic!("{result:?}"),
        id = id => id,
    };
    let process = rustix::process::Pid::from_raw(id).unwrap();
    let is_gone = async {
        // Until it is reaped, it is a zombie.
        while rustix::process::test_kill_process(process).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_gone).await.expect("killed and reaped");
}

#[tokio::test]
async fn code_that_is_compiled_in_the_process_runs_in_an_engine_with_a_pool() {
    let engine = Engine::new(4).unwrap();
    let limits = CompileLimits::default();
    let compilation = Compilation::new(&engine.engines, Compiler::InProcess, limits, (None, None)).unwrap();
    assert_eq!(compile(&compilation).await, Ok(false));
    let bytes: Arc<[u8]> = b"\0asm\x0d\0\x01\0\xff".to_vec().into();
    let junk = Source { bytes, sha256: [8; 32], complexity: 0, kind: EngineKind::Plain };
    let error = compilation.compile(junk, &Progress::default()).await.unwrap_err();
    assert_eq!((error.code(), error.may_pass()), ("L03", false), "{error}");
}
