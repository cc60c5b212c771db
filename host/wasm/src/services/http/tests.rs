//! Outbound requests against servers of this process.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::vocabulary::Grants;

/// Serves `response` to each connection; returns the address, and a receiver of requests.
#[expect(clippy::disallowed_methods, reason = "the server lives as long as the runtime of its test")]
async fn server(response: impl Into<Vec<u8>>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel(16);
    let response = response.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 8192];
            let size = stream.read(&mut buffer).await.unwrap_or(0);
            let _ = sender.send(String::from_utf8_lossy(&buffer[..size]).into_owned()).await;
            let _ = stream.write_all(&response).await;
        }
    });
    (origin, requests)
}

fn access() -> HttpAccess {
    HttpAccess::new(HttpClient::new(Vec::new()))
}

fn grants(texts: &[String]) -> Grants {
    let mut grants = Grants::default();
    assert!(texts.iter().all(|text| grants.add(text)));
    grants
}

fn get(url: String) -> HttpRequest {
    HttpRequest { method: "GET".to_owned(), url, ..HttpRequest::default() }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-test: yes\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_granted_request_is_sent_as_written_and_answered() {
    let (origin, mut requests) = server(ok("hello")).await;
    let grants = grants(&[format!("http-out:{origin}/hook")]);
    let request = HttpRequest {
        method: "POST".to_owned(),
        headers: vec![("Authorization".to_owned(), b"Bearer x".to_vec())],
        body: Some(b"body".to_vec()),
        ..get(format!("{origin}/hook/a?b=c"))
    };
    let response = access().send(&grants, request).await.unwrap();
    assert_eq!((response.status, &*response.body), (200, &b"hello"[..]));
    assert!(response.headers.contains(&("x-test".to_owned(), b"yes".to_vec())));
    let sent = requests.recv().await.unwrap();
    assert!(sent.starts_with("POST /hook/a?b=c HTTP/1.1\r\n") && sent.ends_with("\r\n\r\nbody"), "{sent}");
    assert!(sent.contains("authorization: Bearer x\r\n") && sent.contains("content-length: 4\r\n"), "{sent}");
}

#[tokio::test]
async fn nothing_is_sent_without_a_grant() {
    let (origin, mut requests) = server(ok("")).await;
    let port = origin.rsplit(':').next().unwrap().to_owned();
    let granted = grants(&[format!("http-out:{origin}/hook"), format!("http-out:http://localhost:{port}/")]);
    for url in [format!("{origin}/other"), format!("{origin}/hook/../other"), format!("https://127.0.0.1:{port}/hook")]
    {
        let denied = access().send(&granted, get(format!("{url}?token=t"))).await.unwrap_err();
        let HttpError::Denied(text) = denied else { panic!("{denied:?}") };
        assert!(text.contains("no grant `http-out:`") && !text.contains("token"), "{text}");
    }
    let denied = access().send(&granted, get(format!("http://localhost:{port}/"))).await.unwrap_err();
    let HttpError::Denied(text) = denied else { panic!("{denied:?}") };
    assert!(text.contains("private or reserved") && text.contains("http_private_networks"), "{text}");
    assert!(requests.try_recv().is_err());

    let client = HttpClient::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    let allowed = HttpAccess::new(client).send(&granted, get(format!("http://localhost:{port}/"))).await;
    assert_eq!(allowed.map(|it| it.status), Ok(200));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (other, mut requests) = server(ok("")).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {other}/\r\ncontent-length: 0\r\n\r\n");
    let (origin, _requests) = server(redirect).await;
    let grants = grants(&[format!("http-out:{origin}"), format!("http-out:{other}")]);
    assert_eq!(access().send(&grants, get(origin)).await.unwrap().status, 302);
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn responses_are_bounded_in_size_and_time() {
    let body = "x".repeat(LARGEST_BODY + 1);
    let unframed = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
    for response in [ok(&body), unframed] {
        let (origin, _requests) = server(response).await;
        let grants = grants(&[format!("http-out:{origin}")]);
        assert_eq!(access().send(&grants, get(origin)).await, Err(HttpError::TooLarge));
    }
    // A server that never ends its response.
    let (origin, _requests) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
    let granted = grants(&[format!("http-out:{origin}")]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let waiting = grants(&[format!("http-out:{silent}")]);
    let request = HttpRequest { timeout: Some(Duration::from_millis(50)), ..get(silent) };
    assert_eq!(access().send(&waiting, request).await, Err(HttpError::Timeout));
    let cut = access().send(&granted, get(origin)).await.unwrap_err();
    assert!(matches!(cut, HttpError::Connection(_)), "{cut:?}");
}

#[tokio::test]
async fn a_plugin_has_few_requests_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap());
    let (access, grants) = (access(), grants(&[format!("http-out:{silent}")]));
    let mut waiting: Vec<_> = (0..MOST_REQUESTS).map(|_| Box::pin(access.send(&grants, get(silent.clone())))).collect();
    for one in &mut waiting {
        assert!(futures_now(one).is_none());
    }
    assert_eq!(access.send(&grants, get(silent.clone())).await, Err(HttpError::Busy));
    drop(waiting);
    let quick = HttpRequest { timeout: Some(Duration::from_millis(1)), ..get(silent.clone()) };
    assert_eq!(access.send(&grants, quick).await, Err(HttpError::Timeout));
}

/// Polls a future once.
fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn invalid_requests_are_named() {
    let granted = grants(&["http-out:http://127.0.0.1:1/".to_owned()]);
    let url = || "http://127.0.0.1:1/".to_owned();
    for (request, expected) in [
        (get("nonsense".to_owned()), "the URL is not valid"),
        (get(url() + "#part"), "fragment"),
        (HttpRequest { method: "CONNECT".to_owned(), ..get(url()) }, "method"),
        (HttpRequest { method: "G T".to_owned(), ..get(url()) }, "method"),
        (HttpRequest { headers: vec![("host".to_owned(), b"x".to_vec())], ..get(url()) }, "`host`"),
    ] {
        let HttpError::Invalid(text) = access().send(&granted, request).await.unwrap_err() else { panic!() };
        assert!(text.contains(expected), "{text}");
    }
    let large = HttpRequest { body: Some(vec![0; LARGEST_BODY + 1]), ..get(url()) };
    assert_eq!(access().send(&granted, large).await, Err(HttpError::TooLarge));
    assert!(matches!(access().send(&granted, get(url())).await, Err(HttpError::Connection(_))));
}

#[tokio::test]
async fn a_version_in_shadow_changes_nothing_elsewhere() {
    let (origin, _requests) = server(ok("fine")).await;
    let granted = grants(&[format!("http-out:{origin}")]);
    let access = access().for_shadow();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = HttpRequest { method: method.to_owned(), ..get(origin.clone()) };
        assert!(
            matches!(access.send(&granted, request).await, Err(HttpError::Denied(text)) if text.contains("shadow"))
        );
    }
    assert_eq!(access.send(&granted, get(origin)).await.unwrap().status, 200);
}
