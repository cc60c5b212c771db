//! A row of the route table.

use yardarm_vendor::routes::{PathTemplate, RouteLine};

use super::RouteId;
use crate::downstream::cors::Cors;
use crate::identity::SdkKind;

/// One row of the route table.
#[derive(Debug, Clone, Copy)]
pub(in crate::downstream) struct Route {
    pub(in crate::downstream) id: RouteId,
    pub(in crate::downstream) method: RouteMethod,
    /// The path that the router matches: the template, or one path that is on the template of another row too.
    pub(in crate::downstream) path: PathTemplate,
    /// The path with its variables.
    pub(in crate::downstream) template: PathTemplate,
    /// The SDKs that the route is for; `None` serves every caller, without a credential.
    pub(in crate::downstream) audience: Option<Audience>,
    /// Whether metrics under the names of LaunchDarkly's relay count requests.
    pub(in crate::downstream) is_counted: bool,
    /// Whether the route exists only with `launchdarkly.fdv2`.
    pub(in crate::downstream) needs_fdv2: bool,
}

/// The method of a route. Those of browsers have `OPTIONS` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::downstream) enum RouteMethod {
    Get,
    Post,
    Report,
    /// Either, for requests whose body is a context.
    PostOrReport,
}

/// The callers of a route.
#[derive(Debug, Clone, Copy)]
pub(in crate::downstream) struct Audience {
    pub(in crate::downstream) kind: SdkKind,
    pub(in crate::downstream) credential: Credential,
    /// `None` without CORS, and `OPTIONS` is no method of the route then.
    pub(in crate::downstream) cors: Option<Cors>,
}

/// Where callers present their credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::downstream) enum Credential {
    /// The header `Authorization`.
    Authorization,
    /// The variable [`ENVIRONMENT_ID`] of the path.
    EnvironmentId,
    /// The header `Authorization`, or the query parameter `auth`: a mobile key or an environment ID.
    HeaderOrQuery,
}

/// The variable of environment IDs.
const ENVIRONMENT_ID: &str = "envId";

/// Creates a row without a credential.
pub(super) const fn open(method: RouteMethod, path: &'static str, id: RouteId) -> Route {
    row(method, path, id, None)
}

/// Creates a row for server-side SDKs.
pub(super) const fn server(method: RouteMethod, path: &'static str, id: RouteId) -> Route {
    let credential = Credential::Authorization;
    row(method, path, id, Some(Audience { kind: SdkKind::Server, credential, cors: None }))
}

/// Creates a row for mobile SDKs.
pub(super) const fn mobile(method: RouteMethod, path: &'static str, id: RouteId) -> Route {
    let credential = Credential::Authorization;
    row(method, path, id, Some(Audience { kind: SdkKind::Mobile, credential, cors: None }))
}

/// Creates a row for browsers, which has CORS.
pub(super) const fn browser(method: RouteMethod, path: &'static str, id: RouteId) -> Route {
    let cors = match method {
        RouteMethod::Get => "GET,OPTIONS",
        RouteMethod::Post => "POST,OPTIONS",
        RouteMethod::Report => "REPORT,OPTIONS",
        RouteMethod::PostOrReport => "POST,REPORT,OPTIONS",
    };
    let credential = Credential::EnvironmentId;
    row(method, path, id, Some(Audience { kind: SdkKind::Browser, credential, cors: Some(Cors::Path(cors)) }))
}

/// Creates a row for mobile SDKs and browsers with the second version of the delivery protocol.
pub(super) const fn client(method: RouteMethod, path: &'static str, id: RouteId) -> Route {
    let row = browser(method, path, id);
    let cors = match row.audience {
        Some(Audience { cors: Some(Cors::Path(methods)), .. }) => Some(Cors::Everywhere(methods)),
        _ => None,
    };
    let credential = Credential::HeaderOrQuery;
    Route { audience: Some(Audience { kind: SdkKind::Browser, credential, cors }), ..row }.with_fdv2()
}

const fn row(method: RouteMethod, path: &'static str, id: RouteId, audience: Option<Audience>) -> Route {
    let template = PathTemplate::new(path);
    // The reference counts no status routes.
    Route { id, method, path: template, template, audience, is_counted: audience.is_some(), needs_fdv2: false }
}

impl RouteMethod {
    /// Returns the method as SDKs send it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Report => "REPORT",
            Self::PostOrReport => "POST,REPORT",
        }
    }
}

impl Route {
    /// Restricts the row to one path of its template.
    pub(super) const fn at(self, path: &'static str) -> Self {
        Self { path: PathTemplate::new(path), ..self }
    }

    /// Excludes the row from the metrics under the names of LaunchDarkly's relay.
    pub(super) const fn uncounted(self) -> Self {
        Self { is_counted: false, ..self }
    }

    /// Makes the row depend on `launchdarkly.fdv2`.
    pub(super) const fn with_fdv2(self) -> Self {
        Self { needs_fdv2: true, ..self }
    }

    /// Returns the path in metrics under the names of LaunchDarkly's relay; `None` if they do not count the route.
    pub(in crate::downstream) fn counted_path(&self) -> Option<&'static str> {
        self.is_counted.then_some(self.path.as_str())
    }

    /// Returns the environment ID in a path of this row, not decoded.
    pub(in crate::downstream) fn environment_id<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.template.value(ENVIRONMENT_ID, path)
    }

    /// Returns the line of the documentation; `None` if the template has one already.
    pub(super) fn line(&self) -> Option<RouteLine> {
        if self.path != self.template {
            return None;
        }
        let (sdks, credential) = match self.audience.map(|it| it.kind) {
            Some(_) if self.audience.is_some_and(|it| it.credential == Credential::HeaderOrQuery) => {
                ("mobile and browser", "mobile key or environment ID in `Authorization` or `auth`")
            }
            None => ("all callers", "none"),
            Some(SdkKind::Server) => ("server-side", "SDK key in `Authorization`"),
            Some(SdkKind::Mobile) => ("mobile", "mobile key in `Authorization`"),
            Some(SdkKind::Browser) => ("browser", "environment ID in the path"),
        };
        Some(RouteLine {
            path: self.template,
            methods: self.audience.and_then(|it| it.cors).map_or(self.method.as_str(), Cors::methods),
            id: self.audience.map(|_| self.id.as_str()),
            sdks: if self.needs_fdv2 { format!("{sdks}, with `launchdarkly.fdv2`") } else { sdks.to_owned() },
            credential,
        })
    }
}
