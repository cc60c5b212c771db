//! The OpenAPI description of the admin listener, generated from the types that its routes respond with.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::Modify;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, PathItem};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Yardarm admin listener", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        super::page,
        super::live,
        super::ready,
        super::metrics,
        super::status,
        super::environments,
        super::plugins,
        super::captures::read,
        super::control::order,
        super::reload::reload,
        super::log_level::set,
        super::explain::create,
        super::explain::read,
        document
    ),
    modifiers(&BearerToken)
)]
struct AdminApi;

/// Adds the description of the token.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut OpenApi) {
        let text = "The token of `admin.token`.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document; rendered for the first request.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| AdminApi::openapi().to_json().unwrap_or_default());

/// Returns the table of routes for operators, for `docs/routes.md`.
#[must_use]
pub fn routes_document() -> String {
    let mut rows = String::new();
    for (path, PathItem { get, post, .. }) in AdminApi::openapi().paths.paths {
        for (method, operation) in [("GET", get), ("POST", post)] {
            let Some(operation) = operation else { continue };
            let credential = if operation.security.is_some() { "token of `admin.token`" } else { "none" };
            let about = operation.description.or(operation.summary).unwrap_or_default().replace('\n', " ");
            rows.push_str(&format!("| `{path}` | {method} | {credential} | {about} |\n"));
        }
    }
    format!(
        "## Operators\n\nOn the admin listener (`admin.listen`).\n\n| Path | Methods | Credential | Response |\n|---|---|---|---|\n{rows}"
    )
}

/// Responds with this description.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    responses((status = 200, description = "The description.", content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.as_str()).into_response()
}
