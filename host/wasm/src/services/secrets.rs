//! Secrets that configurations refer to: files of one folder, as container platforms mount them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use yardarm_core::{Secret, input_file};

use crate::vocabulary::{Grants, LoadError};

/// Maximum size of a secret in bytes.
const LARGEST: u64 = 64 << 10;
/// Secrets shorter than this are not removed from texts, which would be unreadable.
const SHORTEST_REDACTED: usize = 4;

/// Where secrets are. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Secrets {
    None,
    Folder(Arc<PathBuf>),
    /// Secrets of a case by name, and the folder with the others.
    Case(Arc<BTreeMap<String, String>>, Option<Arc<PathBuf>>),
}

/// A configuration with the secrets that it refers to.
pub(crate) struct Resolved {
    pub(crate) config: Map<String, Value>,
    pub(crate) redactor: Redactor,
    /// Digest of the secrets, which changes when one of them does.
    pub(crate) digest: [u8; 32],
}

/// Removes secrets from texts that are shown.
#[derive(Default)]
pub(crate) struct Redactor(Vec<Secret>);

impl Secrets {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        dir.map_or(Self::None, |dir| Self::Folder(Arc::new(dir)))
    }

    /// Returns the secrets of a case in place of these; a folder has those that the case does not name.
    pub(crate) fn with_case(&self, secrets: BTreeMap<String, String>) -> Self {
        let dir = match self {
            Self::Folder(dir) => Some(Arc::clone(dir)),
            Self::None | Self::Case(..) => None,
        };
        Self::Case(Arc::new(secrets), dir)
    }

    /// Replaces each `{ secret = "NAME" }` in a configuration by the secret. Blocks.
    ///
    /// # Errors
    /// If a secret is not granted, or cannot be read. The text has its place and what to do.
    pub(crate) fn resolve(&self, config: &Map<String, Value>, grants: &Grants) -> Result<Resolved, LoadError> {
        let mut config = config.clone();
        let (mut secrets, mut faults) = (Vec::new(), Vec::new());
        let mut found = |name: &str, path: &str| match self.read(name, grants) {
            Ok(secret) => {
                secrets.push(secret.clone());
                Value::from(secret.expose())
            }
            Err(fault) => {
                faults.push(format!("`plugin.config.{path}`: {fault}"));
                Value::Null
            }
        };
        for (key, value) in &mut config {
            replace(value, key, &mut found);
        }
        if !faults.is_empty() {
            return Err(LoadError::SecretUnavailable { faults });
        }
        let mut digest = Sha256::new();
        for secret in &secrets {
            digest.update(Sha256::digest(secret.expose()));
        }
        Ok(Resolved { config, redactor: Redactor::new(secrets), digest: digest.finalize().into() })
    }

    fn read(&self, name: &str, grants: &Grants) -> Result<Secret, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(is_name) {
            return Err("a secret has a name of letters, digits, `-`, `_` and `.`".to_owned());
        }
        if !grants.secret(name) {
            return Err(format!("the secret `{name}` needs the grant `secret:{name}`"));
        }
        let dir = match self {
            Self::Folder(dir) => dir,
            Self::Case(secrets, dir) => match (secrets.get(name), dir) {
                (Some(secret), _) => return Ok(Secret::new(secret.as_str())),
                (None, Some(dir)) => dir,
                (None, None) => {
                    let text = "has it neither in `services.secrets` nor in a folder of secrets";
                    return Err(format!("the secret `{name}` is missing: the case {text}"));
                }
            },
            Self::None => {
                let text = "needs the setting `plugins.secrets_dir`, a folder with a file of this name";
                return Err(format!("the secret `{name}` {text}"));
            }
        };
        let path = dir.join(name);
        let mut bytes = Vec::new();
        let read = input_file::open(&path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("the secret `{}` cannot be read: {error}", path.display()))?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("the secret `{}` has more than {LARGEST} bytes", path.display()));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("the secret `{}` is not UTF-8", path.display()))?;
        Ok(Secret::new(text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text))))
    }
}

/// Calls `found` with the name and the path of each reference to a secret, and puts what it returns in its place.
fn replace(value: &mut Value, path: &str, found: &mut impl FnMut(&str, &str) -> Value) {
    match value {
        Value::Object(object) => {
            if let (1, Some(Value::String(name))) = (object.len(), object.get("secret")) {
                *value = found(name, path);
                return;
            }
            for (key, value) in object {
                replace(value, &format!("{path}.{key}"), found);
            }
        }
        Value::Array(array) => {
            for (index, value) in array.iter_mut().enumerate() {
                replace(value, &format!("{path}[{index}]"), found);
            }
        }
        _ => (),
    }
}

impl Redactor {
    fn new(mut secrets: Vec<Secret>) -> Self {
        secrets.retain(|secret| secret.expose().len() >= SHORTEST_REDACTED);
        // The longest first, because a secret can be a part of another one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self(secrets)
    }

    /// Returns a text without secrets.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut redacted = Cow::Borrowed(text);
        for secret in &self.0 {
            if redacted.contains(secret.expose()) {
                redacted = Cow::Owned(redacted.replace(secret.expose(), "[secret]"));
            }
        }
        redacted
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolve(config: &Value, grants: &[&str]) -> Result<Resolved, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("idp"), "s3cr3t-value\n").unwrap();
        std::fs::write(dir.path().join("binary"), [0xff]).unwrap();
        let mut given = Grants::default();
        assert!(grants.iter().all(|grant| given.add(grant)));
        Secrets::new(Some(dir.path().to_owned())).resolve(config.as_object().unwrap(), &given)
    }

    #[test]
    fn a_reference_is_replaced_wherever_it_is() {
        let config = json!({"keys": [{"id": 1, "key": {"secret": "idp"}}], "other": {"secret": "idp", "more": 1}});
        let resolved = resolve(&config, &["secret:idp"]).unwrap();
        assert_eq!(resolved.config["keys"][0]["key"], "s3cr3t-value");
        assert_eq!(resolved.config["other"], config["other"]);
        assert_eq!(resolved.redactor.redact("key s3cr3t-value."), "key [secret].");
        assert!(!format!("{:?}", resolved.redactor).contains("s3cr3t"));
    }

    #[test]
    fn what_is_not_granted_or_there_is_refused_with_its_place() {
        let fault = |config: Value, grants: &[&str]| resolve(&config, grants).err().unwrap().to_string();
        let text = fault(json!({"a": [{"secret": "idp"}]}), &[]);
        assert!(text.contains("`plugin.config.a[0]`: the secret `idp` needs the grant `secret:idp`"), "{text}");
        assert!(fault(json!({"a": {"secret": "gone"}}), &["secret:gone"]).contains("cannot be read"));
        assert!(fault(json!({"a": {"secret": "binary"}}), &["secret:binary"]).contains("is not UTF-8"));
        for name in ["", "../idp", "/etc/passwd", ".hidden", "a/b"] {
            assert!(fault(json!({"a": {"secret": name}}), &["secret:idp"]).contains("has a name of"), "{name}");
        }
        let of_case = |dir: Option<&std::path::Path>| {
            let secrets = Secrets::new(dir.map(Into::into)).with_case([("own".into(), "1".into())].into());
            let mut given = Grants::default();
            assert!(given.add("secret:own") && given.add("secret:idp"));
            let config = json!({"a": {"secret": "own"}, "b": {"secret": "idp"}});
            secrets.resolve(config.as_object().unwrap(), &given).map(|resolved| resolved.config)
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("idp"), "2").unwrap();
        std::fs::write(dir.path().join("own"), "3").unwrap();
        assert_eq!(of_case(Some(dir.path())).map(Value::Object), Ok(json!({"a": "1", "b": "2"})));
        assert!(of_case(None).unwrap_err().to_string().contains("`idp` is missing"));
        let none = Secrets::new(None).resolve(json!({}).as_object().unwrap(), &Grants::default()).unwrap();
        assert!(none.config.is_empty());
    }
}
