//! Finding packages: a scan that skips from package to package, one small request each, whatever the number of versions.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::DynamoLedger;
use super::consumed::TOTAL;
use super::item::{OWN_PREFIX, attribute, number, text};
use super::request::send_counted;
use crate::aws::Call;
use crate::error::Result;
use crate::model::PackageName;

/// Parts of the table that are walked at the same time. Each costs one request when it is empty.
const SEGMENTS: i32 = 8;

/// Greater than every version: no number that the service stores has more digits.
const AFTER_ALL_VERSIONS: &str = "99999999999999999999999999999999999999";

impl DynamoLedger {
    /// All packages, in the order of the table's hash.
    pub(super) fn walk_packages(&self) -> BoxStream<'_, Result<PackageName>> {
        stream::select_all((0..SEGMENTS).map(|segment| self.walk_segment(segment))).boxed()
    }

    fn walk_segment(&self, segment: i32) -> BoxStream<'_, Result<PackageName>> {
        let beginning = Some(None::<String>);
        stream::try_unfold(beginning, move |position| async move {
            let Some(after) = position else { return Ok(None) };
            let mut after = after;
            loop {
                match self.package_after(segment, after.as_deref()).await? {
                    None => return Ok(None),
                    Some(name) if name.starts_with(OWN_PREFIX) => after = Some(name),
                    Some(name) => return Ok(Some((PackageName::existing(name.as_str()), Some(Some(name))))),
                }
            }
        })
        .boxed()
    }

    /// The package after `after` in a segment: the first row behind any version that `after` could have.
    async fn package_after(&self, segment: i32, after: Option<&str>) -> Result<Option<String>> {
        let start = after.map(|package| {
            HashMap::from([
                (attribute::PACKAGE.to_owned(), text(package)),
                (attribute::VERSION.to_owned(), number(AFTER_ALL_VERSIONS)),
            ])
        });
        let name = format!("table '{}'", self.versions);
        let call = Call { operation: "list the packages", action: "dynamodb:Scan", place: &name, key: &name };
        let mut start = start;
        loop {
            let request = self
                .client
                .scan()
                .return_consumed_capacity(TOTAL)
                .table_name(&self.versions)
                .consistent_read(true)
                .limit(1)
                .segment(segment)
                .total_segments(SEGMENTS)
                .projection_expression("#package")
                .expression_attribute_names("#package", attribute::PACKAGE)
                .set_exclusive_start_key(start)
                .send();
            let page = send_counted(&self.patience(), &call, request).await?;
            let found = page.items.unwrap_or_default().into_iter().next();
            if let Some(AttributeValue::S(package)) =
                found.and_then(|mut item| item.remove(attribute::PACKAGE))
            {
                return Ok(Some(package));
            }
            // A page may be empty before the end.
            start = page.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(None);
            }
        }
    }
}
