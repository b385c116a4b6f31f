//! What a command of `kubectl sacker` works with: where to look, the printer, and the client, made when it is first needed.

use std::fmt::Debug;
use std::time::Duration;

use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

use super::arguments::Global;
use super::objects::{self, Objects};
use super::package::Package;
use super::refusal::Request;
use super::{kubeconfig, refusal, unknown};
use crate::api::{SackerPackage, SackerTag};
use crate::cli::message::Context;
use crate::cli::output::{Printer, print_warning};
use crate::clock::{Clock as _, SystemClock};
use crate::connect::Connect;
use crate::environment::Environment;
use crate::error::Result;
use crate::model::PackageName;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// One run of one command.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) printer: &'a Printer,
    /// The SackerLedger that was asked for.
    pub(super) ledger: Option<&'a str>,
    /// Whether all namespaces are looked into.
    pub(super) everywhere: bool,
    global: &'a Global,
    /// Whether the environment names a kubeconfig.
    is_named: bool,
    limit: Duration,
    started: Duration,
}

/// The API server, and where to look in it.
struct Place {
    client: Client,
    /// Its address, for messages.
    server: String,
    /// Nothing is all of them.
    namespace: Option<String>,
}

impl<'a> Session<'a> {
    /// Makes no request and reads no file.
    pub(super) fn new(global: &'a Global, environment: &Environment, printer: &'a Printer) -> Self {
        Self {
            printer,
            ledger: global.ledger.as_deref(),
            everywhere: global.all_namespaces,
            global,
            is_named: environment.get("KUBECONFIG").is_some(),
            limit: global.request_timeout.unwrap_or(Connect::DEFAULT_DEADLINE),
            started: SystemClock.monotonic(),
        }
    }

    /// What the cluster has about one package, or about all, of the SackerLedger that was asked for.
    pub(super) async fn objects(&self, package: Option<&PackageName>) -> Result<Objects> {
        let place = self.place().await?;
        let reads = async {
            tokio::try_join!(
                self.list::<SackerPackage>(&place, package),
                self.list::<SackerTag>(&place, package)
            )
        };
        let late = || refusal::late(&place.server, self.limit);
        let (mut packages, mut tags) =
            tokio::time::timeout(self.limit, reads).await.map_err(|_| late())??;
        packages.retain(|object| self.is_meant(package, &object.spec.ledger, &object.spec.package));
        tags.retain(|object| self.is_meant(package, &object.spec.ledger, &object.spec.package));
        let place = match &place.namespace {
            Some(namespace) => format!("namespace '{namespace}'"),
            None => "the cluster".to_owned(),
        };
        Ok(Objects { place, packages, tags })
    }

    /// A package, and warnings for what may be old of it.
    ///
    /// # Errors
    /// `NotFound` where no object is about it.
    pub(super) async fn package(&self, name: &PackageName) -> Result<Package> {
        let Some(package) = Package::of(name, self.objects(Some(name)).await?)? else {
            return Err(unknown::package(name, &self.objects(None).await?));
        };
        package.doubts().iter().for_each(|doubt| print_warning(format_args!("{doubt}")));
        Ok(package)
    }

    fn is_meant(&self, wanted: Option<&PackageName>, ledger: &str, package: &str) -> bool {
        self.ledger.is_none_or(|name| name == ledger) && wanted.is_none_or(|name| name.as_str() == package)
    }

    async fn place(&self) -> Result<Place> {
        let Global { kubeconfig, context, namespace, .. } = self.global;
        let mut config = kubeconfig::load(kubeconfig.as_deref(), context.as_deref(), self.is_named).await?;
        config.connect_timeout = Some(CONNECT.min(self.limit));
        let server = config.cluster_url.to_string();
        let default = config.default_namespace.clone();
        let namespace = namespace.clone().unwrap_or(default);
        let namespace = (!self.everywhere).then_some(namespace);
        Ok(Place { client: connect(config, &server).await?, server, namespace })
    }

    async fn list<K>(&self, place: &Place, package: Option<&PackageName>) -> Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<DeserializeGuard<K>> = match &place.namespace {
            Some(namespace) => Api::namespaced(place.client.clone(), namespace),
            None => Api::all(place.client.clone()),
        };
        let request = Request::to_list::<K>(&place.server, place.namespace.as_deref());
        let found = objects::list(&api, package).await.map_err(|error| refusal::refusal(error, &request))?;
        let mut readable = Vec::with_capacity(found.len());
        for DeserializeGuard(object) in found {
            match object {
                Ok(object) => readable.push(object),
                Err(invalid) => {
                    let name = objects::title(&invalid.metadata);
                    print_warning(format_args!(
                        "{} '{name}' cannot be read: {}",
                        K::kind(&()),
                        invalid.error
                    ));
                }
            }
        }
        Ok(readable)
    }

    /// What messages say about the surroundings.
    pub(super) fn context(&self) -> Context {
        Context {
            deadline: self.limit,
            elapsed: SystemClock.monotonic().saturating_sub(self.started),
            ..Context::default()
        }
    }
}

/// Makes the client. A credential plugin of the kubeconfig may run for that, and ask its user.
async fn connect(config: Config, server: &str) -> Result<Client> {
    let made = tokio::task::spawn_blocking(|| Client::try_from(config)).await;
    let request = Request::to_log_in(server);
    match made {
        Ok(client) => client.map_err(|error| refusal::refusal(error, &request)),
        Err(panicked) => Err(refusal::unexpected(panicked, &request)),
    }
}
