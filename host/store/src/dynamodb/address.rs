//! The endpoint of DynamoDB, and the client with the credentials of the usual chain of AWS.

use std::sync::Arc;

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use tokio::sync::OnceCell;

use super::connector::Connector;
use crate::StoreError;

/// Region for another endpoint than that of AWS, which ignores it, where none is configured anywhere.
const ANY_REGION: &str = "us-east-1";

/// Endpoint and region of DynamoDB. Clones share connections and credentials.
#[derive(Debug, Clone)]
pub struct DynamoDbAddress {
    url: Option<Arc<str>>,
    region: Option<Arc<str>>,
    /// In place of the usual chain, in tests.
    credentials: Option<Credentials>,
    /// Created with the first request: the chain reads files, and may ask services of AWS.
    client: Arc<OnceCell<Client>>,
}

impl DynamoDbAddress {
    /// Creates an address. `url` replaces the endpoint of AWS, `region` the region of variables, profile and machine.
    #[must_use]
    pub fn new(url: Option<&str>, region: Option<&str>) -> Self {
        Self { url: url.map(Into::into), region: region.map(Into::into), credentials: None, client: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn with_credentials(mut self) -> Self {
        self.credentials = Some(Credentials::new("id", "secret", None, None, "test"));
        self
    }

    /// Returns the endpoint; empty for that of AWS.
    pub(super) fn shown(&self) -> Arc<str> {
        self.url.clone().unwrap_or_default()
    }

    pub(super) async fn client(&self) -> Result<&Client, StoreError> {
        self.client.get_or_try_init(|| Box::pin(self.connect())).await
    }

    async fn connect(&self) -> Result<Client, StoreError> {
        let region = RegionProviderChain::first_try(self.region.as_deref().map(|it| Region::new(it.to_owned())));
        let region = match self.url {
            Some(_) => {
                region.or_else(aws_config::environment::EnvironmentVariableRegionProvider::new()).or_else(ANY_REGION)
            }
            None => region.or_default_provider(),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(Connector::new()?)
            .retry_config(RetryConfig::standard())
            .region(region);
        if let Some(credentials) = self.credentials.clone() {
            loader = loader.credentials_provider(credentials);
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_dynamodb::config::Builder::from(&shared);
        if let Some(url) = &self.url {
            config = config.endpoint_url(&**url);
        }
        Ok(Client::from_conf(config.build()))
    }
}
