//! The DynamoDB ledger: two tables, in the format of 2015, with compare-and-swap by conditional writes.
//!
//! Versions are numbered 1, 2, 3, ... without a gap, also beside 2015 clients that add at the same time. A tag moves in
//! one transaction with its event and with the check that its version exists. All reads are consistent.
//!
//! Not responsible for whether a change of a tag is allowed ([`crate::model::next_event`]), nor for clients and the
//! meaning of their errors ([`crate::aws`]).

mod add;
mod consumed;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
#[cfg(feature = "cli")]
mod inspect;
mod item;
mod packages;
mod probe;
mod read;
mod remove;
mod request;
#[cfg(feature = "cli")]
mod restore;
mod tables;
mod tag;
mod transaction;
mod view;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use futures::stream::BoxStream;

use super::{
    InitOptions, Ledger, LedgerState, Newest, ProbeOptions, ProbeReport, Removed, TagOutcome, ViewCache,
};
#[cfg(feature = "cli")]
use super::{Restored, TagDump};
use crate::connect::Connect;
use crate::error::{Error, Meaning, Result};
#[cfg(feature = "cli")]
use crate::inspection::Finding;
use crate::model::{
    DynamoLocation, Event, LedgerUri, NewVersion, Numbering, PackageName, PackageView, Removal, TagChange,
    TagName, TagState, Version, VersionRecord,
};
use crate::server_clock::{ServerClock, ServerTime};
use request::Patience;

/// A ledger in two DynamoDB tables.
pub struct DynamoLedger {
    uri: LedgerUri,
    client: Client,
    connect: Connect,
    /// The service's clock, as far as its answers told.
    clock: Arc<ServerClock>,
    /// The main table: one row per version.
    versions: String,
    /// The tags table: one row per tag, and the history.
    tags: String,
    /// Whether the endpoint is another than AWS's own, where some features of tables may be missing.
    custom_endpoint: bool,
}

impl fmt::Debug for DynamoLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoLedger").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl DynamoLedger {
    /// The ledger at `location`. Makes no request.
    ///
    /// # Errors
    /// `Invalid` when the environment's AWS settings are broken.
    pub async fn open(location: &DynamoLocation, connect: &Connect) -> Result<Self> {
        let clock = Arc::new(ServerClock::new(connect.clock.clone()));
        let (region, endpoint) = (&location.region, location.endpoint.as_deref());
        let client = crate::aws::dynamo_client_with_clock(region, endpoint, connect, clock.clone()).await?;
        Ok(Self {
            uri: LedgerUri::Dynamo(location.clone()),
            client,
            connect: connect.clone(),
            clock,
            versions: location.prefix.clone(),
            tags: format!("{}-tags", location.prefix),
            custom_endpoint: location.endpoint.is_some()
                || ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"]
                    .iter()
                    .any(|name| connect.environment.get(name).is_some()),
        })
    }

    fn patience(&self) -> Patience {
        Patience::new(&self.connect)
    }
}

#[async_trait]
impl Ledger for DynamoLedger {
    fn uri(&self) -> &LedgerUri {
        &self.uri
    }

    async fn init(&self, options: &InitOptions) -> Result<Vec<String>> {
        self.set_up(options).await
    }

    async fn state(&self) -> Result<LedgerState> {
        let patience = self.patience();
        match self.wrong_tables(&patience).await {
            Ok(None) => {}
            Ok(Some(wrong)) => return Err(Error::invalid(wrong).with_hint("choose another prefix")),
            // Whoever uses the tables need not have the right to describe them.
            Err(error) if matches!(error.meaning(), Meaning::Denied { .. }) => {
                self.check_readable(&patience).await?;
            }
            Err(error) => return Err(error),
        }
        let numbering = Numbering::Sequence;
        Ok(LedgerState { is_set_up: true, numbering, verdict: None, is_single_writer: false })
    }

    #[cfg(feature = "cli")]
    async fn inspect_credentials(&self) -> Option<Finding> {
        Some(crate::aws::inspect::credentials(&self.connect, self.client.config().region()).await)
    }

    #[cfg(feature = "cli")]
    async fn inspect(&self) -> Vec<Finding> {
        Box::pin(self.look_at_tables()).await
    }

    async fn time(&self) -> Option<ServerTime> {
        self.clock.now()
    }

    async fn probe(&self, options: &ProbeOptions) -> Result<ProbeReport> {
        self.run_probe(options).await
    }

    fn packages(&self) -> BoxStream<'_, Result<PackageName>> {
        self.walk_packages()
    }

    async fn versions(&self, package: &PackageName) -> Result<Vec<VersionRecord>> {
        self.all_versions(package).await
    }

    async fn newest(&self, package: &PackageName, count: usize) -> Result<Newest> {
        self.newest_versions(package, count).await
    }

    async fn version(&self, package: &PackageName, version: Version) -> Result<VersionRecord> {
        self.live_version(&self.patience(), package, version).await
    }

    async fn tags(&self, package: &PackageName) -> Result<Vec<TagState>> {
        self.all_tags(package).await
    }

    async fn tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>> {
        self.all_tags_ever(package).await
    }

    async fn tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>> {
        self.one_tag(package, tag).await
    }

    async fn add(&self, package: &PackageName, new: &NewVersion) -> Result<VersionRecord> {
        self.add_version(package, new).await
    }

    async fn change_tag(
        &self,
        package: &PackageName,
        tag: &TagName,
        change: &TagChange,
    ) -> Result<TagOutcome> {
        self.commit_change(package, tag, change).await
    }

    async fn remove_version(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed> {
        self.remove(package, version, removal).await
    }

    async fn history(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        self.all_events(package, tag).await
    }

    async fn views(
        &self,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)> {
        self.many_views(packages, known).await
    }

    #[cfg(feature = "cli")]
    async fn numbering(&self) -> Result<crate::model::Numbering> {
        Ok(crate::model::Numbering::Sequence)
    }

    #[cfg(feature = "cli")]
    async fn restore_version(&self, record: &VersionRecord) -> Result<Restored> {
        self.put_version_back(record).await
    }

    #[cfg(feature = "cli")]
    async fn restore_tag(&self, package: &PackageName, dump: &TagDump) -> Result<Restored> {
        self.put_tag_back(package, dump).await
    }
}
