use super::*;

const NOW: u64 = 1_000;

fn sdk(text: &str) -> SdkKey {
    SdkKey::new(text.into())
}

fn listed<K>(make: impl Fn(&str) -> K, keys: &[(&str, Option<u64>)]) -> Vec<Accepted<K>> {
    keys.iter().map(|(text, at)| Accepted { key: make(text), name: Some("id".into()), expires_ms: *at }).collect()
}

fn start() -> Credentials {
    let offered =
        OfferedKeys { sdk_key: Some(sdk("p")), mobile_key: Some(MobileKey::new("m".into())), ..Default::default() };
    Credentials::first(EnvironmentId::new("id"), offered, NOW).unwrap()
}

fn accepted(credentials: &Credentials) -> String {
    let mut all: Vec<_> = credentials.accepted().map(|(_, text)| text).collect();
    all.sort_unstable();
    all.join(" ")
}

/// Anchor, then everything that is accepted.
fn shown(credentials: &Credentials) -> String {
    format!("{}: {}", credentials.sdk_key().expose(), accepted(credentials))
}

#[test]
fn keys_rotate_with_and_without_grace() {
    let rotate = |from: &Credentials, anchor: &str, expiring: Option<(&str, u64)>| {
        let offered = OfferedKeys {
            sdk_key: (!anchor.is_empty()).then(|| sdk(anchor)),
            expiring: expiring.map(|(key, at)| (sdk(key), at)),
            ..Default::default()
        };
        from.after(offered, NOW).unwrap()
    };
    let in_grace = rotate(&start(), "q", Some(("p", 2_000)));
    for (row, from, anchor, expiring, expected) in [
        ("nothing new", start(), "p", None, "p: id m p"),
        ("U118: no grace", start(), "q", None, "q: id m q"),
        ("U116: with grace", start(), "q", Some(("p", 2_000)), "q: id m p q"),
        ("U119: the old deprecation is repeated", in_grace.clone(), "r", Some(("p", 9_000)), "r: id m p r"),
        ("an unknown deprecated key", start(), "p", Some(("k", 2_000)), "p: id k m p"),
        ("unknown deprecated key, new anchor", start(), "q", Some(("k", 2_000)), "q: id k m q"),
        ("U120: the time is over", start(), "q", Some(("p", 999)), "q: id m q"),
        ("without a new key nothing changes", in_grace.clone(), "", None, "q: id m p q"),
        ("back to the deprecated key", in_grace.clone(), "p", None, "p: id m p"),
        ("grace goes on without being repeated", in_grace.clone(), "q", None, "q: id m p q"),
    ] {
        assert_eq!(shown(&rotate(&from, anchor, expiring)), expected, "{row}");
    }
    // The first expiry stays.
    let repeated = rotate(&in_grace, "q", Some(("p", 9_000)));
    assert!(repeated.without_expired(2_000).is_none());
    assert_eq!(repeated.without_expired(2_001).map(|it| shown(&it)).as_deref(), Some("q: id m q"), "U117");
}

#[test]
fn mobile_keys_have_no_grace() {
    // U121
    let offered = OfferedKeys { mobile_key: Some(MobileKey::new("n".into())), ..Default::default() };
    assert_eq!(shown(&start().after(offered, NOW).unwrap()), "p: id n p");
    assert_eq!(shown(&start().after(OfferedKeys::default(), NOW).unwrap()), "p: id m p");
}

#[test]
fn listed_keys_replace_all_others() {
    let offer = |anchor: &str, keys: &[(&str, Option<u64>)]| OfferedKeys {
        sdk_key: Some(sdk(anchor)),
        expiring: Some((sdk("ignored"), 5_000)),
        sdk_keys: Some(listed(sdk, keys)),
        ..Default::default()
    };
    for (row, offered, expected) in [
        ("U173", offer("p", &[("p", None), ("a", None), ("b", Some(2_000))]), Ok("p: a b id m p")),
        ("U174", offer("p", &[("p", None), ("c", None)]), Ok("p: c id m p")),
        ("U176", offer("a", &[("p", None), ("a", None)]), Ok("a: a id m p")),
        ("an expired entry", offer("p", &[("p", None), ("a", Some(1))]), Ok("p: id m p")),
        ("U178", offer("x", &[("p", None)]), Err(KeyError::UnlistedSdk)),
    ] {
        let shown = start().after(offered, NOW).map(|it| shown(&it));
        assert_eq!(shown.as_deref().map_err(|error| *error), expected, "{row}");
    }
    // U175: an expiry that is taken back.
    let expiring = start().after(offer("p", &[("p", None), ("a", Some(2_000))]), NOW).unwrap();
    let permanent = expiring.after(offer("p", &[("p", None), ("a", None)]), NOW).unwrap();
    assert!(expiring.without_expired(3_000).is_some());
    assert!(permanent.without_expired(3_000).is_none());
}

#[test]
fn listed_mobile_keys() {
    let mobile = |text: &str| MobileKey::new(text.into());
    let offer = |anchor: Option<&str>, keys: &[(&str, Option<u64>)]| OfferedKeys {
        mobile_key: anchor.map(mobile),
        mobile_keys: Some(listed(mobile, keys)),
        ..Default::default()
    };
    for (offered, expected) in [
        (offer(Some("m"), &[("m", None), ("n", None)]), Ok("p: id m n p")),
        (offer(None, &[]), Ok("p: id p")),
        (offer(None, &[("n", None)]), Ok("p: id n p")),
        (offer(Some("x"), &[("n", None)]), Err(KeyError::UnlistedMobile)),
    ] {
        let shown = start().after(offered, NOW).map(|it| shown(&it));
        assert_eq!(shown.as_deref().map_err(|error| *error), expected);
    }
}

#[test]
fn the_key_that_expires_first_is_shown() {
    // U181
    let keys = [("p", None), ("c", Some(3_000)), ("b", Some(2_000)), ("a", Some(2_000))];
    let offered = OfferedKeys { sdk_key: Some(sdk("p")), sdk_keys: Some(listed(sdk, &keys)), ..Default::default() };
    let credentials = start().after(offered, NOW).unwrap();
    assert_eq!(credentials.expiring_sdk_key().map(|it| it.expose()), Some("a"));
    assert_eq!(credentials.listed().map(|(sdk, mobile)| (sdk.len(), mobile.len())), Some((4, 1)));
    assert_eq!(start().listed(), None);
}

#[test]
fn an_environment_needs_an_sdk_key() {
    let first = Credentials::first(EnvironmentId::new("id"), OfferedKeys::default(), NOW);
    assert_eq!(first, Err(KeyError::Missing));
}
