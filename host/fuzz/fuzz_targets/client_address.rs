//! Headers in which proxies forward the client's address: no input may panic, and nothing that a client writes
//! overrides what the nearest trusted proxy appends.
#![no_main]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use yardarm_core::client_address::ProxyRules;

fuzz_target!(|data: &[u8]| {
    let rules = ProxyRules { trusted: vec!["10.0.0.0/8".parse().expect("a network")], requires_header: false };
    let (peer, honest): (IpAddr, IpAddr) =
        ("10.0.0.1".parse().expect("an address"), "192.0.2.7".parse().expect("an address"));
    for (name, appended) in [("x-forwarded-for", ", 192.0.2.7"), ("forwarded", ", for=192.0.2.7")] {
        let value = [data, appended.as_bytes()].concat();
        let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), value);
        let client = rules.client(peer, &headers);
        assert!(client.is_none_or(|it| it == honest), "{name}: {client:?}");
        // The same in two header lines.
        headers.clear();
        if let Ok(value) = HeaderValue::from_bytes(data) {
            headers.append(HeaderName::from_static(name), value);
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(&appended[2..]));
            let client = rules.client(peer, &headers);
            assert!(client.is_none_or(|it| it == honest), "{name}: {client:?}");
        }
    }
});
