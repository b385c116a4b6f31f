//! Adding a version: create-only at the next number, walking on while others are faster.
//!
//! A refused put proves that the number is taken for good, so the walk leaves no gap. A put whose outcome is not known
//! is repeated at the same number and no other: the late write and the repeated one meet at one create-only key, so one
//! `add` cannot become two versions.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use jiff::Timestamp;

use super::DynamoLedger;
use super::consumed::TOTAL;
use super::item::{self, Item, attribute, row_name};
use super::read::Rows;
use super::request::{Patience, send_counted, single_attempt};
use crate::aws::Call;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::model::{NewVersion, PackageName, Sha256, Version, VersionRecord, check_basename};

const OPERATION: &str = "add a version";

/// How many of the newest versions are searched for an earlier attempt of the same `add`. They cost a few read units
/// at most; a repeat after more adds by others than these becomes a version of its own.
const LOOK_BACK: usize = 25;

/// After this many taken numbers in a row the newest is looked up again: the others are faster than a walk.
const WALK: usize = 3;

impl DynamoLedger {
    pub(super) async fn add_version(&self, package: &PackageName, new: &NewVersion) -> Result<VersionRecord> {
        package.check_new()?;
        check_basename(&new.basename)?;
        if new.sha256 == Sha256::ZERO {
            return Err(Error::invalid("this sha256 marks removed versions"));
        }
        let full = || Error::invalid(format!("package '{package}' has no version number left"));
        let at = self.connect.clock.now();
        let mut patience = self.patience();
        let mut rows = Rows::versions(self, package).newest_first().by(LOOK_BACK);
        let mut first_look = true;
        loop {
            let (newest, _) = self.page(&patience, &rows, None).await?;
            if let Some(own) = newest.iter().find(|item| item::add_id(item) == Some(&new.add_id)) {
                return item::decode_version(&self.versions, own);
            }
            let key = newest.first().map(|item| item::decode_version_key(&self.versions, item));
            let highest = key.transpose()?;
            if let (Some(expected), true) = (new.if_latest, first_look) {
                self.check_latest(package, expected, highest).await?;
            }
            let mut version = highest.map_or(Some(Version::FIRST), Version::next).ok_or_else(full)?;
            for _ in 0..WALK {
                if let Some(record) = self.put_version(&mut patience, package, version, new, at).await? {
                    return Ok(record);
                }
                if let Some(expected) = new.if_latest {
                    return Err(self.not_latest(package, expected, Some(version)));
                }
                version = version.next().ok_or_else(full)?;
            }
            if !patience.pause().await {
                let key = row_name(&self.versions, &item::version_key(package, version));
                return Err(Error::new(Meaning::Throttled, OPERATION).with_key(key));
            }
            first_look = false;
            rows = Rows::versions(self, package).newest_first().by(1);
        }
    }

    /// Puts the record at `version`; nothing if the number belongs to somebody else.
    async fn put_version(
        &self,
        patience: &mut Patience,
        package: &PackageName,
        version: Version,
        new: &NewVersion,
        at: Timestamp,
    ) -> Result<Option<VersionRecord>> {
        let item = item::encode_version(package, version, new, at)?;
        let record = |item: &Item| item::decode_version(&self.versions, item).map(Some);
        let settled = |there: &Item| {
            if item::add_id(there) == Some(&new.add_id) { record(there) } else { Ok(None) }
        };
        let key = row_name(&self.versions, &item);
        let place = format!("table '{}'", self.versions);
        let call = Call { operation: OPERATION, action: "dynamodb:PutItem", place: &place, key: &key };
        let mut in_doubt = false;
        loop {
            let request = self
                .client
                .put_item()
                .return_consumed_capacity(TOTAL)
                .table_name(&self.versions)
                .set_item(Some(item.clone()))
                .condition_expression("attribute_not_exists(#package)")
                .expression_attribute_names("#package", attribute::PACKAGE)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .customize()
                .config_override(single_attempt())
                .send();
            let sent = around("dynamo.version", send_counted(patience, &call, request)).await;
            let Err(failure) = sent else { return record(&item) };
            if let Some(PutItemError::ConditionalCheckFailedException(refused)) = failure.service.as_deref() {
                if let Some(there) = refused.item() {
                    return settled(there);
                }
                // A server that does not return the old item.
                return match self.version_item(patience, package, version).await {
                    Ok(Some(there)) => settled(&there),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error.in_doubt(&new.add_id)),
                };
            }
            let error = failure.error;
            if error.is_transient() {
                in_doubt = true;
                if patience.pause().await {
                    continue;
                }
                return Err(error.in_doubt(&new.add_id));
            }
            if in_doubt {
                // The next attempt failed for good: see what became of the one before. Where nothing is, it may still come.
                return match self.version_item(patience, package, version).await {
                    Ok(Some(there)) => settled(&there),
                    Ok(None) | Err(_) => Err(error.in_doubt(&new.add_id)),
                };
            }
            return Err(error);
        }
    }

    /// Checks `if_latest`: the newest version, or the newest that was not removed, must be the expected one.
    async fn check_latest(
        &self,
        package: &PackageName,
        expected: Version,
        highest: Option<Version>,
    ) -> Result<()> {
        if highest == Some(expected) {
            return Ok(());
        }
        let found = match highest {
            None => None,
            Some(_) => self.newest_versions(package, 1).await?.records.first().map(|record| record.version),
        };
        if found == Some(expected) { Ok(()) } else { Err(self.not_latest(package, expected, found)) }
    }

    fn not_latest(&self, package: &PackageName, expected: Version, found: Option<Version>) -> Error {
        let expected = format!("version {expected} as the newest");
        let found = found.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
        Error::new(Meaning::Conflict { expected, found }, OPERATION)
            .with_key(format!("table '{}', '{package}'", self.versions))
    }
}
