//! `yardarm plugin keygen`, `sign` and `verify`: signatures of components.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use yardarm_wasm::{SignatureReport, SigningKey, TrustedKey};

use super::outcome::{Format, Report, ToolError, finish, read, write};

/// Arguments of `plugin keygen`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yardarm plugin keygen release.pem\n\nThe file is readable by you only. Keys of `openssl genpkey -algorithm \
    ed25519` can be used as well."
)]
pub(super) struct KeygenArgs {
    /// The file to write, which must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Arguments of `plugin sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "The signature becomes the last section of the component. Sign last: whatever changes the component afterwards, such as \
    `yardarm plugin pack`, makes it invalid.\n\nExample:\n  yardarm plugin sign gate.wasm --key release.pem"
)]
pub(super) struct SignArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private key, in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file to write [default: the component itself]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `plugin verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yardarm plugin verify gate.wasm --key 'ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='"
)]
pub(super) struct VerifyArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A trusted key, as in `plugins.trusted_keys`: a public key, and patterns for names of plugins after spaces. Can be
    /// repeated
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<TrustedKey>,
}

#[derive(Serialize)]
struct Generated {
    file: PathBuf,
    public_key: String,
}

#[derive(Serialize)]
struct Signed {
    file: PathBuf,
    #[serde(flatten)]
    signature: SignatureReport,
}

pub(super) async fn keygen(args: KeygenArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let file = args.file;
        let (key, pem) = SigningKey::generate().map_err(|error| ToolError::of_file(&file, error))?;
        let create =
            || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(pem.as_bytes());
        create().map_err(|error| ToolError::of_file(&file, error))?;
        Ok(Generated { file, public_key: key.public().to_string() })
    })
    .await
}

pub(super) async fn sign(args: SignArgs, format: Format) -> ExitCode {
    finish(format, move || {
        let SignArgs { file, key, out } = args;
        let key = SigningKey::from_pem(&read(&key)?).map_err(|error| ToolError::of_file(&key, error))?;
        let signed = yardarm_wasm::sign_file(&file, &key).map_err(|error| ToolError::refused(&file, &error))?;
        let out = out.unwrap_or(file);
        write(&out, &signed)?;
        verified(out, vec![TrustedKey { key: key.public(), names: Vec::new() }])
    })
    .await
}

pub(super) async fn verify(args: VerifyArgs, format: Format) -> ExitCode {
    finish(format, move || verified(args.file, args.keys)).await
}

fn verified(file: PathBuf, keys: Vec<TrustedKey>) -> Result<Signed, ToolError> {
    match yardarm_wasm::verify_file(&file, keys) {
        Ok(signature) => Ok(Signed { file, signature }),
        Err(error) => Err(ToolError::refused(&file, &error)),
    }
}

impl Report for Generated {
    fn text(&self) -> String {
        let Self { file, public_key } = self;
        format!(
            "{}: keep it secret\n\nGateways trust it with this setting:\n\n[plugins]\ntrusted_keys = [{public_key:?}]\n",
            file.display()
        )
    }
}

impl Report for Signed {
    fn text(&self) -> String {
        let SignatureReport { name, version, sha256, key } = &self.signature;
        format!("{}: {name} {version}, signed by {key}\nsha256 {sha256}\n", self.file.display())
    }
}
