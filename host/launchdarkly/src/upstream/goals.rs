//! Goals: passed through from the vendor's service, with the header rules of Go's reverse proxy.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The response of the vendor's service, with an unread body.
pub(crate) struct GoalsResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: reqwest::Body,
}

/// Fetches `path_and_query` from `base` on behalf of a browser; `None` when the service cannot be reached.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    base: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    peer: Option<std::net::IpAddr>,
) -> Option<GoalsResponse> {
    let url = format!("{base}{path_and_query}");
    let response = client.get(&url).headers(forwarded(headers, &url, peer)).send().await.ok()?;
    let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
    // The browser must see our own CORS headers, not those meant for the vendor's origin.
    let headers = end_to_end(&parts.headers, |name| !name.as_str().starts_with("access-control"));
    Some(GoalsResponse { status: parts.status, headers, body })
}

/// The headers of a browser's request as a proxy forwards them.
fn forwarded(headers: &HeaderMap, url: &str, peer: Option<std::net::IpAddr>) -> HeaderMap {
    let mut forwarded = end_to_end(headers, |name| *name != HOST && *name != X_FORWARDED_FOR);
    // Go sends the upstream's name without its port. Without a port in the URL, every client does.
    if let Ok(url) = url.parse::<Uri>()
        && url.port().is_some()
        && let Some(host) = url.host().and_then(|it| HeaderValue::from_str(it).ok())
    {
        forwarded.insert(HOST, host);
    }
    if headers.get_all(TE).iter().any(|it| names(it).any(|it| it == "trailers")) {
        forwarded.insert(TE, HeaderValue::from_static("trailers"));
    }
    let before = headers.get_all(X_FORWARDED_FOR).iter().map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let chain: Vec<_> = before.chain(peer.map(|it| it.to_string())).collect();
    if !chain.is_empty()
        && let Ok(chain) = HeaderValue::from_str(&chain.join(", "))
    {
        forwarded.insert(X_FORWARDED_FOR, chain);
    }
    forwarded
}

/// All headers without hop-by-hop headers, some of which are named in `Connection`.
fn end_to_end(headers: &HeaderMap, choose: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let listed: Vec<String> = headers.get_all(CONNECTION).iter().flat_map(names).collect();
    let is_kept = |name: &HeaderName| !is_hop_by_hop(name) && !listed.iter().any(|it| it == name.as_str());
    let kept = headers.iter().filter(|(name, _)| is_kept(name) && choose(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The elements of a list in a header, in lower case.
fn names(value: &HeaderValue) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
    text.split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH, TE, TRAILER, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(header).collect()
    }

    fn sent(all: &[(&str, &str)], url: &str, peer: Option<&str>) -> Vec<String> {
        let forwarded = forwarded(&headers(all), url, peer.map(|it| it.parse().unwrap()));
        let mut lines: Vec<_> =
            forwarded.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn hop_by_hop_headers_are_not_forwarded() {
        let all = [
            ("connection", "X-Mine, close"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "secret"),
            ("x-other", "2"),
            ("authorization", "kept"),
        ];
        assert_eq!(sent(&all, "http://a.example/x", None), ["authorization: kept", "te: trailers", "x-other: 2"]);
    }

    #[test]
    fn the_peer_is_appended_to_the_chain_of_addresses() {
        let url = "https://a.example/x";
        assert_eq!(sent(&[], url, Some("10.0.0.1")), ["x-forwarded-for: 10.0.0.1"]);
        let before = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3")];
        assert_eq!(sent(&before, url, Some("::1")), ["x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, ::1"]);
    }

    #[test]
    fn the_host_is_sent_without_its_port() {
        assert_eq!(sent(&[("host", "relay:8030")], "http://a.example:81/x", None), ["host: a.example"]);
        assert_eq!(sent(&[("host", "relay:8030")], "http://a.example/x", None), [""; 0]);
    }
}
