//! Limits that the manifest of a plugin wants.

use yardarm_testkit::guests;

use super::*;

async fn wanting(limits: &str, binding: Option<&str>) -> Fixture {
    let manifest = format!(r#"{{"name":"zoo","limits":{limits}}}"#);
    let guest = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW).manifest(&manifest).component().unwrap();
    let mut files: Vec<(&str, &[u8])> = vec![("zoo.wasm", &guest)];
    files.extend(binding.map(|binding| ("zoo.toml", binding.as_bytes())));
    Fixture::with(&files).await
}

/// Returns deadline and memory of the binding.
fn limits(fixture: &Fixture) -> (u128, u32) {
    let active = fixture.plugin("zoo").active.unwrap();
    (active.bindings[0].bind.deadline.as_millis(), active.bindings[0].bind.memory_mb)
}

#[tokio::test]
async fn a_smaller_limit_is_used_and_a_larger_one_needs_the_binding() {
    let binding = |limits: &str| format!("[[bind]]\nhook = \"request-auth\"\n{limits}");
    let small = r#"{"request-auth":{"deadline_ms":3,"memory_mb":4},"event-filter":{"deadline_ms":9000},"later":{}}"#;
    assert_eq!(limits(&wanting(small, None).await), (3, 4));
    assert_eq!(limits(&wanting(small, Some(&binding(""))).await), (3, 4));
    let set = binding("limits = { deadline_ms = 9 }");
    assert_eq!(limits(&wanting(small, Some(&set)).await), (9, 4));

    let large = r#"{"request-auth":{"deadline_ms":50,"memory_mb":64,"why":"to verify"}}"#;
    for file in [None, Some(binding(""))] {
        let (code, text) = wanting(large, file.as_deref()).await.refusal("zoo");
        assert_eq!(code, "L06");
        assert_eq!(
            text,
            "wants 50 ms and 64 MiB (to verify) for `request-auth`, which has 5 ms and 32 MiB unless the binding says so; \
             write `limits = { deadline_ms = 50, memory_mb = 64 }` under [[bind]] of `request-auth`, in `zoo.toml`"
        );
    }
    let set = binding("limits = { deadline_ms = 50, memory_mb = 16 }");
    let fixture = wanting(large, Some(&set)).await;
    assert_eq!(limits(&fixture), (50, 16), "the operator has decided");
    let wanted = &fixture.plugin("zoo").active.unwrap().limits_wanted["request-auth"];
    assert_eq!((wanted.deadline_ms, wanted.memory_mb, &*wanted.why), (Some(50), Some(64), "to verify"));
    let profile = format!("[plugin]\nprofile = \"large\"\n{}", binding("limits = { deadline_ms = 50 }"));
    assert_eq!(limits(&wanting(large, Some(&profile)).await), (50, 64), "within the profile");
}

#[tokio::test]
async fn a_new_version_does_not_raise_its_own_limits() {
    let version = |version: &str, deadline: u32| {
        let manifest = format!(
            r#"{{"name":"zoo","version":"{version}","limits":{{"request-auth":{{"deadline_ms":{deadline}}}}}}}"#
        );
        Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW).manifest(&manifest).component().unwrap()
    };
    let fixture = Fixture::with(&[("zoo.wasm", &version("1.0.0", 5))]).await;
    fixture.put("zoo.wasm", &version("2.0.0", 500));
    fixture.shows("a refusal", |status| status.plugins[0].refused.is_some()).await;
    let row = fixture.plugin("zoo");
    assert_eq!((row.active.unwrap().version.as_str(), row.refused.unwrap().class), ("1.0.0", "limits-denied"));
}
