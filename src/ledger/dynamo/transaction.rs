//! The one transaction that changes a tag: the version exists, the tag's row is as it was seen, the event is new.
//!
//! The history row is what settles every doubt: an event's number is taken once and for good, so whoever's event stands
//! there won.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};

use super::DynamoLedger;
use super::consumed::TOTAL;
use super::item::{self, Item, attribute, number, row_name, text};
use super::request::{Patience, send_counted, single_attempt};
use crate::aws::Call;
use crate::crash_point::around;
use crate::error::{Error, Meaning, Result};
use crate::model::{Event, PackageName, Sha256, TagName, Version};

const OPERATION: &str = "change the tag";

/// The builders fail only when a required field was left out.
pub(super) const COMPLETE: &str = "every required field is set right here";

const RETURN_OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// What the tag's row must still be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// There is none.
    Absent,
    /// It has the event with this number.
    Event(u64),
    /// A 2015 client wrote it, with this `version`.
    Legacy(Option<AttributeValue>),
}

/// A change that was decided.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) package: &'a PackageName,
    pub(super) tag: &'a TagName,
    /// The version that must exist.
    pub(super) target: Option<Version>,
    pub(super) seen: &'a Seen,
    pub(super) event: &'a Event,
    /// At most 36 characters; the service carries out one transaction per token within 10 minutes.
    pub(super) token: &'a str,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Committed,
    /// The tag changed meanwhile.
    Raced,
    /// The version was never added.
    NoTarget,
    /// The version was removed.
    RemovedTarget,
    /// The token belongs to another transaction: this change may have been carried out before.
    TokenUsed,
}

impl DynamoLedger {
    /// Carries out a change. Repeats it while its outcome is not known.
    ///
    /// # Errors
    /// `Unavailable` with the event's id if that cannot be settled until the deadline.
    pub(super) async fn commit(&self, patience: &mut Patience, commit: &Commit<'_>) -> Result<Verdict> {
        let key = row_name(&self.tags, &item::tag_key(commit.package, commit.tag));
        // The tags table was read a moment ago; what can be missing now is the other one.
        let place = format!("table '{}'", if commit.target.is_some() { &self.versions } else { &self.tags });
        let action = "dynamodb:PutItem, UpdateItem, DeleteItem and ConditionCheckItem";
        let call = Call { operation: OPERATION, action, place: &place, key: &key };
        let actions = self.actions(commit);
        let mut in_doubt = false;
        loop {
            let request = self
                .client
                .transact_write_items()
                .return_consumed_capacity(TOTAL)
                .set_transact_items(Some(actions.clone()))
                .client_request_token(commit.token)
                .customize()
                .config_override(single_attempt())
                .send();
            let sent = around("dynamo.tag", send_counted(patience, &call, request)).await;
            let Err(failure) = sent else {
                return Ok(Verdict::Committed);
            };
            let error = match failure.service.as_deref() {
                Some(TransactWriteItemsError::IdempotentParameterMismatchException(_)) => {
                    return Ok(Verdict::TokenUsed);
                }
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    match read_reasons(cancelled.cancellation_reasons(), commit) {
                        Reading::Settled(verdict) => return Ok(verdict),
                        Reading::Busy => Error::new(Meaning::Throttled, OPERATION).with_key(key.as_str()),
                        Reading::Broken(why) => {
                            Error::new(Meaning::Other, OPERATION).with_key(key.as_str()).with_source(why)
                        }
                    }
                }
                _ => failure.error,
            };
            if error.is_transient() {
                in_doubt = true;
                if patience.pause().await {
                    continue;
                }
                return Err(error.in_doubt(&commit.event.id));
            }
            if in_doubt {
                // The next attempt failed for good: see what became of the one before. Where nothing is, it may still come.
                let Commit { package, tag, event, .. } = commit;
                return match self.event_at(patience, package, tag, event.seq).await {
                    Ok(Some(there)) if there.id == event.id => Ok(Verdict::Committed),
                    // The number went to somebody else for good.
                    Ok(Some(_)) => Err(error),
                    Ok(None) | Err(_) => Err(error.in_doubt(&event.id)),
                };
            }
            return Err(error);
        }
    }

    /// The actions of the transaction: the version if one must exist, the tag's row, the event. [`read_reasons`] goes by
    /// this order.
    fn actions(&self, commit: &Commit<'_>) -> Vec<TransactWriteItem> {
        let Commit { package, tag, target, seen, event, .. } = commit;
        let mut actions = Vec::new();
        if let Some(version) = target {
            let update = Update::builder()
                .table_name(&self.versions)
                .set_key(Some(item::version_key(package, *version)))
                .update_expression("ADD #tag_rev :one")
                .condition_expression("attribute_exists(#sha) AND #sha <> :removed")
                .expression_attribute_names("#tag_rev", attribute::TAG_REV)
                .expression_attribute_names("#sha", attribute::SHA)
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":removed", text(Sha256::ZERO.to_string()))
                .return_values_on_condition_check_failure(RETURN_OLD)
                .build()
                .expect(COMPLETE);
            actions.push(TransactWriteItem::builder().update(update).build());
        }
        actions.push(self.row_action(package, tag, seen, event));
        let archive = Put::builder()
            .table_name(&self.tags)
            .set_item(Some(item::encode_event(package, tag, event)))
            .condition_expression("attribute_not_exists(#package)")
            .expression_attribute_names("#package", attribute::PACKAGE)
            .return_values_on_condition_check_failure(RETURN_OLD)
            .build()
            .expect(COMPLETE);
        actions.push(TransactWriteItem::builder().put(archive).build());
        actions
    }

    /// What happens to the tag's row: it is replaced, deleted, or must stay absent.
    fn row_action(
        &self,
        package: &PackageName,
        tag: &TagName,
        seen: &Seen,
        event: &Event,
    ) -> TransactWriteItem {
        let (condition, names, values) = condition(seen);
        let (names, values) = (Some(names), (!values.is_empty()).then_some(values));
        let action = TransactWriteItem::builder();
        match (event.to, seen) {
            (Some(version), _) => {
                let put = Put::builder()
                    .table_name(&self.tags)
                    .set_item(Some(item::encode_tag(package, tag, version, event)))
                    .condition_expression(condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.put(put.build().expect(COMPLETE)).build()
            }
            (None, Seen::Absent) => {
                let check = ConditionCheck::builder()
                    .table_name(&self.tags)
                    .set_key(Some(item::tag_key(package, tag)))
                    .condition_expression(condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.condition_check(check.build().expect(COMPLETE)).build()
            }
            (None, _) => {
                let delete = Delete::builder()
                    .table_name(&self.tags)
                    .set_key(Some(item::tag_key(package, tag)))
                    .condition_expression(condition)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.delete(delete.build().expect(COMPLETE)).build()
            }
        }
    }
}

pub(super) type Names = std::collections::HashMap<String, String>;

/// The condition on the tag's row.
pub(super) fn condition(seen: &Seen) -> (&'static str, Names, Item) {
    let names = |pairs: &[(&str, &str)]| -> Names {
        pairs.iter().map(|(short, name)| ((*short).to_owned(), (*name).to_owned())).collect()
    };
    let value = |value| Item::from([(":seen".to_owned(), value)]);
    let package = ("#package", attribute::PACKAGE);
    let (version, seq) = (("#version", attribute::VERSION), ("#seq", attribute::SEQ));
    match seen {
        Seen::Absent => ("attribute_not_exists(#package)", names(&[package]), Item::new()),
        Seen::Event(number_seen) => ("#seq = :seen", names(&[seq]), value(number(number_seen))),
        // A 2015 client replaces the whole row, so ours is told from its own by `seq`.
        Seen::Legacy(Some(raw)) => {
            let condition = "#version = :seen AND attribute_not_exists(#seq)";
            (condition, names(&[version, seq]), value(raw.clone()))
        }
        Seen::Legacy(None) => {
            let condition = "attribute_exists(#package) AND attribute_not_exists(#version) AND attribute_not_exists(#seq)";
            (condition, names(&[package, version, seq]), Item::new())
        }
    }
}

/// What the reasons of a cancelled transaction come to.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Settled(Verdict),
    /// Nothing was decided: the same transaction may succeed later.
    Busy,
    /// It can never succeed.
    Broken(String),
}

fn read_reasons(reasons: &[CancellationReason], commit: &Commit<'_>) -> Reading {
    let code = |position: usize| reasons.get(position).and_then(CancellationReason::code).unwrap_or("None");
    let failed = |position: usize| code(position) == "ConditionalCheckFailed";
    let row = usize::from(commit.target.is_some());
    let event = row + 1;
    if failed(event) {
        // An attempt whose reply was lost finds its own event here.
        let there = reasons[event].item().and_then(|item| item::decode_event("", item).ok());
        let own = there.is_some_and(|there| there.id == commit.event.id);
        return Reading::Settled(if own { Verdict::Committed } else { Verdict::Raced });
    }
    if failed(row) {
        return Reading::Settled(Verdict::Raced);
    }
    if row == 1 && failed(0) {
        let removed = reasons[0].item().is_some_and(|item| !item.is_empty());
        return Reading::Settled(if removed { Verdict::RemovedTarget } else { Verdict::NoTarget });
    }
    let busy = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    match reasons.iter().find(|reason| reason.code().is_some_and(|code| code != "None")) {
        Some(reason) if !busy.contains(&reason.code().unwrap_or_default()) => {
            let message = reason.message().unwrap_or("no reason given");
            Reading::Broken(format!("{}: {message}", reason.code().unwrap_or_default()))
        }
        // No reason at all: whatever it was, looking again is safe.
        _ => Reading::Busy,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::adopt_legacy;

    fn reason(code: &str, item: Option<Item>) -> CancellationReason {
        CancellationReason::builder().code(code).set_item(item).message("why").build()
    }

    #[test]
    fn reasons_are_read_by_their_place() {
        let (package, tag) = (PackageName::existing("frontend"), TagName::existing("live"));
        let event = |id: &str| adopt_legacy(None, Version::new(1), Timestamp::UNIX_EPOCH, id.to_owned());
        let (own, other) = (event("own"), event("other"));
        let archived = |event: &Event| Some(item::encode_event(&package, &tag, event));
        let commit = |target| Commit {
            package: &package,
            tag: &tag,
            target,
            seen: &Seen::Absent,
            event: &own,
            token: "token",
        };
        let version_row = Some(item::version_key(&package, Version::FIRST));
        let (ok, failed, busy) = ("None", "ConditionalCheckFailed", "TransactionConflict");
        let settled = Reading::Settled;
        for (reasons, expected) in [
            ([(ok, None), (ok, None), (failed, archived(&own))], settled(Verdict::Committed)),
            ([(failed, None), (failed, None), (failed, archived(&own))], settled(Verdict::Committed)),
            ([(ok, None), (failed, None), (failed, archived(&other))], settled(Verdict::Raced)),
            ([(ok, None), (ok, None), (failed, None)], settled(Verdict::Raced)),
            ([(failed, None), (failed, None), (ok, None)], settled(Verdict::Raced)),
            ([(failed, None), (ok, None), (ok, None)], settled(Verdict::NoTarget)),
            ([(failed, version_row), (ok, None), (ok, None)], settled(Verdict::RemovedTarget)),
            ([(busy, None), (ok, None), (ok, None)], Reading::Busy),
            ([(ok, None), ("ThrottlingError", None), (ok, None)], Reading::Busy),
            ([(ok, None), (ok, None), ("ProvisionedThroughputExceeded", None)], Reading::Busy),
            ([(ok, None), (busy, None), (failed, archived(&other))], settled(Verdict::Raced)),
            (
                [(ok, None), ("ValidationError", None), (ok, None)],
                Reading::Broken("ValidationError: why".into()),
            ),
        ] {
            let shown = format!("{reasons:?}");
            let reasons: Vec<_> = reasons.into_iter().map(|(code, item)| reason(code, item)).collect();
            assert_eq!(read_reasons(&reasons, &commit(Some(Version::FIRST))), expected, "{shown}");
        }
        // Without a version to check, the row comes first.
        let reasons = [reason(failed, None), reason(ok, None)];
        assert_eq!(read_reasons(&reasons, &commit(None)), settled(Verdict::Raced));
        let reasons = [reason(ok, None), reason(failed, archived(&own))];
        assert_eq!(read_reasons(&reasons, &commit(None)), settled(Verdict::Committed));
        assert_eq!(read_reasons(&[], &commit(None)), Reading::Busy);
    }
}
