//! Exchanges an API key for a session (F001 to F004, F013 to F017).

use serde_json::json;
use yardarm_core::Secret;

use super::client::HttpClients;
use super::request::RequestError;
use super::token::{UpstreamClaims, UpstreamToken};
use super::url;
use crate::identity::{AuthTarget, Identity, Session};

/// Exchanges `key`.
///
/// # Errors
/// When the request fails, or the token does not name an environment.
pub(crate) async fn open_session(
    http: &HttpClients,
    base: &str,
    key: &Secret,
    presents: AuthTarget,
) -> Result<Session, RequestError> {
    let mut body = json!({"apiKey": key.expose()});
    if presents == AuthTarget::Empty {
        body["target"] = json!({"identifier": "", "name": ""});
    }
    let UpstreamToken { text, claims } = UpstreamToken::request(http, url(base, &["client", "auth"]), &body).await?;
    let identity = identity(&claims).map_err(|problem| RequestError::Malformed(problem.to_owned()))?;
    Ok(Session { token: text, identity })
}

fn identity(claims: &UpstreamClaims) -> Result<Identity, &'static str> {
    Ok(Identity {
        id: claims.required("environment", "the token does not name an environment")?,
        environment: claims.text("environmentIdentifier"),
        project: claims.text("projectIdentifier"),
        account: claims.text("accountID"),
        cluster: claims.cluster("clusterIdentifier"),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn tokens_without_an_environment_are_rejected() {
        // F004
        for (json, expected) in [("{}", None), (r#"{"environment":7}"#, None), (r#"{"environment":"e"}"#, Some("e"))] {
            let claims = UpstreamClaims::read(&format!("a.{}.c", URL_SAFE_NO_PAD.encode(json))).unwrap();
            assert_eq!(identity(&claims).ok().map(|it| it.id).as_deref(), expected, "{json}");
        }
    }
}
