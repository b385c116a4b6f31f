//! Removing a version: its row becomes a tombstone, on condition that no tag has moved to it since the tags were read.
//!
//! Every move counts up the `tag_rev` of its version in its own transaction. The version is read before the tags are:
//! a move before that shows in the tags, a later one in `tag_rev`. Not responsible for the blob.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;

use super::DynamoLedger;
use super::consumed::TOTAL;
use super::item::{self, Item, attribute, row_name, text};
use super::request::{Patience, send_counted, single_attempt};
use crate::aws::Call;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::{Removed, still_tagged};
use crate::model::{PackageName, Removal, Sha256, Version, time};

/// How often tags moved to a version, as its row says it: never, or a number.
type TagRev = Option<AttributeValue>;

const OPERATION: &str = "remove a version";

impl DynamoLedger {
    pub(super) async fn remove(
        &self,
        package: &PackageName,
        version: Version,
        removal: &Removal,
    ) -> Result<Removed> {
        let id = uuid::Uuid::new_v4().to_string();
        let removal = Removal { at: time::to_milliseconds(removal.at), ..removal.clone() };
        let mut patience = self.patience();
        // The row that a tombstone of ours may yet replace: as far as its condition tells rows apart.
        let mut in_doubt: Option<TagRev> = None;
        loop {
            let step = self.remove_step(&patience, package, version, &removal, &id, &mut in_doubt).await;
            let failure = match step {
                Ok(Some(removed)) => return Ok(removed),
                Ok(None) => {
                    let key = row_name(&self.versions, &item::version_key(package, version));
                    Error::new(Meaning::Throttled, OPERATION).with_key(key)
                }
                Err(error) => error,
            };
            if failure.is_transient() && patience.pause().await {
                continue;
            }
            return Err(if in_doubt.is_some() { failure.in_doubt(&id) } else { failure });
        }
    }

    /// Reads the version and the tags, and writes the tombstone if no tag points to it. Nothing: look again.
    async fn remove_step(
        &self,
        patience: &Patience,
        package: &PackageName,
        version: Version,
        removal: &Removal,
        id: &str,
        in_doubt: &mut Option<TagRev>,
    ) -> Result<Option<Removed>> {
        let Some(row) = self.version_item(patience, package, version).await? else {
            let exists = self.has_versions(patience, package).await?;
            let (package, version) = (package.clone(), version);
            return Err(Error::not_found(if exists {
                Missing::Version(package, version)
            } else {
                Missing::Package(package)
            }));
        };
        let record = item::decode_version(&self.versions, &row)?;
        if record.is_removed() {
            return Ok(Some(Removed { record, is_new: item::removal_id(&row) == Some(id) }));
        }
        let tag_rev = item::tag_rev(&row).cloned();
        if in_doubt.as_ref().is_some_and(|before| *before != tag_rev) {
            *in_doubt = None;
        }
        let tags = self.all_tags(package).await?;
        let tags: Vec<&str> = tags
            .iter()
            .filter(|state| state.version == Some(version))
            .map(|state| state.tag.as_str())
            .collect();
        if !tags.is_empty() {
            // An earlier attempt that is still under way may come before the tag did: not known until `tag_rev` rose.
            if in_doubt.is_some() {
                return Ok(None);
            }
            return Err(still_tagged(package, version, &tags).with_key(row_name(&self.versions, &row)));
        }
        let written = self.put_tombstone(patience, &row, removal, id).await;
        if written.as_ref().is_err_and(Error::is_transient) {
            *in_doubt = Some(tag_rev);
        }
        let tombstone = written?;
        let removed = |row: &Item| {
            item::decode_version(&self.versions, row).map(|record| Removed { record, is_new: true })
        };
        tombstone.as_ref().map(removed).transpose()
    }

    /// Writes the tombstone if the row is as it was read, up to `tag_rev`. Returns the row; nothing when it changed.
    async fn put_tombstone(
        &self,
        patience: &Patience,
        row: &Item,
        removal: &Removal,
        id: &str,
    ) -> Result<Option<Item>> {
        let tombstone = item::encode_tombstone(&self.versions, row, removal, id)?;
        let key = row_name(&self.versions, row);
        let place = format!("table '{}'", self.versions);
        let call = Call { operation: OPERATION, action: "dynamodb:PutItem", place: &place, key: &key };
        let request = self
            .client
            .put_item()
            .return_consumed_capacity(TOTAL)
            .table_name(&self.versions)
            .set_item(Some(tombstone.clone()))
            .expression_attribute_names("#sha", attribute::SHA)
            .expression_attribute_names("#tag_rev", attribute::TAG_REV)
            .expression_attribute_values(":removed", text(Sha256::ZERO.to_string()));
        let request = match item::tag_rev(row) {
            Some(seen) => request
                .condition_expression("attribute_exists(#sha) AND #sha <> :removed AND #tag_rev = :seen")
                .expression_attribute_values(":seen", seen.clone()),
            None => request.condition_expression(
                "attribute_exists(#sha) AND #sha <> :removed AND attribute_not_exists(#tag_rev)",
            ),
        };
        let request = request.customize().config_override(single_attempt()).send();
        let sent = around("dynamo.tombstone", send_counted(patience, &call, request)).await;
        let Err(failure) = sent else { return Ok(Some(tombstone)) };
        match failure.service.as_deref() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(None),
            _ => Err(failure.error),
        }
    }
}
