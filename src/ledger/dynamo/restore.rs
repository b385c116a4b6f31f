//! Putting versions and tags of another ledger back: create-only at the numbers they have.
//!
//! What is written is known beforehand, so a write whose reply was lost needs no id: whoever finds the same content knows
//! that nothing is missing. Not responsible for what may be put back ([`TagDump::missing_from`]).

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::DynamoLedger;
use super::item::{self, Item, attribute, number, row_name, text};
use super::request::{Patience, send, single_attempt};
use super::transaction::{COMPLETE, Seen, condition};
use crate::aws::Call;
use crate::error::{Error, Meaning, Result};
use crate::ledger::{Pointer, Restored, TagDump};
use crate::model::{PackageName, Sha256, Version, VersionRecord};

const OPERATION: &str = "put it back";

/// Rows of a history that are written at a time.
const WRITES: usize = 8;

impl DynamoLedger {
    pub(super) async fn put_version_back(&self, record: &VersionRecord) -> Result<Restored> {
        let (package, version) = (&record.package, record.version);
        check_package(package)?;
        let item = item::encode_record(record)?;
        if self.create_row(&self.versions, item).await? {
            return Ok(Restored::Written);
        }
        let there = self.version_item(&self.patience(), package, version).await?;
        let there = there.map(|there| item::decode_version(&self.versions, &there)).transpose()?;
        if there.is_some_and(|there| there.says_the_same(record)) {
            return Ok(Restored::AlreadyThere);
        }
        let meaning = Meaning::Conflict {
            expected: format!("version {version} of package '{package}' as it is put back"),
            found: "another record".to_owned(),
        };
        let key = row_name(&self.versions, &item::version_key(package, version));
        Err(Error::new(meaning, OPERATION).with_key(key))
    }

    pub(super) async fn put_tag_back(&self, package: &PackageName, dump: &TagDump) -> Result<Restored> {
        let tag = &dump.tag;
        check_package(package)?;
        tag.check_stored()?;
        if !item::can_be_tag(tag) {
            tag.check_new()?;
        }
        if !dump.events.is_empty() && !item::can_have_history(package, tag) {
            return Err(Error::invalid(format!("tag '{tag}' is too long for a history")));
        }
        if dump.events.is_empty() && !matches!(dump.pointer, Pointer::Legacy(_)) {
            return Err(Error::invalid(format!("tag '{tag}' has neither a version nor a history")));
        }
        let key = row_name(&self.tags, &item::tag_key(package, tag));
        let mut patience = self.patience();
        let mut outcome = Restored::AlreadyThere;
        loop {
            let row = self.tag_row(&patience, package, tag).await?;
            let events = match self.all_events(package, tag).await {
                Err(error) if error.is_not_found() => Vec::new(),
                events => events?,
            };
            let state = row.as_ref().map(|row| &row.state);
            let found = TagDump::of(tag.clone(), state, events).map(|(found, _)| found);
            let mut missing = dump.missing_from(found.as_ref()).map_err(|contradiction| {
                let (expected, found) = (contradiction.expected, contradiction.found);
                Error::new(Meaning::Conflict { expected, found }, OPERATION).with_key(&key)
            })?;
            let seen = match &row {
                None => Seen::Absent,
                Some(row) => match &row.state.event {
                    Some(event) => Seen::Event(event.seq),
                    None => Seen::Legacy(row.raw_version.clone()),
                },
            };
            // A removed tag has no row.
            missing.pointer &= dump.version().is_some() || seen != Seen::Absent || is_word(dump);
            if missing.is_empty() {
                return Ok(outcome);
            }
            outcome = Restored::Written;
            let create = |position: usize| {
                let row = item::encode_event(package, tag, &dump.events[position]);
                async move { self.create_row(&self.tags, row).await }
            };
            // A row that somebody else created meanwhile is looked at in the next round.
            let created =
                stream::iter(missing.events).map(create).buffered(WRITES).try_collect::<Vec<bool>>();
            let all_created = created.await?.into_iter().all(|created| created);
            if all_created
                && (!missing.pointer || self.put_pointer(&patience, package, dump, &seen, &key).await?)
            {
                return Ok(outcome);
            }
            if !patience.pause().await {
                return Err(Error::new(Meaning::Unavailable, OPERATION).with_key(key));
            }
        }
    }

    /// Writes the tag's row, or deletes it. False if that was not confirmed: look again.
    async fn put_pointer(
        &self,
        patience: &Patience,
        package: &PackageName,
        dump: &TagDump,
        seen: &Seen,
        key: &str,
    ) -> Result<bool> {
        let (condition, names, values) = condition(seen);
        let (names, values) = (Some(names), (!values.is_empty()).then_some(values));
        let row = match (dump.pointer, dump.events.last(), dump.version()) {
            (Pointer::Legacy(version), _, _) => Some(item::encode_legacy_tag(package, &dump.tag, version)),
            (Pointer::Event, Some(event), Some(version)) => {
                Some(item::encode_tag(package, &dump.tag, version, event))
            }
            _ => None,
        };
        let mut actions = Vec::new();
        if let Some(version) = dump.version() {
            actions.extend(self.count_move(patience, package, version).await?);
        }
        let action = TransactWriteItem::builder();
        actions.push(if let Some(row) = row {
            let put = Put::builder().table_name(&self.tags).set_item(Some(row));
            let put = put.condition_expression(condition);
            let put = put.set_expression_attribute_names(names).set_expression_attribute_values(values);
            action.put(put.build().expect(COMPLETE)).build()
        } else {
            let delete = aws_sdk_dynamodb::types::Delete::builder().table_name(&self.tags);
            let delete = delete.set_key(Some(item::tag_key(package, &dump.tag)));
            let delete = delete.condition_expression(condition);
            let delete = delete.set_expression_attribute_names(names);
            action.delete(delete.set_expression_attribute_values(values).build().expect(COMPLETE)).build()
        });
        let place = format!("table '{}'", self.tags);
        let action = "dynamodb:PutItem, UpdateItem and DeleteItem";
        let call = Call { operation: OPERATION, action, place: &place, key };
        let request = self.client.transact_write_items().set_transact_items(Some(actions));
        let request = request.customize().config_override(single_attempt()).send();
        match send(patience, &call, request).await {
            Ok(_) => Ok(true),
            Err(failure) => match failure.service.as_deref() {
                Some(TransactWriteItemsError::TransactionCanceledException(_)) => Ok(false),
                _ if failure.error.is_transient() => Ok(false),
                _ => Err(failure.error),
            },
        }
    }

    /// The action that makes a removal of this version notice the tag. None for a version that is not there: a client of
    /// 2015 tagged it without looking, or it was removed under its tag.
    async fn count_move(
        &self,
        patience: &Patience,
        package: &PackageName,
        version: Version,
    ) -> Result<Option<TransactWriteItem>> {
        match self.live_version(patience, package, version).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        }
        let update = Update::builder()
            .table_name(&self.versions)
            .set_key(Some(item::version_key(package, version)))
            .update_expression("ADD #tag_rev :one")
            .condition_expression("attribute_exists(#sha) AND #sha <> :removed")
            .expression_attribute_names("#tag_rev", attribute::TAG_REV)
            .expression_attribute_names("#sha", attribute::SHA)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":removed", text(Sha256::ZERO.to_string()));
        Ok(Some(TransactWriteItem::builder().update(update.build().expect(COMPLETE)).build()))
    }

    /// Creates a row; false if the key was taken, be it by an earlier attempt of this call.
    async fn create_row(&self, table: &str, row: Item) -> Result<bool> {
        let key = row_name(table, &row);
        let place = format!("table '{table}'");
        let call = Call { operation: OPERATION, action: "dynamodb:PutItem", place: &place, key: &key };
        let mut patience = self.patience();
        loop {
            let request = self
                .client
                .put_item()
                .table_name(table)
                .set_item(Some(row.clone()))
                .condition_expression("attribute_not_exists(#package)")
                .expression_attribute_names("#package", attribute::PACKAGE)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None)
                .customize()
                .config_override(single_attempt())
                .send();
            match send(&patience, &call, request).await {
                Ok(_) => return Ok(true),
                Err(failure) => match failure.service.as_deref() {
                    Some(PutItemError::ConditionalCheckFailedException(_)) => return Ok(false),
                    _ if failure.error.is_transient() && patience.pause().await => {}
                    _ => return Err(failure.error),
                },
            }
        }
    }
}

/// Whether the tag is a 2015 client's that names no version.
fn is_word(dump: &TagDump) -> bool {
    dump.pointer == Pointer::Legacy(None)
}

/// Names of 2015 are kept as they are; only those cannot be that no table holds.
fn check_package(package: &PackageName) -> Result<()> {
    if item::can_be_package(package) { Ok(()) } else { package.check_new() }
}
