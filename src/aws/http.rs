//! One HTTP stack for all AWS clients of the process: opening another client costs no second TLS configuration and
//! shares the open connections. No name leads it to where clouds keep machine credentials.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio::runtime::{Handle, Id};

use crate::names::addresses;

/// The client that every configuration gets.
pub(super) fn client() -> SharedHttpClient {
    static CLIENT: LazyLock<SharedHttpClient> =
        LazyLock::new(|| SharedHttpClient::new(OncePerRuntime::default()));
    CLIENT.clone()
}

/// What one connector is for. The tasks that drive its pooled connections live in the runtime that opened them and end
/// with it, so a connection must never be lent to another runtime (each test has its own).
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    runtime: Option<Id>,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
}

/// Makes connectors when they are first asked for, unlike the SDK's own client, which makes one per client to load
/// the root certificates early.
#[derive(Debug, Default)]
struct OncePerRuntime(Mutex<HashMap<Key, SharedHttpConnector>>);

impl HttpClient for OncePerRuntime {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let key = Key {
            runtime: Handle::try_current().ok().map(|handle| handle.id()),
            connect_timeout: settings.connect_timeout(),
            read_timeout: settings.read_timeout(),
        };
        let mut connectors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connectors.entry(key).or_insert_with(|| connector(settings, components)).clone()
    }
}

fn connector(settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
    let mut builder: ConnectorBuilder<_> =
        Connector::builder().tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc));
    builder.set_connector_settings(Some(settings.clone()));
    builder.set_sleep_impl(components.sleep_impl());
    // HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as the SDK's own client does it.
    builder.set_proxy_config(Some(ProxyConfig::from_env()));
    SharedHttpConnector::new(builder.build_with_resolver(NoLinkLocalNames))
}

/// Resolves names as the system does, and refuses those of link-local addresses: the endpoint of a SackerLedger may be a
/// tenant's wish. Behind a proxy it is the proxy's name that is resolved here. The SDK's own credential providers name such addresses as numbers, which are not resolved.
#[derive(Debug, Clone, Copy)]
struct NoLinkLocalNames;

impl ResolveDns for NoLinkLocalNames {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { addresses(name).await.map_err(ResolveDnsError::new) })
    }
}
