//! The server behind the gate, and how it is reached: over plain HTTP, or over TLS with the authority that its certificate
//! must come from. Clients come to the gate itself over plain HTTP.

use std::io;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// How connections to the server are made.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `http://host:port` or `https://host:port`
    address: String,
    roots: RootCertStore,
}

impl Upstream {
    /// A server without TLS.
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.trim_end_matches('/').to_owned(), roots: RootCertStore::empty() }
    }

    /// The same, trusting these authorities (PEM) and no other. An error where they cannot be read.
    pub(crate) fn trusting(mut self, authorities: &[u8]) -> io::Result<Self> {
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            self.roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        Ok(self)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn connector(&self) -> Connector {
        let mut plain = HttpConnector::new();
        plain.set_nodelay(true);
        plain.enforce_http(false);
        // Named, because a process that links a second one has no default.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain)
    }
}
