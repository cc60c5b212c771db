//! `yardarm plugin pull`: fetches a component from an OCI registry, by digest.
//!
//! Serving never depends on a registry: this command fetches into a folder, and the gateway knows files only.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Args;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use serde::Serialize;
use tokio::io::AsyncWrite;
use yardarm_wasm::{LARGEST_COMPONENT, LoadError, TrustedKey};

use super::outcome::{Format, Report, ToolError, conclude, read, write};
use super::table::printable;

/// Media types of WebAssembly in a registry: of the specification for components, and of older tools.
const COMPONENT_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
const NO_NAME: &str = "the component does not declare a name; `yardarm plugin pack` adds one before it is published";
/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Arguments of `plugin pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "The digest is that of the artefact, as registries and tools print it; tags are refused, because what they stand for \
    changes. The component is written as NAME.wasm under the name that it declares, and only if everything is as its digests say. \
    Write its binding file first.\n\nExample:\n  yardarm plugin pull ghcr.io/acme/gate@sha256:9f86d081… --dir plugins.d \
    --key 'ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='"
)]
pub(super) struct PullArgs {
    /// The artefact: REGISTRY/NAME@sha256:DIGEST
    #[arg(value_name = "REFERENCE", value_parser = parse_reference)]
    reference: Reference,
    /// Folder that the component is written to
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Refuse the component unless this key has signed it, as in `plugins.trusted_keys`. Can be repeated
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<TrustedKey>,
    /// User of the registry
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// File with the password or token of the user
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Speak plain HTTP; for a registry on this machine
    #[arg(long)]
    plain_http: bool,
}

/// What was fetched.
#[derive(Serialize)]
struct Pulled {
    file: PathBuf,
    reference: String,
    name: String,
    version: String,
    sha256: String,
    bytes: u64,
    /// The key that has signed it, if keys were given.
    signed_by: Option<String>,
}

pub(super) async fn run(args: PullArgs, format: Format) -> ExitCode {
    conclude(format, pull(args).await)
}

async fn pull(args: PullArgs) -> Result<Pulled, ToolError> {
    let reference = args.reference.whole();
    let failed = |error: &dyn fmt::Display| ToolError::of_file(Path::new(&reference), printable(&error.to_string()));
    let auth = match (&args.user, &args.password_file) {
        (Some(user), Some(file)) => {
            let password = String::from_utf8(read(file)?).map_err(|_| ToolError::of_file(file, "must be text"))?;
            RegistryAuth::Basic(user.clone(), password.trim().to_owned())
        }
        _ => RegistryAuth::Anonymous,
    };
    let protocol = if args.plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
    let client = Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(SILENCE),
        read_timeout: Some(SILENCE),
        user_agent: concat!("yardarm/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    });
    let (manifest, _) = client.pull_image_manifest(&args.reference, &auth).await.map_err(|error| failed(&error))?;
    let layer = component_of(&manifest).map_err(|text| failed(&text))?;
    let mut component = Bounded(Vec::new());
    client.pull_blob(&args.reference, layer, &mut component).await.map_err(|error| failed(&error))?;
    let Bounded(bytes) = component;

    // It gets its own name only once it is known to be a plugin.
    let incoming = args.dir.join(format!(".pulled-{}.part", std::process::id()));
    write(&incoming, &bytes)?;
    let kept = keep(&args, &incoming, &bytes, reference.clone());
    if kept.is_err() {
        // The first error counts.
        let _ = std::fs::remove_file(&incoming);
    }
    kept
}

/// Checks the component, and gives it its name.
fn keep(args: &PullArgs, incoming: &Path, bytes: &[u8], reference: String) -> Result<Pulled, ToolError> {
    let source = Path::new(&reference);
    let refused = |error| match error {
        // The name of the file, which is none of a plugin.
        LoadError::BadName { .. } => ToolError::of_file(source, NO_NAME),
        error => ToolError::refused(source, &error),
    };
    let inspected = yardarm_wasm::inspect_file(incoming).map_err(refused)?;
    let signed_by = match &args.keys[..] {
        [] => None,
        keys => Some(yardarm_wasm::verify_file(incoming, keys.to_vec()).map_err(refused)?.key),
    };
    let file = args.dir.join(format!("{}.wasm", inspected.name));
    std::fs::rename(incoming, &file).map_err(|error| ToolError::of_file(&file, error))?;
    Ok(Pulled {
        file,
        reference,
        name: inspected.name,
        version: inspected.version,
        sha256: inspected.sha256,
        bytes: bytes.len() as u64,
        signed_by,
    })
}

/// Parses a reference, which must have a digest.
fn parse_reference(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error: oci_client::ParseError| error.to_string())?;
    match reference.digest() {
        Some(digest) if digest.starts_with("sha256:") => Ok(reference),
        _ => Err("must end with `@sha256:` and a digest; a tag may stand for something else tomorrow".to_owned()),
    }
}

/// Returns the only component of an artefact.
fn component_of(manifest: &OciImageManifest) -> Result<&OciDescriptor, String> {
    let is_component = |layer: &&OciDescriptor| COMPONENT_TYPES.contains(&layer.media_type.as_str());
    let mut components = manifest.layers.iter().filter(is_component);
    let (Some(layer), None) = (components.next(), components.next()) else {
        let types: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        return Err(format!("the artefact must have one layer of WebAssembly; it has {types:?}"));
    };
    match u64::try_from(layer.size) {
        Ok(size) if size <= LARGEST_COMPONENT => Ok(layer),
        _ => Err(format!("the component has {} bytes, and at most {LARGEST_COMPONENT} are loaded", layer.size)),
    }
}

/// A buffer that refuses more than the largest component.
struct Bounded(Vec<u8>);

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if (self.0.len() + bytes.len()) as u64 > LARGEST_COMPONENT {
            return Poll::Ready(Err(io::Error::other("the registry sends more than the largest component")));
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Report for Pulled {
    fn text(&self) -> String {
        let Self { file, name, version, sha256, signed_by, .. } = self;
        let signed = signed_by.as_ref().map(|key| format!(", signed by {key}")).unwrap_or_default();
        format!("{}: {name} {version}{signed}\nsha256 {sha256}\n", file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_digest() {
        let digest = "a".repeat(64);
        let reference = parse_reference(&format!("127.0.0.1:5000/acme/gate@sha256:{digest}")).unwrap();
        assert_eq!((reference.registry(), reference.repository()), ("127.0.0.1:5000", "acme/gate"));
        for text in ["ghcr.io/acme/gate", "ghcr.io/acme/gate:1.0", "ghcr.io/acme/gate@md5:00", "", "/"] {
            assert!(parse_reference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_artefact_has_one_component_of_a_size_that_is_loaded() {
        let layer = |media_type: &str, size| OciDescriptor {
            media_type: media_type.to_owned(),
            size,
            ..OciDescriptor::default()
        };
        let of = |layers| OciImageManifest { layers, ..OciImageManifest::default() };
        let wasm = || layer("application/wasm", 10);
        assert!(component_of(&of(vec![layer("text/plain", 1), wasm()])).is_ok());
        for (layers, fault) in [
            (vec![], "one layer"),
            (vec![wasm(), wasm()], "one layer"),
            (vec![layer("application/gzip", 1)], "application/gzip"),
            (vec![layer("application/wasm", -1)], "at most"),
            (vec![layer("application/wasm", 1 << 40)], "at most"),
        ] {
            assert!(component_of(&of(layers)).unwrap_err().contains(fault), "{fault}");
        }
    }
}
