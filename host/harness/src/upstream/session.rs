//! A key is exchanged for a token, which also says what the key belongs to (sections 3.2 and 3.5).

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use yardarm_core::Secret;

use super::{HttpClients, RequestError, json, post_json, url};
use crate::environments::Identity;

/// A token and what it says.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) token: Secret,
    pub(crate) identity: Identity,
}

/// What SDKs may say of themselves when they present a key; nothing, or nobody in particular.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presents {
    NoTarget,
    EmptyTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    auth_token: String,
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Session {
    /// What an earlier process knew, without a token: that is not kept.
    pub(crate) fn remembered(identity: Identity) -> Self {
        Self { token: "".into(), identity }
    }

    /// Exchanges `key`.
    pub(crate) async fn open(
        http: &HttpClients,
        base: &str,
        key: &Secret,
        presents: Presents,
    ) -> Result<Self, RequestError> {
        let mut body = json!({"apiKey": key.expose()});
        if presents == Presents::EmptyTarget {
            body["target"] = json!({"identifier": "", "name": ""});
        }
        let request = post_json(http, url(base, &["client", "auth"]), &body);
        let answer: Answer = json(request).await?;
        let identity = read(&answer.auth_token).map_err(|problem| RequestError::Malformed(problem.to_owned()))?;
        Ok(Self { token: answer.auth_token.into(), identity })
    }
}

/// What a token says. Its signature is not ours to check: we have no key.
fn read(token: &str) -> Result<Identity, &'static str> {
    let payload = token.split('.').nth(1).ok_or("the token has no claims")?;
    let json = LENIENT.decode(payload).map_err(|_| "the claims of the token are no base64")?;
    let claims: Map<String, Value> =
        serde_json::from_slice(&json).map_err(|_| "the claims of the token are no JSON")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let required = |name: &'static str, problem| Some(text(name)).filter(|it| !it.is_empty()).ok_or(problem);
    Ok(Identity {
        id: required("environment", "the token does not name an environment")?,
        environment: text("environmentIdentifier"),
        project: text("projectIdentifier"),
        account: text("accountID"),
        // Absent in old installations.
        cluster: Some(text("clusterIdentifier")).filter(|it| !it.is_empty()).unwrap_or_else(|| "1".to_owned()),
    })
}

#[cfg(fuzzing)]
pub(super) fn fuzz(token: &str) {
    let _ = read(token);
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn claims_are_read_with_and_without_padding() {
        // F002, F003, F015
        let claims =
            json!({"environment": "id-1", "environmentIdentifier": "prød", "projectIdentifier": "p"}).to_string();
        for payload in
            [URL_SAFE_NO_PAD.encode(&claims), PADDED.encode(&claims), URL_SAFE_NO_PAD.encode(format!("{claims} "))]
        {
            let identity = read(&format!("head.{payload}.signature")).unwrap();
            assert_eq!((identity.id.as_str(), identity.environment.as_str()), ("id-1", "prød"));
            assert_eq!(identity.cluster, "1");
            assert!(read(&format!("head.{payload}")).is_ok(), "two parts are enough");
        }
    }

    #[test]
    fn tokens_without_an_environment_are_of_no_use() {
        // F004
        let encoded = |json: &str| format!("a.{}.c", URL_SAFE_NO_PAD.encode(json));
        for token in
            ["", "abc", "a.!.c", &encoded("{}"), &encoded("[]"), &encoded(r#"{"environment":7}"#), &encoded("{")]
        {
            assert!(read(token).is_err(), "{token}");
        }
    }
}
