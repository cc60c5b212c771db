//! The OpenAPI description of the admin listener, generated from the types that its routes respond with.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::OpenApi;

#[derive(OpenApi)]
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
        document
    )
)]
struct AdminApi;

/// The document; rendered for the first request.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| AdminApi::openapi().to_json().unwrap_or_default());

/// Responds with this description.
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    responses((status = 200, description = "The description.", content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.as_str()).into_response()
}
