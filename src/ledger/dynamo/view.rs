//! What a mirror of a package shows: two queries, and one read per tag that points behind the newest versions.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::DynamoLedger;
use crate::error::Result;
use crate::model::{PackageName, PackageView, TagState, TagView};

/// Versions that are read at a time.
const READS: usize = 16;

impl DynamoLedger {
    pub(super) async fn whole_view(&self, package: &PackageName) -> Result<PackageView> {
        let newest = self.newest_versions(package, PackageView::RECENT);
        let (newest, tags) = futures::future::try_join(newest, self.all_tags(package)).await?;
        let (patience, recent) = (&self.patience(), &newest.records);
        let with_record = |state: TagState| async move {
            let record = match state.version {
                None => None,
                Some(version) => match recent.iter().find(|record| record.version == version) {
                    Some(record) => Some(record.clone()),
                    None => match self.live_version(patience, package, version).await {
                        Ok(record) => Some(record),
                        // A 2015 client tags without looking.
                        Err(error) if error.is_not_found() => None,
                        Err(error) => return Err(error),
                    },
                },
            };
            Ok(TagView { state, record })
        };
        Ok(PackageView {
            latest: recent.first().cloned(),
            tags: stream::iter(tags).map(with_record).buffered(READS).try_collect().await?,
            version_count: newest.version_count,
            recent: newest.records.clone(),
        })
    }
}
