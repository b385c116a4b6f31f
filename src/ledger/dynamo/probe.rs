//! Probing the tables: conditional writes and one transaction on rows of a partition that no client takes for a package,
//! and what the tables are like. The rows are removed afterwards.

use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::future::join_all;

use super::DynamoLedger;
use super::item::{Item, attribute};
use super::request::{Failure, Patience, send, single_attempt};
use crate::aws::Call;
use crate::error::Result;
use crate::ledger::probe::{Check, Tally, finding};
use crate::ledger::{ProbeOptions, ProbeReport};

/// The partition of probes. Packages that begin with `sacker:` do not exist for any client.
const PARTITION: &str = "sacker:probe";

/// The attribute that says which of the racers wrote a row.
const RACER: &str = "racer";

/// DynamoDB's conditions are its maker's promise; a few rounds tell whether this is DynamoDB.
const ROUNDS: u32 = 5;

const COMPLETE: &str = "every required field is set right here";

/// What one write came to.
enum Answer {
    Written,
    Refused,
    Odd(String),
}

impl Answer {
    fn unless(&self, written: bool) -> Option<String> {
        match self {
            Self::Written if written => None,
            Self::Refused if !written => None,
            Self::Written => Some("it was written".to_owned()),
            Self::Refused => Some("it was refused".to_owned()),
            Self::Odd(words) => Some(words.clone()),
        }
    }
}

fn answer<T, E: ProvideErrorMetadata>(outcome: Result<T, Failure<E>>) -> Result<Answer> {
    match outcome {
        Ok(_) => Ok(Answer::Written),
        Err(failure) => match failure.service.as_ref().and_then(|service| service.code()) {
            Some("ConditionalCheckFailedException" | "TransactionCanceledException") => Ok(Answer::Refused),
            _ => finding(failure.error).map(Answer::Odd),
        },
    }
}

impl DynamoLedger {
    pub(super) async fn run_probe(&self, options: &ProbeOptions) -> Result<ProbeReport> {
        let mut patience = self.patience();
        let mut checks = vec![Check::new("keys of the tables", self.wrong_tables(&patience).await?)];
        // Numbers of the probe's own, so that two probes do not meet: version numbers of no row of another.
        let first = fastrand::i64(1_000_000_000..2_000_000_000) * 1000;
        let rounds = i64::from(options.rounds.min(ROUNDS));
        let outcome = self.probe_rows(&mut patience, first, rounds, options.racers, &mut checks).await;
        for number in first..=first + rounds + 1 {
            self.remove_row(&self.patience(), number).await;
        }
        outcome.map(|()| ProbeReport { checks })
    }

    async fn probe_rows(
        &self,
        patience: &mut Patience,
        first: i64,
        rounds: i64,
        racers: u32,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let created = self.create_probe_row(patience, first, 0).await?;
        checks.push(Check::new("create a new row", created.unless(true)));
        let again = self.create_probe_row(patience, first, 1).await?;
        checks.push(Check::new("create an existing row is refused", again.unless(false)));
        let refused = self.create_two(patience, first + 1, first).await?;
        let alone = self.create_probe_row(patience, first + 1, 0).await?;
        let broken =
            refused.unless(false).or_else(|| alone.unless(true).map(|_| "half of it was written".to_owned()));
        checks.push(Check::new("a transaction is refused as a whole", broken));
        let mut tally = Tally::default();
        for number in (first..).skip(2).take(usize::try_from(rounds).unwrap_or(0)) {
            let racing = (0..racers).map(|racer| self.create_probe_row(patience, number, racer));
            let mut winners = 0;
            for answer in join_all(racing).await {
                winners += usize::from(matches!(answer?, Answer::Written));
            }
            tally.round(winners, racers);
        }
        checks.push(Check::new("parallel creates of one row", tally.broken()));
        Ok(())
    }

    fn row(number: i64, racer: u32) -> Item {
        Item::from([
            (attribute::PACKAGE.to_owned(), AttributeValue::S(PARTITION.to_owned())),
            (attribute::VERSION.to_owned(), AttributeValue::N(number.to_string())),
            (RACER.to_owned(), AttributeValue::N(racer.to_string())),
        ])
    }

    async fn create_probe_row(&self, patience: &Patience, number: i64, racer: u32) -> Result<Answer> {
        let request = self
            .client
            .put_item()
            .table_name(&self.versions)
            .set_item(Some(Self::row(number, racer)))
            .condition_expression("attribute_not_exists(package_name)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None);
        let request = request.customize().config_override(single_attempt()).send();
        answer(send(patience, &self.probe_call("dynamodb:PutItem"), request).await)
    }

    /// Creates a row in the tags table and one in the main table that is there already.
    async fn create_two(&self, patience: &Patience, new: i64, there: i64) -> Result<Answer> {
        let put = |number| {
            let put = Put::builder()
                .table_name(&self.versions)
                .set_item(Some(Self::row(number, 0)))
                .condition_expression("attribute_not_exists(package_name)");
            TransactWriteItem::builder().put(put.build().expect(COMPLETE)).build()
        };
        let tag = Delete::builder()
            .table_name(&self.tags)
            .key(attribute::PACKAGE, AttributeValue::S(PARTITION.to_owned()))
            .key(attribute::TAG, AttributeValue::S(new.to_string()));
        let tag = TransactWriteItem::builder().delete(tag.build().expect(COMPLETE)).build();
        let request = self
            .client
            .transact_write_items()
            .transact_items(put(new))
            .transact_items(put(there))
            .transact_items(tag);
        let request = request.customize().config_override(single_attempt()).send();
        answer(send(patience, &self.probe_call("dynamodb:PutItem"), request).await)
    }

    /// Best effort: a row that stays is no package to anybody.
    async fn remove_row(&self, patience: &Patience, number: i64) {
        let request = self
            .client
            .delete_item()
            .table_name(&self.versions)
            .key(attribute::PACKAGE, AttributeValue::S(PARTITION.to_owned()))
            .key(attribute::VERSION, AttributeValue::N(number.to_string()));
        let removed = send(patience, &self.probe_call("dynamodb:DeleteItem"), request.send()).await;
        if let Err(failure) = removed {
            tracing::debug!(error = %failure.error, "a row of a probe was not removed");
        }
    }

    fn probe_call(&self, action: &'static str) -> Call<'_> {
        Call { operation: "probe the tables", action, place: &self.versions, key: &self.versions }
    }
}
