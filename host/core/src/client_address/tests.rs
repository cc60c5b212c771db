use super::*;

fn rules() -> ProxyRules {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|it| it.parse().unwrap());
    ProxyRules { trusted: trusted.into(), requires_header: false }
}

fn client(peer: &str, headers: &[(&str, &str)]) -> Option<String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    rules().client(peer.parse().unwrap(), &map).map(|it| it.to_string())
}

#[test]
fn only_trusted_peers_may_name_a_client() {
    for name in ["x-forwarded-for", "forwarded"] {
        let value = if name == "forwarded" { "for=192.0.2.7" } else { "192.0.2.7" };
        assert_eq!(client("203.0.113.9", &[(name, value)]).as_deref(), Some("203.0.113.9"));
        assert_eq!(client("10.1.1.1", &[(name, value)]).as_deref(), Some("192.0.2.7"));
        assert_eq!(client("::ffff:10.1.1.1", &[(name, value)]).as_deref(), Some("192.0.2.7"), "{name}: mapped");
        assert_eq!(client("2001:db8:ffff::1", &[(name, value)]).as_deref(), Some("192.0.2.7"), "{name}");
    }
    assert_eq!(client("10.1.1.1", &[]).as_deref(), Some("10.1.1.1"), "a proxy that asks for itself");
    assert_eq!(client("::ffff:192.0.2.1", &[]).as_deref(), Some("192.0.2.1"), "in its usual form");
}

#[test]
fn the_chain_is_walked_from_the_right_as_far_as_trust_reaches() {
    for (chain, expected) in [
        (&["192.0.2.7"][..], Some("192.0.2.7")),
        (&["6.6.6.6, 192.0.2.7"], Some("192.0.2.7")),
        (&["6.6.6.6, 192.0.2.7, 10.2.2.2"], Some("192.0.2.7")),
        (&["6.6.6.6", "192.0.2.7", "10.2.2.2,10.3.3.3"], Some("192.0.2.7")),
        (&["garbage, 192.0.2.7, 10.2.2.2"], Some("192.0.2.7")),
        (&["10.9.9.9, 10.2.2.2"], Some("10.9.9.9")),
        (&["192.0.2.7:4711"], Some("192.0.2.7")),
        (&["2001:db8::7"], Some("2001:db8::7")),
        (&["[2001:db8::7]"], Some("2001:db8::7")),
        (&["[2001:db8::7]:80"], Some("2001:db8::7")),
        (&["192.0.2.7, unknown"], None),
        (&["192.0.2.7, "], None),
        (&[""], None),
        (&["192.0.2.7, 10.0.0.256"], None),
        (&["192.0.2.7:port"], None),
        (&["192.0.2.7:_a.b-1"], Some("192.0.2.7")),
        (&["192.0.2.7:_"], None),
        (&["192.0.2.7:_a b"], None),
        (&["192.0.2.7:+80"], None),
        (&["192.0.2.7:65536"], None),
        (&["192.0.2.7:"], None),
        (&["[2001:db8::7"], None),
        (&["[192.0.2.7]"], None),
    ] {
        let headers: Vec<_> = chain.iter().map(|it| ("x-forwarded-for", *it)).collect();
        assert_eq!(client("10.1.1.1", &headers).as_deref(), expected, "{chain:?}");
    }
}

#[test]
fn forwarded_is_parsed_as_in_rfc_7239() {
    for (chain, expected) in [
        (&["for=192.0.2.7"][..], Some("192.0.2.7")),
        (&["For=192.0.2.7;proto=https;by=203.0.113.43"], Some("192.0.2.7")),
        (&["proto=https ; FOR=\"192.0.2.7:80\""], Some("192.0.2.7")),
        (&["for=6.6.6.6, for=192.0.2.7, for=10.2.2.2"], Some("192.0.2.7")),
        (&["for=6.6.6.6", "for=192.0.2.7", "for=10.2.2.2,for=10.3.3.3"], Some("192.0.2.7")),
        (&["for=\"[2001:db8:cafe::17]:4711\""], Some("2001:db8:cafe::17")),
        (&["for=\"[2001:db8:cafe::17]\""], Some("2001:db8:cafe::17")),
        (&["for=\"[2001:db8:cafe::17]:_port\""], Some("2001:db8:cafe::17")),
        (&["for=[2001:db8:cafe::17]:4711"], Some("2001:db8:cafe::17")),
        (&["for=\"192.0.2\\.7\""], Some("192.0.2.7")),
        (&["for=192.0.2.7;host=\"a,b;for=6.6.6.6\""], Some("192.0.2.7")),
        (&[",, for=192.0.2.7 ,"], Some("192.0.2.7")),
        (&["for=unknown"], None),
        (&["for=_hidden"], None),
        (&["for=192.0.2.7, for=_gazonk"], None),
        (&["for=192.0.2.7, by=10.2.2.2"], None),
        (&["for=192.0.2.7;for=192.0.2.8"], None),
        (&["for=\"192.0.2.7"], None),
        (&["for=6.6.6.6;x=\", for=192.0.2.7"], None),
        (&["for=6.6.6.6;x=\", for=\"192.0.2.7\""], None),
        (&["for=6.6.6.6;x=\"\"y, for=192.0.2.7"], None),
        (&["for"], None),
        (&["=192.0.2.7"], None),
        (&["for=192.0.2.7 x"], None),
    ] {
        let headers: Vec<_> = chain.iter().map(|it| ("forwarded", *it)).collect();
        assert_eq!(client("10.1.1.1", &headers).as_deref(), expected, "{chain:?}");
    }
}

#[test]
fn a_header_that_a_proxy_maintains_wins_over_a_forwarded_one() {
    let headers = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "192.0.2.7")];
    assert_eq!(client("10.1.1.1", &headers).as_deref(), Some("192.0.2.7"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(value: Vec<u8>, peer: [u8; 4]) {
        let mut headers = HeaderMap::new();
        for name in [X_FORWARDED_FOR, FORWARDED] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(name, value);
                let _ = rules().client(IpAddr::from(peer), &headers);
                let _ = rules().client("10.0.0.1".parse().unwrap(), &headers);
                headers.clear();
            }
        }
        let _ = forwarded::nodes(&value);
    }

    #[test]
    fn a_client_cannot_override_what_the_proxy_appends(
        written in r#"[ -~]{0,40}|([fF]or="?[\[\]0-9a-z.:_\\]{0,20}"?[,; ]{0,2}){0,4}"#,
        is_one_line: bool,
    ) {
        let honest: IpAddr = "192.0.2.7".parse().unwrap();
        for (name, appended) in [
            (X_FORWARDED_FOR, "192.0.2.7"),
            (FORWARDED, "for=192.0.2.7"),
            (FORWARDED, "for=\"192.0.2.7\""),
        ] {
            let mut headers = HeaderMap::new();
            if is_one_line {
                headers.append(name, HeaderValue::from_str(&format!("{written}, {appended}")).unwrap());
            } else {
                headers.append(&name, HeaderValue::from_str(&written).unwrap());
                headers.append(name, HeaderValue::from_static(appended));
            }
            let client = rules().client("10.0.0.1".parse().unwrap(), &headers);
            assert!(client.is_none_or(|it| it == honest), "{headers:?}: {client:?}");
        }
    }
}
