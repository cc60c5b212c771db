//! `yardarm plugin pull`, from a registry on this machine that speaks the distribution protocol of OCI, with tokens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yardarm_testkit::guests::{self, Guest, GuestHook};

use crate::program::run;

/// What the registry has, by digest.
#[derive(Default)]
struct Content(HashMap<String, Vec<u8>>);

/// Base64 of `user:password`.
const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

impl Content {
    /// Adds content under its own digest; returns the digest.
    fn add(&mut self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.0.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Adds an artefact of one layer; returns the digest of its manifest.
    fn artefact(&mut self, media_type: &str, layer: &str, size: usize) -> String {
        let config = self.add(b"{}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": 2},
            "layers": [{"mediaType": media_type, "digest": layer, "size": size}],
        });
        self.add(manifest.to_string().as_bytes())
    }

    /// Adds a component as an artefact.
    fn component(&mut self, bytes: &[u8]) -> String {
        let layer = self.add(bytes);
        self.artefact("application/wasm", &layer, bytes.len())
    }

    #[expect(clippy::disallowed_methods, reason = "the server lives as long as the runtime of its test")]
    async fn serve(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = Router::new()
            .route("/token", get(token))
            .route("/v2/", get(async move || challenge(address)))
            .route("/v2/acme/gate/manifests/{digest}", get(content))
            .route("/v2/acme/gate/blobs/{digest}", get(content))
            .with_state((address, Arc::new(self)));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }
}

type Registry = (SocketAddr, Arc<Content>);

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn challenge(address: SocketAddr) -> Response {
    let header =
        format!("Bearer realm=\"http://{address}/token\",service=\"registry\",scope=\"repository:acme/gate:pull\"");
    (StatusCode::UNAUTHORIZED, [("www-authenticate", header)]).into_response()
}

async fn token(headers: HeaderMap) -> Response {
    match headers.get("authorization") {
        Some(basic) if basic != BASIC => StatusCode::UNAUTHORIZED.into_response(),
        _ => axum::Json(json!({"token": "pull-token"})).into_response(),
    }
}

async fn content(State((address, content)): State<Registry>, headers: HeaderMap, digest: UrlPath<String>) -> Response {
    if headers.get("authorization").is_none_or(|it| it != "Bearer pull-token") {
        return challenge(address);
    }
    match content.0.get(&*digest) {
        Some(bytes) => {
            ([("content-type", "application/vnd.oci.image.manifest.v1+json")], bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Runs the command in a folder; returns its exit code and document.
async fn pulls(dir: &Path, registry: SocketAddr, digest: &str, more: &[&str]) -> (Option<i32>, Value) {
    let reference = format!("{registry}/acme/gate@{digest}");
    let arguments = [&["plugin", "--json", "pull", &*reference, "--plain-http", "--dir", "plugins.d"], more].concat();
    let output = tokio::task::block_in_place(|| run(dir, &arguments));
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), document)
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("plugins.d")).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_fetched_by_digest_and_gets_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let gate = Guest::new("gate").version("1.2.3").hook(GuestHook::RequestAuth, guests::ALLOW).component();
    let gate = gate.expect("a component");
    std::fs::write(dir.path().join("unsigned.wasm"), &gate).expect("a file");
    let key = |arguments: &[&str]| {
        let output = run(dir.path(), &[&["plugin", "--json"], arguments].concat());
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        document
    };
    let trusted = key(&["keygen", "release.pem"])["public_key"].as_str().expect("a key").to_owned();
    key(&["sign", "unsigned.wasm", "--key", "release.pem", "--out", "signed.wasm"]);
    let signed = std::fs::read(dir.path().join("signed.wasm")).expect("a component");
    let mut content = Content::default();
    let (plain, with_signature) = (content.component(&gate), content.component(&signed));
    let registry = content.serve().await;

    let (code, pulled) = pulls(dir.path(), registry, &plain, &[]).await;
    assert_eq!((code, &pulled["name"], &pulled["version"]), (Some(0), &json!("gate"), &json!("1.2.3")), "{pulled}");
    assert_eq!(std::fs::read(dir.path().join("plugins.d/gate.wasm")).expect("a file"), gate);
    let (code, pulled) = pulls(dir.path(), registry, &plain, &["--key", &trusted]).await;
    assert_eq!((code, &pulled["error"]["class"]), (Some(1), &json!("signature-missing")));
    std::fs::write(dir.path().join("password"), "password\n").expect("a file");
    let user = ["--key", &trusted, "--user", "user", "--password-file", "password"];
    let (code, pulled) = pulls(dir.path(), registry, &with_signature, &user).await;
    assert_eq!((code, &pulled["signed_by"]), (Some(0), &json!(trusted)), "{pulled}");
    assert_eq!(std::fs::read(dir.path().join("plugins.d/gate.wasm")).expect("a file"), signed);
    assert_eq!(files(dir.path()), ["gate.wasm"], "nothing else is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_its_digest_says_leaves_the_folder_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("plugins.d")).expect("a folder");
    std::fs::write(dir.path().join("plugins.d/gate.wasm"), "what runs").expect("a file");
    std::fs::write(dir.path().join("wrong"), "wrong").expect("a file");
    let gate = Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().expect("a component");
    let mut content = Content::default();
    let fine = content.component(&gate);
    let claimed = digest(b"what was published");
    content.0.insert(claimed.clone(), gate.clone());
    let exchanged_layer = content.artefact("application/wasm", &claimed, gate.len());
    let exchanged_manifest = digest(b"another manifest");
    content.0.insert(exchanged_manifest.clone(), content.0[&fine].clone());
    let text = content.add(b"text");
    let other_type = content.artefact("text/plain", &text, 4);
    let no_component = content.component(b"text");
    let too_large = content.artefact("application/wasm", &text, 1 << 40);
    let nameless = Guest::new("gate").manifest("{}").hook(GuestHook::RequestAuth, guests::ALLOW).component();
    let nameless = content.component(&nameless.expect("a component"));
    let absent = digest(b"nothing");
    let registry = content.serve().await;
    for (digest, fault) in [
        (exchanged_layer, "digest"),
        (exchanged_manifest, "digest"),
        (other_type, "one layer of WebAssembly"),
        (no_component, "not WebAssembly"),
        (too_large, "at most"),
        (nameless, "does not declare a name"),
        (absent, "acme/gate"),
    ] {
        let (code, document) = pulls(dir.path(), registry, &digest, &[]).await;
        let error = document["error"].to_string();
        assert!(code == Some(1) && error.to_lowercase().contains(&fault.to_lowercase()), "{fault}: {document}");
    }
    let (code, _) = pulls(dir.path(), registry, &fine, &["--user", "user", "--password-file", "wrong"]).await;
    assert_eq!(code, Some(1), "a wrong password");
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(pulls(dir.path(), closed, &fine, &[]).await.0, Some(1), "no registry");
    let tag = run(dir.path(), &["plugin", "pull", &format!("{registry}/acme/gate:latest")]);
    assert!(tag.status.code() == Some(2) && String::from_utf8_lossy(&tag.stderr).contains("a tag may stand"));
    assert_eq!(files(dir.path()), ["gate.wasm"]);
    assert_eq!(std::fs::read(dir.path().join("plugins.d/gate.wasm")).expect("a file"), b"what runs");
}
