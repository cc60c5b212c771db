//! A plugin that uses more than its share of the processors is limited, and no other is.

use tokio::task::JoinSet;
use tokio::time::Instant;
use yardarm_testkit::guests;

use super::*;
use crate::CpuLimits;

const SHARE: f64 = 0.1;

fn guest(name: &str, fragment: &str) -> Vec<u8> {
    Guest::new(name).hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

fn bound_to(environment: &str) -> String {
    format!("[[bind]]\nhook = \"request-auth\"\nenvironments = [\"{environment}\"]\nlimits = {{ deadline_ms = 50 }}")
}

fn cpu_seconds(fixture: &Fixture, plugin: &str) -> f64 {
    fixture.folder.metrics().iter().find(|it| it.plugin == plugin).unwrap().cpu_seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_beyond_its_share_waits_or_fails_and_others_are_served() {
    let burn = guests::BURN.replace("(i32.const 9999)", "(i32.const 12000000)");
    let files = [("hog.wasm", guest("hog", &burn)), ("light.wasm", guest("light", guests::ALLOW))];
    let bindings = [("hog.toml", bound_to("hog").into_bytes()), ("light.toml", bound_to("prod").into_bytes())];
    let files: Vec<(&str, &[u8])> =
        files.iter().chain(&bindings).map(|(name, content)| (*name, &content[..])).collect();
    let fixture = Fixture::set_up(&files, |settings| {
        settings.cpu_limits = CpuLimits { per_plugin: SHARE, ..CpuLimits::default() };
    })
    .await;
    let began = Instant::now();
    let hog = fixture.hooks_of("hog");
    let mut callers = JoinSet::new();
    for _ in 0..150 {
        let hog = Arc::clone(&hog);
        callers.spawn(async move {
            while began.elapsed() < Duration::from_secs(4) {
                let _ = authenticate(&hog, request()).await;
            }
        });
    }
    let mut served = 0;
    while began.elapsed() < Duration::from_secs(4) {
        fixture.authenticate().await.unwrap();
        served += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    callers.join_all().await;
    let (used, elapsed) = (cpu_seconds(&fixture, "hog"), began.elapsed().as_secs_f64());
    // What was saved up, what has flowed in since, and the calls that were in progress when it was used up.
    assert!(used < 1.0 + elapsed * SHARE + 0.5, "{used} s in {elapsed} s");
    assert!(fixture.calls("hog", "allow") > 20 && fixture.calls("hog", "cpu-share") > 0, "some wait, and some fail");
    assert_eq!((fixture.calls("light", "allow"), fixture.calls("light", "cpu-share")), (served, 0));
    assert!(served > 500, "{served}");
    let error = fixture.plugin("hog").last_errors.into_iter().find(|error| error.code == "C07").unwrap();
    assert!(error.text.contains("plugins.cpu_share"), "{}", error.text);
}
