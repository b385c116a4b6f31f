//! What mirrors of many packages show: two queries a package, and its tags' versions that these do not show by the
//! hundred for all packages.
//!
//! A query of the newest versions is the cheapest read that shows an add and a removal alike (one unit for about 4 KB,
//! where asking for each row costs one each), so it is made for every package every time. A version that a tag points to
//! and that is older is read again only when the tag changed: no version is removed while a tag points to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures::future::try_join;
use futures::stream::{self, StreamExt as _};

use super::DynamoLedger;
use super::item::{self, Item};
use super::request::send;
use crate::aws::Call;
use crate::error::{Error, Meaning, Result};
use crate::ledger::ViewCache;
use crate::ledger::known::{Known, Read, Tags};
use crate::model::{PackageName, PackageView, TagState, Version, VersionRecord};

/// How many packages are looked at at a time.
const PACKAGES: usize = 16;

/// How many keys one `BatchGetItem` takes.
const BATCH: usize = 100;

/// How many batches are read at a time.
const BATCHES: usize = 4;

/// A package after its queries.
struct Looked {
    known: Known,
    recent: Vec<Arc<VersionRecord>>,
    version_count: u64,
}

/// The key of a version's row.
type Key = (PackageName, Version);

impl DynamoLedger {
    pub(super) async fn many_views(
        &self,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)> {
        let look = |package: PackageName| async move {
            let looked = self.look_at(&package, &known.get(&package)).await;
            (package, looked)
        };
        let looked: Vec<_> = stream::iter(packages.to_vec()).map(look).buffered(PACKAGES).collect().await;
        let missing: BTreeSet<Key> = looked
            .iter()
            .filter_map(|(package, looked)| Some((package, looked.as_ref().ok()?)))
            .flat_map(|(package, looked)| {
                looked.known.missing().into_iter().map(|version| (package.clone(), version))
            })
            .collect();
        let rows = self.many_versions(missing.into_iter().collect()).await;
        let finish = |(package, looked): (PackageName, Result<Looked>)| {
            let view = looked.and_then(|looked| looked.finish(&package, &rows));
            let view = match view {
                Ok((view, now)) => {
                    known.put(&package, now);
                    Ok(view)
                }
                Err(error) => {
                    if error.is_not_found() {
                        known.forget(&package);
                    }
                    Err(error)
                }
            };
            (package, view)
        };
        looked.into_iter().map(finish).collect()
    }

    async fn look_at(&self, package: &PackageName, known: &Known) -> Result<Looked> {
        let newest = self.newest_versions(package, PackageView::RECENT);
        let (newest, tags) = try_join(newest, self.tags_of(package)).await?;
        let read =
            |state: TagState| (state.tag.clone(), Read { value: Some(Arc::new(state)), revision: None });
        let tags: Tags = tags.into_iter().map(read).collect();
        let recent: Vec<_> = newest.records.into_iter().map(Arc::new).collect();
        let records = recent.iter().map(|record| (record.version, of_row(Arc::clone(record)))).collect();
        let mut now = Known { tags, records, tail: None };
        for version in now.missing() {
            if let Some(read) = known.target(version, &now.tags) {
                now.records.insert(version, read.clone());
            }
        }
        Ok(Looked { known: now, recent, version_count: newest.version_count })
    }

    /// The rows of versions, each with its own result; one that does not exist has none.
    async fn many_versions(&self, keys: Vec<Key>) -> BTreeMap<Key, Result<VersionRecord>> {
        let batches: Vec<Vec<Key>> = keys.chunks(BATCH).map(<[Key]>::to_vec).collect();
        let rows = stream::iter(batches).map(|batch| self.batch(batch)).buffer_unordered(BATCHES);
        rows.flat_map(stream::iter).collect().await
    }

    /// Up to 100 rows. The service may leave some out, to be asked for again after a pause.
    async fn batch(&self, mut keys: Vec<Key>) -> BTreeMap<Key, Result<VersionRecord>> {
        let mut rows = BTreeMap::new();
        let mut patience = self.patience();
        let table = format!("table '{}'", self.versions);
        let call =
            Call { operation: "read versions", action: "dynamodb:BatchGetItem", place: &table, key: &table };
        while !keys.is_empty() {
            let wanted = keys.iter().map(|(package, version)| item::version_key(package, *version));
            let wanted = KeysAndAttributes::builder().set_keys(Some(wanted.collect())).consistent_read(true);
            let answer = match wanted.build() {
                Ok(wanted) => {
                    let request = self.client.batch_get_item().request_items(&self.versions, wanted).send();
                    send(&patience, &call, request).await.map_err(Error::from)
                }
                Err(error) => Err(Error::new(Meaning::Other, call.operation).with_source(error)),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    rows.extend(keys.into_iter().map(|key| (key, Err(error.alike()))));
                    break;
                }
            };
            let found = answer.responses.unwrap_or_default().remove(&self.versions).unwrap_or_default();
            for item in found {
                if let Some(key) = key_of(&self.versions, &item) {
                    rows.insert(key, item::decode_version(&self.versions, &item));
                }
            }
            let left = answer.unprocessed_keys.unwrap_or_default().remove(&self.versions);
            let left = left.map(|left| left.keys).unwrap_or_default();
            keys = left.iter().filter_map(|key| key_of(&self.versions, key)).collect();
            if !keys.is_empty() && !patience.pause().await {
                let throttled = Error::new(Meaning::Throttled, call.operation).with_key(&table);
                rows.extend(keys.into_iter().map(|key| (key, Err(throttled.alike()))));
                break;
            }
        }
        rows
    }
}

impl Looked {
    /// The view, once the rows that the queries did not show are there.
    fn finish(
        mut self,
        package: &PackageName,
        rows: &BTreeMap<Key, Result<VersionRecord>>,
    ) -> Result<(PackageView, Known)> {
        for version in self.known.missing() {
            match rows.get(&(package.clone(), version)) {
                Some(Ok(record)) => {
                    self.known.records.insert(version, of_row(Arc::new(record.clone())));
                }
                Some(Err(error)) => return Err(error.alike()),
                // A 2015 client tags without looking.
                None => {}
            }
        }
        Ok((self.known.view(self.recent, self.version_count), self.known))
    }
}

/// A row has no revision to compare; it is known by what points to it.
fn of_row(record: Arc<VersionRecord>) -> Read<Arc<VersionRecord>> {
    Read { value: record, revision: None }
}

fn key_of(table: &str, item: &Item) -> Option<Key> {
    let package = item.get(item::attribute::PACKAGE)?.as_s().ok()?;
    Some((PackageName::existing(package.as_str()), item::decode_version_key(table, item).ok()?))
}
