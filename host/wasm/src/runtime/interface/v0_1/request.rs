//! The request as a resource: each method returns one fact, if it is granted.

use wasmtime::component::Resource;
use yardarm_core::hooks::AdmittedRequest;

use super::host;
use crate::runtime::guest::GuestState;
use crate::vocabulary::Hook;

/// A request that is available during one call.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct Request {
    request: AdmittedRequest,
    hook: Hook,
}

impl Request {
    pub(super) fn new(request: AdmittedRequest, hook: Hook) -> Self {
        Self { request, hook }
    }
}

impl GuestState {
    fn request(&self, handle: &Resource<Request>) -> wasmtime::Result<AdmittedRequest> {
        Ok(self.table.get(handle)?.request.clone())
    }

    /// Returns the request if the grant that `is_granted` looks at is given.
    fn granted_request(
        &self,
        handle: &Resource<Request>,
        is_granted: bool,
        grant: &str,
    ) -> wasmtime::Result<Option<AdmittedRequest>> {
        if !is_granted {
            self.record_missing_grant(grant, "nothing");
            return Ok(None);
        }
        self.request(handle).map(Some)
    }
}

impl host::request::Host for GuestState {}

impl host::request::HostRequest for GuestState {
    fn vendor(&mut self, handle: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.request.facts.environment.vendor().to_owned())
    }

    fn environment(&mut self, handle: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.request.facts.environment.name().to_string())
    }

    fn route(&mut self, handle: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.request.facts.route.to_owned())
    }

    fn sdk(&mut self, handle: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.request.facts.sdk.to_owned())
    }

    fn method(&mut self, handle: Resource<Request>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.request.facts.method.as_str().to_owned())
    }

    fn id(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<String>> {
        let Request { request, hook } = self.table.get(&handle)?;
        Ok((!hook.is_pure()).then(|| request.facts.id.to_string()))
    }

    fn path(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<String>> {
        let request = self.granted_request(&handle, self.plugin.grants.path, "path")?;
        Ok(request.map(|it| it.facts.head.path().to_owned()))
    }

    fn query(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<String>> {
        let request = self.granted_request(&handle, self.plugin.grants.query, "query")?;
        Ok(request.and_then(|it| it.facts.head.query().map(str::to_owned)))
    }

    fn header(&mut self, handle: Resource<Request>, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        if !self.plugin.grants.header(&name) {
            self.record_missing_grant(&format!("header:{name}"), "nothing");
            return Ok(Vec::new());
        }
        let request = self.request(&handle)?;
        let values: Vec<_> = request.facts.head.header(&name).map(<[u8]>::to_vec).collect();
        self.count_lent(values.iter().map(Vec::len).sum())?;
        Ok(values)
    }

    fn headers(&mut self, handle: Resource<Request>) -> wasmtime::Result<Vec<host::types::Header>> {
        let request = self.request(&handle)?;
        let granted = request.facts.head.headers().filter(|(name, _)| self.plugin.grants.header(name));
        let header =
            |(name, value): (&str, &[u8])| host::types::Header { name: name.to_owned(), value: value.to_vec() };
        let headers: Vec<_> = granted.map(header).collect();
        self.count_lent(headers.iter().map(|it| it.name.len() + it.value.len()).sum())?;
        Ok(headers)
    }

    fn credential(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<host::request::Credential>> {
        let Request { request, hook } = self.table.get(&handle)?;
        let Some(credential) = &request.facts.credential else { return Ok(None) };
        let credential = credential.expose();
        if self.plugin.grants.raw_credential {
            return Ok(Some(host::request::Credential::Raw(credential.to_owned())));
        }
        if hook.is_pure() {
            self.record_missing_grant("credential:raw", "nothing");
            return Ok(None);
        }
        Ok(Some(host::request::Credential::Fingerprint(self.plugin.fingerprints.of(credential))))
    }

    fn client_address(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<String>> {
        let request = self.granted_request(&handle, self.plugin.grants.client_address, "client-address")?;
        Ok(request.and_then(|it| it.facts.client).map(|address| address.to_string()))
    }

    fn peer_address(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<String>> {
        let request = self.granted_request(&handle, self.plugin.grants.client_address, "client-address")?;
        Ok(request.and_then(|it| it.facts.peer).map(|address| address.to_string()))
    }

    fn forwarded_for(&mut self, handle: Resource<Request>) -> wasmtime::Result<Vec<String>> {
        let request = self.granted_request(&handle, self.plugin.grants.client_address, "client-address")?;
        let Some(request) = request else { return Ok(Vec::new()) };
        let values = request.facts.head.header("x-forwarded-for").filter_map(|it| std::str::from_utf8(it).ok());
        let addresses = values.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty());
        Ok(addresses.map(str::to_owned).collect())
    }

    fn tls(&mut self, handle: Resource<Request>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&handle)?.request.facts.is_tls)
    }

    fn identity(&mut self, handle: Resource<Request>) -> wasmtime::Result<Option<host::types::Identity>> {
        let request = self.granted_request(&handle, self.plugin.grants.identity, "identity")?;
        let identity = request.and_then(|it| it.identity);
        Ok(identity.map(|it| host::types::Identity { principal: it.principal.clone(), tags: it.tags.clone() }))
    }

    fn drop(&mut self, _: Resource<Request>) -> wasmtime::Result<()> {
        // The host deletes it after the call.
        Ok(())
    }
}
