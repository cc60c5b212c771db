//! Checks the `Host` of requests to the admin listener, against DNS rebinding: a page in an operator's browser that
//! lets its own name resolve to the listener's address must not read what the listener serves.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};

/// Names that are accepted besides addresses and `localhost`, in lower case; `*.` stands for any subdomain.
type AllowedNames = Arc<[String]>;

/// Wraps the routes of the admin listener: a request to an unknown host name is answered 421.
///
/// IP addresses are accepted, because a browser sends one only for a page that was loaded from it. A request without
/// `Host` is accepted too: browsers always send the header, simple probes may not.
pub(crate) fn protect(router: Router, allowed: &[String]) -> Router {
    let allowed: AllowedNames = allowed.iter().map(|name| normalized(name)).collect();
    router.layer(middleware::from_fn_with_state(allowed, check))
}

async fn check(State(allowed): State<AllowedNames>, request: Request, next: Next) -> Response {
    match host(request.uri(), request.headers()) {
        Err(()) => (StatusCode::BAD_REQUEST, "the `Host` header is malformed\n").into_response(),
        Ok(Some(host)) if !is_allowed(&host, &allowed) => {
            let text = "`Host` is not a known name of the admin listener; use an IP address or `localhost`, or list the \
                        name in `admin.allowed_hosts`\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
        Ok(_) => next.run(request).await,
    }
}

/// Returns the host of a request without its port; `None` if the request has neither a host in its target nor a header.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, ()> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(normalized(authority.host())));
    }
    let mut values = headers.get_all(HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    if value.is_empty() {
        return Ok(None);
    }
    let authority = Authority::try_from(value.as_bytes()).map_err(|_| ())?;
    if authority.as_str().contains('@') { Err(()) } else { Ok(Some(normalized(authority.host()))) }
}

fn is_allowed(host: &str, allowed: &[String]) -> bool {
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.ends_with(".localhost")
        || allowed.iter().any(|name| match name.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == name,
        })
}

/// Returns the name in lower case, without the final dot of a fully qualified name.
fn normalized(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn verdict(uri: &str, hosts: &[&str]) -> Option<bool> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let allowed = ["ops.example".to_owned(), "*.svc".to_owned()];
        match host(&uri.parse().unwrap(), &headers) {
            Err(()) => None,
            Ok(host) => Some(host.is_none_or(|host| is_allowed(&host, &allowed))),
        }
    }

    #[test]
    fn addresses_and_known_names_are_accepted() {
        let passing = [
            "127.0.0.1",
            "127.0.0.1:8040",
            "[::1]:8040",
            "10.1.2.3",
            "localhost:8040",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "ops.example:1",
            "Ops.Example.",
            "a.svc",
            "a.b.svc",
            "",
        ];
        for host in passing {
            assert_eq!(verdict("/", &[host]), Some(true), "{host:?}");
        }
        assert_eq!(verdict("/", &[]), Some(true));
    }

    #[test]
    fn other_names_are_rejected() {
        let refused = [
            "evil.example",
            "evil.example:8040",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "x.ops.example",
            ".svc",
            "svc",
            "evilsvc",
        ];
        for host in refused {
            assert_eq!(verdict("/", &[host]), Some(false), "{host:?}");
        }
        assert_eq!(verdict("http://evil.example/", &["127.0.0.1"]), Some(false), "the target wins over the header");
    }

    #[test]
    fn malformed_hosts_are_rejected() {
        for hosts in [&["127.0.0.1", "evil.example"][..], &["evil.example@127.0.0.1"], &["a b"], &["[::1"]] {
            assert_eq!(verdict("/", hosts), None, "{hosts:?}");
        }
    }
}
