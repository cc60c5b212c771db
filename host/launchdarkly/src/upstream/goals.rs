//! Goals: passed through from the vendor's service.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use bytes::Bytes;

/// Largest answer that is passed on.
const MAX_BODY: usize = 4 << 20;

/// What the vendor's service answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Fetches `path_and_query` from `base` on behalf of a browser; `None` when the service cannot be reached.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    base: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    peer: Option<std::net::IpAddr>,
) -> Option<Answer> {
    let mut forwarded: HeaderMap = pick(headers, |name| *name != HOST && !is_hop_by_hop(name));
    if let Some(peer) = peer {
        let before = headers.get("x-forwarded-for").and_then(|it| it.to_str().ok());
        let chain = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
        forwarded.insert("x-forwarded-for", HeaderValue::from_str(&chain).ok()?);
    }
    let mut response = client.get(format!("{base}{path_and_query}")).headers(forwarded).send().await.ok()?;
    let status = response.status();
    let headers = pick(response.headers(), |name| {
        // The browser must see our own CORS headers, not those meant for the vendor's origin.
        !is_hop_by_hop(name) && !name.as_str().starts_with("access-control")
    });
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_BODY {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(Answer { status, headers, body: body.into() })
}

fn pick(headers: &HeaderMap, choose: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers.iter().filter(|(name, _)| choose(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name)
        || ["keep-alive", "te", "trailer", "upgrade", "proxy-connection", "proxy-authenticate", "proxy-authorization"]
            .contains(&name.as_str())
}
