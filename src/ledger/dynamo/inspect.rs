//! How the two tables are set up: for `sacker doctor`. Changes nothing.

use aws_sdk_dynamodb::types::{
    BillingMode, PointInTimeRecoveryDescription, PointInTimeRecoveryStatus, ProvisionedThroughputDescription,
    TableDescription,
};

use super::DynamoLedger;
use super::request::{Patience, send};
use super::tables::{Table, call, code};
use crate::inspection::{Finding, Level};

const TABLES: &str = "tables";
const BILLING: &str = "table billing";
const BACKUPS: &str = "table backups";
const PROTECTION: &str = "table protection";

/// What makes a table as `init` would make it.
const UPGRADE: &str = "run: sacker init --upgrade";

/// One thing about one table: its text goes on from the table's name.
struct Seen {
    level: Level,
    check: &'static str,
    text: String,
    hint: Option<&'static str>,
}

impl Seen {
    fn fine(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Fine, check, text: text.into(), hint: None }
    }

    fn odd(check: &'static str, text: &str) -> Self {
        Self { level: Level::Odd, check, text: text.to_owned(), hint: Some(UPGRADE) }
    }
}

/// What is seen of a table, or why it is not.
type Look = Result<Seen, Finding>;

impl DynamoLedger {
    /// What there is to say about the tables: both in one line where it is the same of both.
    pub(super) async fn look_at_tables(&self) -> Vec<Finding> {
        let patience = self.patience();
        let [versions, tags] = self.tables();
        let (of_versions, of_tags) =
            tokio::join!(self.look_at_table(&patience, &versions), self.look_at_table(&patience, &tags));
        let of_versions = of_versions.into_iter().map(|look| (&versions, look));
        let of_tags = of_tags.into_iter().map(|look| (&tags, look));
        let mut findings: Vec<Finding> = Vec::new();
        let mut seen: Vec<(Seen, Vec<&str>)> = Vec::new();
        for (table, look) in of_versions.chain(of_tags) {
            match look {
                Err(finding) => findings.push(finding),
                Ok(new) => {
                    let same =
                        seen.iter_mut().find(|(old, _)| (old.check, &old.text) == (new.check, &new.text));
                    match same {
                        Some((_, names)) => names.push(table.name),
                        None => seen.push((new, vec![table.name])),
                    }
                }
            }
        }
        findings.extend(seen.into_iter().map(|(seen, names)| finding(&seen, &names)));
        // In the order of the checks, whichever table they are of.
        findings.sort_by_key(|finding| {
            [TABLES, BILLING, BACKUPS, PROTECTION].iter().position(|check| *check == finding.check)
        });
        findings
    }

    async fn look_at_table(&self, patience: &Patience, table: &Table<'_>) -> Vec<Look> {
        let backups = self.look_at_backups(patience, table);
        let (description, backups) = tokio::join!(self.describe(patience, table), backups);
        let description = match description {
            Ok(Some(description)) => description,
            Ok(None) => return vec![Err(missing(table))],
            Err(error) => return vec![Err(Finding::unknown(TABLES, &error)), backups],
        };
        let mut looks = vec![match table.check(&description) {
            Ok(()) => Ok(Seen::fine(TABLES, "there, with the keys of a ledger")),
            Err(error) => Err(Finding { level: Level::Wrong, ..Finding::unknown(TABLES, &error) }),
        }];
        looks.push(Ok(billing(&description)));
        looks.push(backups);
        looks.push(Ok(match description.deletion_protection_enabled() {
            Some(true) => Seen::fine(PROTECTION, "protected against deletion"),
            Some(false) => Seen::odd(PROTECTION, "not protected against deletion"),
            None => Seen::fine(PROTECTION, "not told by this server"),
        }));
        looks
    }

    async fn look_at_backups(&self, patience: &Patience, table: &Table<'_>) -> Look {
        let place = table.place();
        let call = call("look at the backups", "dynamodb:DescribeContinuousBackups", &place);
        let request = self.client.describe_continuous_backups().table_name(table.name).send();
        let answer = match send(patience, &call, request).await {
            Ok(answer) => answer,
            Err(failure) if code(&failure) == "UnknownOperationException" => {
                return Ok(Seen::fine(BACKUPS, "not told by this server"));
            }
            Err(failure) => return Err(Finding::unknown(BACKUPS, &failure.error)),
        };
        let found = answer
            .continuous_backups_description()
            .and_then(|description| description.point_in_time_recovery_description());
        let is_on = found.and_then(|found| found.point_in_time_recovery_status())
            == Some(&PointInTimeRecoveryStatus::Enabled);
        Ok(match found.and_then(PointInTimeRecoveryDescription::recovery_period_in_days) {
            _ if !is_on => Seen::odd(BACKUPS, "without point-in-time recovery"),
            Some(days) => {
                Seen::fine(BACKUPS, format!("can be put back to any second of the last {days} days"))
            }
            None => Seen::fine(BACKUPS, "with point-in-time recovery"),
        })
    }
}

fn missing(table: &Table<'_>) -> Finding {
    Finding::wrong(TABLES, format!("{} does not exist", table.place()))
        .with_hint("create it with 'sacker init'")
}

/// A table that was always provisioned has no summary.
fn billing(description: &TableDescription) -> Seen {
    let mode = description.billing_mode_summary().and_then(|summary| summary.billing_mode());
    if mode == Some(&BillingMode::PayPerRequest) {
        return Seen::fine(BILLING, "billed on demand");
    }
    let units = description.provisioned_throughput();
    let reads = units.and_then(ProvisionedThroughputDescription::read_capacity_units).unwrap_or_default();
    let writes = units.and_then(ProvisionedThroughputDescription::write_capacity_units).unwrap_or_default();
    let text = format!("provisioned: {reads} read and {writes} write units a second");
    // Who provisions has a reason to: this is told, and not a warning.
    Seen {
        hint: Some(
            "a poll reads the rows of every package at once; on demand needs no plan: sacker init --upgrade",
        ),
        ..Seen::fine(BILLING, text)
    }
}

fn finding(seen: &Seen, names: &[&str]) -> Finding {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let noun = if names.len() == 1 { "table" } else { "tables" };
    let text = format!("{noun} {}: {}", names.join(" and "), seen.text);
    Finding { level: seen.level, check: seen.check, text, hint: seen.hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::BillingModeSummary;

    use super::*;

    #[test]
    fn billing_is_told_with_its_units() {
        let on_demand = BillingModeSummary::builder().billing_mode(BillingMode::PayPerRequest).build();
        let description = TableDescription::builder().billing_mode_summary(on_demand).build();
        assert_eq!(billing(&description).text, "billed on demand");
        let units =
            ProvisionedThroughputDescription::builder().read_capacity_units(5).write_capacity_units(2);
        let description = TableDescription::builder().provisioned_throughput(units.build()).build();
        let found = finding(&billing(&description), &["a", "a-tags"]);
        assert_eq!(found.text, "tables 'a' and 'a-tags': provisioned: 5 read and 2 write units a second");
        assert!(found.hint.is_some_and(|hint| hint.ends_with("sacker init --upgrade")));
    }
}
