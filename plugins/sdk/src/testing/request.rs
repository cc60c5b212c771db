//! A request and a context that are built property by property.

use std::collections::BTreeMap;

use crate::{Context, ContextKey, Credential, Identity, Request};

/// A request of a server-side SDK of LaunchDarkly, until changed.
#[derive(Debug, Clone)]
pub struct TestRequest {
    vendor: String,
    environment: String,
    route: String,
    sdk: String,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    credential: Option<Credential>,
    client: Option<String>,
    tls: bool,
    identity: Option<Identity>,
}

impl Default for TestRequest {
    fn default() -> Self {
        Self {
            vendor: "launchdarkly".to_owned(),
            environment: "production".to_owned(),
            route: "server.stream.all".to_owned(),
            sdk: "server".to_owned(),
            method: "GET".to_owned(),
            target: "/all".to_owned(),
            headers: Vec::new(),
            credential: None,
            client: None,
            tls: false,
            identity: None,
        }
    }
}

impl TestRequest {
    /// Sets the vendor.
    #[must_use]
    pub fn with_vendor(mut self, vendor: &str) -> Self {
        vendor.clone_into(&mut self.vendor);
        self
    }

    /// Sets the name of the environment.
    #[must_use]
    pub fn with_environment(mut self, environment: &str) -> Self {
        environment.clone_into(&mut self.environment);
        self
    }

    /// Sets the identifier of the route.
    #[must_use]
    pub fn with_route(mut self, route: &str) -> Self {
        route.clone_into(&mut self.route);
        self
    }

    /// Sets the kind of caller.
    #[must_use]
    pub fn with_sdk(mut self, sdk: &str) -> Self {
        sdk.clone_into(&mut self.sdk);
        self
    }

    /// Sets method, path and query.
    #[must_use]
    pub fn with_target(mut self, method: &str, target: &str) -> Self {
        method.clone_into(&mut self.method);
        target.clone_into(&mut self.target);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the credential.
    #[must_use]
    pub fn with_credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Sets the address of the client.
    #[must_use]
    pub fn with_client(mut self, address: &str) -> Self {
        self.client = Some(address.to_owned());
        self
    }

    /// Makes the connection an encrypted one.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Sets the identity of the caller.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl Request for TestRequest {
    fn vendor(&self) -> String {
        self.vendor.clone()
    }

    fn environment(&self) -> String {
        self.environment.clone()
    }

    fn route(&self) -> String {
        self.route.clone()
    }

    fn sdk(&self) -> String {
        self.sdk.clone()
    }

    fn method(&self) -> String {
        self.method.clone()
    }

    fn id(&self) -> Option<String> {
        Some("00000000-1".to_owned())
    }

    fn path(&self) -> Option<String> {
        Some(self.target.split_once('?').map_or(&*self.target, |(path, _)| path).to_owned())
    }

    fn query(&self) -> Option<String> {
        self.target.split_once('?').map(|(_, query)| query.to_owned())
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.headers.clone()
    }

    fn credential(&self) -> Option<Credential> {
        self.credential.clone()
    }

    fn client_address(&self) -> Option<String> {
        self.client.clone()
    }

    fn peer_address(&self) -> Option<String> {
        self.client.clone()
    }

    fn forwarded_for(&self) -> Vec<String> {
        let values = self.header_values("x-forwarded-for");
        let texts = values.iter().filter_map(|value| std::str::from_utf8(value).ok());
        texts.flat_map(|text| text.split(',')).map(|address| address.trim().to_owned()).collect()
    }

    fn tls(&self) -> bool {
        self.tls
    }

    fn identity(&self) -> Option<Identity> {
        self.identity.clone()
    }
}

/// A context, empty until kinds are added.
#[derive(Debug, Clone, Default)]
pub struct TestContext(BTreeMap<String, (String, BTreeMap<String, String>)>);

impl TestContext {
    /// Adds a kind with its key.
    #[must_use]
    pub fn with_kind(mut self, kind: &str, key: &str) -> Self {
        self.0.insert(kind.to_owned(), (key.to_owned(), BTreeMap::new()));
        self
    }

    /// Adds an attribute, as JSON text, to a kind that was added before.
    #[must_use]
    pub fn with_attribute(mut self, kind: &str, name: &str, json: &str) -> Self {
        if let Some((_, attributes)) = self.0.get_mut(kind) {
            attributes.insert(name.to_owned(), json.to_owned());
        }
        self
    }
}

impl Context for TestContext {
    fn kinds(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn key(&self, kind: &str) -> Option<ContextKey> {
        self.0.get(kind).map(|(key, _)| ContextKey::Plain(key.clone()))
    }

    fn canonical_key(&self) -> ContextKey {
        let keys: Vec<_> = self.0.iter().map(|(kind, (key, _))| format!("{kind}:{key}")).collect();
        ContextKey::Plain(keys.join(":"))
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        self.0.get(kind)?.1.get(name).cloned()
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        self.0.get(kind).into_iter().flat_map(|(_, attributes)| attributes.keys().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_it_was_built_of() {
        let request = TestRequest::default()
            .with_target("REPORT", "/sdk/evalx?h=1")
            .with_header("X-Token", "abc")
            .with_header("x-odd", [0xff])
            .with_client("::ffff:10.0.0.1");
        assert_eq!((request.path().as_deref(), request.query().as_deref()), (Some("/sdk/evalx"), Some("h=1")));
        assert_eq!(request.header("X-TOKEN").as_deref(), Some("abc"));
        assert_eq!(request.header("x-odd"), None);
        assert_eq!(request.header_values("x-odd"), [[0xff]]);
        assert_eq!(request.client_ip(), "10.0.0.1".parse().ok(), "the address is canonical");
        assert_eq!(TestRequest::default().client_ip(), None);
    }
}
