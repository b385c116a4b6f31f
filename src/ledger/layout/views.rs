//! What mirrors of many packages show: for a package that did not change one listing of its tags and one of the end of its
//! versions, for one that did also a read per changed pointer and new record.
//!
//! What is known is used where the listing shows the revision it had. A version that a tag points to and that is too old
//! to be listed is used as long as the tag is as it was: no version is removed while a tag points to it.

use std::sync::Arc;

use futures::future::try_join;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::newest::Wanted;
use super::{ObjectLedger, READS, keys};
use crate::error::{Error, Result};
use crate::ledger::known::{Known, Read};
use crate::ledger::{ConditionalObjects, ViewCache};
use crate::model::{PackageName, PackageView, TagName, TagState};

/// How many packages are looked at at a time.
const PACKAGES: usize = 16;

/// How many records are read at a time, over all packages that are looked at.
const READS_IN_ALL: usize = 4 * PACKAGES;

impl<O: ConditionalObjects> ObjectLedger<O> {
    pub(super) async fn many_views(
        &self,
        packages: &[PackageName],
        known: &ViewCache,
    ) -> Vec<(PackageName, Result<PackageView>)> {
        let at_a_time = packages.len().clamp(1, PACKAGES);
        let reads = READS.min(READS_IN_ALL / at_a_time);
        let look = |package: PackageName| async move {
            let looked = self.look_at(&package, &known.get(&package), reads).await;
            let view = match looked {
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
        stream::iter(packages.to_vec()).map(look).buffered(at_a_time).collect().await
    }

    async fn look_at(
        &self,
        package: &PackageName,
        known: &Known,
        reads: usize,
    ) -> Result<(PackageView, Known)> {
        let wanted = Wanted { count: PackageView::RECENT, reads };
        let tags = self.tags_since(package, known, reads);
        let (tags, found) = try_join(tags, self.newest_since(package, wanted, known)).await?;
        let recent = found.live(PackageView::RECENT);
        let records = found.records.into_iter().map(|read| (read.value.version, read)).collect();
        let mut now = Known { tags: tags.into_iter().collect(), records, tail: found.tail };
        let targets = stream::iter(now.missing()).map(|version| {
            let target = known.target(version, &now.tags).cloned();
            async move {
                match target {
                    Some(target) => Ok(Some(target)),
                    None => self.read_version(package, version).await,
                }
            }
        });
        let targets: Vec<_> = targets.buffered(reads).try_collect().await?;
        // A 2015 client tags without looking: what is not there stays out.
        now.records.extend(targets.into_iter().flatten().map(|read| (read.value.version, read)));
        Ok((now.view(recent, found.version_count), now))
    }

    /// All tags, removed ones included. A pointer is read only where the listing shows another revision.
    async fn tags_since(
        &self,
        package: &PackageName,
        known: &Known,
        reads: usize,
    ) -> Result<Vec<(TagName, Read<Option<Arc<TagState>>>)>> {
        let prefix = keys::tags(package);
        let listed = self.list_all(&prefix, &prefix).await?;
        let tags = listed.into_iter().filter_map(|entry| {
            let name = &entry.key[prefix.len()..];
            (name != keys::LATEST).then(|| (TagName::existing(name), entry.revision))
        });
        let read = |(tag, revision)| async move {
            let found = match known.tags.get(&tag) {
                Some(read) if read.is_at(Option::as_ref(&revision)) => Some(read.clone()),
                _ => self.pointer(package, &tag).await?.map(|pointer| Read {
                    value: pointer.state.map(Arc::new),
                    revision: Some(pointer.revision),
                }),
            };
            Ok::<_, Error>(found.map(|read| (tag, read)))
        };
        let tags: Vec<_> = stream::iter(tags).map(read).buffered(reads).try_collect().await?;
        Ok(tags.into_iter().flatten().collect())
    }
}
