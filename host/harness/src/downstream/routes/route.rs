//! A row of the route table.

use yardarm_vendor::routes::{PathTemplate, RouteLine};

use super::RouteId;

/// One row of the route table.
#[derive(Debug, Clone, Copy)]
pub(in crate::downstream) struct Route {
    pub(in crate::downstream) path: PathTemplate,
    pub(in crate::downstream) method: RouteMethod,
    pub(in crate::downstream) id: RouteId,
    pub(in crate::downstream) audience: Audience,
    pub(in crate::downstream) credential: Credential,
    /// The path in metrics under the names of the vendor's relay; `None` if they do not count the route.
    pub(in crate::downstream) counted_as: Option<&'static str>,
}

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::downstream) enum RouteMethod {
    Get,
    Post,
}

/// The callers of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::downstream) enum Audience {
    /// Server SDKs.
    Servers,
    /// Client SDKs.
    Clients,
    /// Both kinds of SDK.
    Sdks,
    /// Every caller.
    Anyone,
}

/// The credential that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::downstream) enum Credential {
    /// A token for the environment in the path.
    EnvironmentToken,
    /// A token, and an API key in a header, which the handler reads.
    TokenAndKey,
    /// An API key in the body, which the handler exchanges for a token.
    KeyInBody,
    /// No credential.
    None,
}

/// Creates a row for `GET`.
pub(super) const fn get(path: &'static str, id: RouteId, audience: Audience, credential: Credential) -> Route {
    let path = PathTemplate::new(path);
    Route { path, method: RouteMethod::Get, id, audience, credential, counted_as: None }
}

/// Creates a row for `POST`.
pub(super) const fn post(path: &'static str, id: RouteId, audience: Audience, credential: Credential) -> Route {
    Route { method: RouteMethod::Post, ..get(path, id, audience, credential) }
}

impl RouteMethod {
    /// Returns the method as requests have it.
    pub(in crate::downstream) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl Audience {
    /// Returns the kind of SDK for plugins, for requests that do not name it.
    pub(in crate::downstream) const fn sdk(self) -> &'static str {
        match self {
            Self::Servers | Self::Sdks | Self::Anyone => "server",
            Self::Clients => "client",
        }
    }
}

impl Route {
    /// Counts the row in metrics under the names of the vendor's relay.
    pub(super) const fn counted_as(self, path: &'static str) -> Self {
        Self { counted_as: Some(path), ..self }
    }

    /// Returns the ID of the environment in a path that begins like that of this row.
    pub(super) fn environment_id<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.path.value("environment", path)
    }

    /// Returns the line of the documentation.
    pub(super) fn line(&self) -> RouteLine {
        let sdks = match self.audience {
            Audience::Servers => "server",
            Audience::Clients => "client",
            Audience::Sdks => "server and client",
            Audience::Anyone => "all callers",
        };
        RouteLine {
            path: self.path,
            methods: self.method.as_str(),
            id: (self.credential != Credential::None).then(|| self.id.as_str()),
            sdks: sdks.to_owned(),
            credential: match self.credential {
                Credential::EnvironmentToken => "token of the environment in `Authorization`",
                Credential::TokenAndKey => "token in `Authorization` and API key in `API-Key`",
                Credential::KeyInBody => "API key in the body",
                Credential::None => "none",
            },
        }
    }
}
