//! Setting up the two tables, and checking the ones that are there.
//!
//! A table that exists is never changed without `upgrade`; its key schema must be the one of 2015.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    PointInTimeRecoveryStatus, ScalarAttributeType, TableDescription, TableStatus,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::DynamoLedger;
use super::item::attribute;
use super::request::{Failure, Patience, send};
use crate::aws::Call;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::InitOptions;
use crate::model::Numbering;

/// Setting up takes at least this long before it gives up: AWS makes a table in 5 to 30 s, whatever deadline suits reads.
const SET_UP: Duration = Duration::from_mins(3);

/// The builders fail only when a required field was left out.
const COMPLETE: &str = "every required field is set right here";

/// What to do when setting up stopped half-way.
const FINISH: &str = "run 'sacker init --upgrade' to finish";

/// One table and its key.
pub(super) struct Table<'a> {
    pub(super) name: &'a str,
    range: &'static str,
    range_type: ScalarAttributeType,
}

impl Table<'_> {
    pub(super) fn place(&self) -> String {
        format!("table '{}'", self.name)
    }

    fn key_schema(&self) -> [KeySchemaElement; 2] {
        let part = |name: &str, key_type| {
            KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect(COMPLETE)
        };
        [part(attribute::PACKAGE, KeyType::Hash), part(self.range, KeyType::Range)]
    }

    fn definitions(&self) -> [AttributeDefinition; 2] {
        let part = |name: &str, of_type| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(of_type)
                .build()
                .expect(COMPLETE)
        };
        [part(attribute::PACKAGE, ScalarAttributeType::S), part(self.range, self.range_type.clone())]
    }

    /// # Errors
    /// `Invalid` when the key is another: the table belongs to something else.
    pub(super) fn check(&self, found: &TableDescription) -> Result<()> {
        let definitions = found.attribute_definitions();
        let type_of = |name: &str| {
            let definition = definitions.iter().find(|definition| definition.attribute_name() == name);
            definition.map_or("?", |definition| definition.attribute_type().as_str())
        };
        let shown = |schema: &[KeySchemaElement], type_of: &dyn Fn(&str) -> String| {
            let part = |part: &KeySchemaElement| {
                let name = part.attribute_name();
                format!("{name} ({}, {})", part.key_type().as_str(), type_of(name))
            };
            schema.iter().map(part).collect::<Vec<_>>().join(", ")
        };
        let own = self.definitions();
        let own_type = |name: &str| {
            let definition = own.iter().find(|definition| definition.attribute_name() == name);
            definition.map_or("?", |definition| definition.attribute_type().as_str()).to_owned()
        };
        let expected = shown(&self.key_schema(), &own_type);
        let there = shown(found.key_schema(), &|name| type_of(name).to_owned());
        if there == expected {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "table '{}' is no table of a sacker ledger: its key is {there}, it must be {expected}",
            self.name
        ))
        .with_hint("choose another prefix"))
    }
}

impl DynamoLedger {
    pub(super) fn tables(&self) -> [Table<'_>; 2] {
        [
            Table { name: &self.versions, range: attribute::VERSION, range_type: ScalarAttributeType::N },
            Table { name: &self.tags, range: attribute::TAG, range_type: ScalarAttributeType::S },
        ]
    }

    pub(super) async fn set_up(&self, options: &InitOptions) -> Result<Vec<String>> {
        if options.numbering == Some(Numbering::Timestamp) {
            return Err(Error::invalid("a DynamoDB ledger numbers its versions 1, 2, 3, ..."));
        }
        let mut patience = Patience::lasting(&self.connect, self.connect.deadline.max(SET_UP));
        let tables = self.tables();
        let mut found = Vec::new();
        // Look at both before anything is made: a foreign table must not leave half a ledger behind.
        for table in &tables {
            let description = self.describe(&patience, table).await?;
            if let Some(description) = &description {
                table.check(description)?;
            }
            found.push(description);
        }
        let mut done = Vec::new();
        let mut created = Vec::new();
        // Both are asked for before either is waited for.
        for (table, found) in tables.iter().zip(&found) {
            created.push(found.is_none() && self.create(&patience, table, options).await?);
        }
        for (table, created) in tables.iter().zip(created) {
            let mut description = self.wait_until_active(&mut patience, table).await?;
            table.check(&description)?;
            if created {
                done.push(format!("created table '{}'", table.name));
            } else if !options.upgrade {
                continue;
            } else if description.billing_mode_summary().and_then(|summary| summary.billing_mode())
                != Some(&BillingMode::PayPerRequest)
            {
                let update = self.client.update_table().billing_mode(BillingMode::PayPerRequest);
                self.update(&mut patience, table, update).await?;
                done.push(format!("table '{}' is billed on demand", table.name));
                description = self.wait_until_active(&mut patience, table).await?;
            }
            // A server without the feature leaves the field out.
            if let Some(protected) = description.deletion_protection_enabled()
                && protected != options.deletion_protection
            {
                let update =
                    self.client.update_table().deletion_protection_enabled(options.deletion_protection);
                self.update(&mut patience, table, update).await?;
                let state = if options.deletion_protection { "protected" } else { "no longer protected" };
                done.push(format!("table '{}' is {state} against deletion", table.name));
                self.wait_until_active(&mut patience, table).await?;
            }
            let backups = self.set_backups(&mut patience, table, options.point_in_time_recovery).await;
            done.extend(backups.map_err(|error| if created { to_be_finished(error) } else { error })?);
        }
        Ok(done)
    }

    /// What is wrong with the tables, in words.
    ///
    /// # Errors
    /// `NotFound(Backend)` when one is missing.
    pub(super) async fn wrong_tables(&self, patience: &Patience) -> Result<Option<String>> {
        for table in &self.tables() {
            let Some(found) = self.describe(patience, table).await? else {
                let missing = Missing::Backend(table.place());
                return Err(Error::new(Meaning::NotFound(missing), "look at the table")
                    .with_hint("create it with 'sacker init'"));
            };
            if let Err(error) = table.check(&found) {
                return Ok(Some(error.to_string()));
            }
        }
        Ok(None)
    }

    /// The table as it is; nothing if there is none.
    pub(super) async fn describe(
        &self,
        patience: &Patience,
        table: &Table<'_>,
    ) -> Result<Option<TableDescription>> {
        let place = table.place();
        let call = call("look at the table", "dynamodb:DescribeTable", &place);
        let request = self.client.describe_table().table_name(table.name).send();
        match send(patience, &call, request).await {
            Ok(answer) => Ok(answer.table),
            Err(failure) if code(&failure) == "ResourceNotFoundException" => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Asks for a table. False when somebody else made it meanwhile.
    async fn create(&self, patience: &Patience, table: &Table<'_>, options: &InitOptions) -> Result<bool> {
        let place = table.place();
        let call = call("create the table", "dynamodb:CreateTable", &place);
        let request = self
            .client
            .create_table()
            .table_name(table.name)
            .set_key_schema(Some(table.key_schema().to_vec()))
            .set_attribute_definitions(Some(table.definitions().to_vec()))
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(options.deletion_protection)
            .send();
        match send(patience, &call, request).await {
            Ok(_) => Ok(true),
            Err(failure) if code(&failure) == "ResourceInUseException" => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// # Errors
    /// `Unavailable` when the table is not ready until the deadline.
    async fn wait_until_active(
        &self,
        patience: &mut Patience,
        table: &Table<'_>,
    ) -> Result<TableDescription> {
        loop {
            if let Some(description) = self.describe(patience, table).await?
                && description.table_status() == Some(&TableStatus::Active)
            {
                return Ok(description);
            }
            if !patience.pause().await {
                return Err(Error::new(Meaning::Unavailable, "wait until the table is active")
                    .with_key(table.place())
                    .with_hint(FINISH));
            }
        }
    }

    async fn update(
        &self,
        patience: &mut Patience,
        table: &Table<'_>,
        update: aws_sdk_dynamodb::operation::update_table::builders::UpdateTableFluentBuilder,
    ) -> Result<()> {
        let place = table.place();
        let call = call("change the table", "dynamodb:UpdateTable", &place);
        send(patience, &call, update.table_name(table.name).send()).await?;
        Ok(())
    }

    /// Switches point-in-time recovery on or off where it is not so already. Returns a line if there is something to say.
    async fn set_backups(
        &self,
        patience: &mut Patience,
        table: &Table<'_>,
        wanted: bool,
    ) -> Result<Option<String>> {
        let place = table.place();
        let look = call("look at the backups", "dynamodb:DescribeContinuousBackups", &place);
        let request = self.client.describe_continuous_backups().table_name(table.name).send();
        let answer = match send(patience, &look, request).await {
            Ok(answer) => answer,
            Err(failure) if self.custom_endpoint && code(&failure) == "UnknownOperationException" => {
                let left_out = format!("{place} has no point-in-time recovery: this server does not know it");
                return Ok(wanted.then_some(left_out));
            }
            Err(failure) => return Err(failure.into()),
        };
        let status = answer
            .continuous_backups_description()
            .and_then(|description| description.point_in_time_recovery_description())
            .and_then(|description| description.point_in_time_recovery_status());
        if (status == Some(&PointInTimeRecoveryStatus::Enabled)) == wanted {
            return Ok(None);
        }
        let call = call("change the backups", "dynamodb:UpdateContinuousBackups", &place);
        loop {
            let specification = PointInTimeRecoverySpecification::builder()
                .point_in_time_recovery_enabled(wanted)
                .build()
                .expect(COMPLETE);
            let request = self
                .client
                .update_continuous_backups()
                .table_name(table.name)
                .point_in_time_recovery_specification(specification)
                .send();
            match send(patience, &call, request).await {
                Ok(_) => {
                    let state = if wanted { "has" } else { "no longer has" };
                    return Ok(Some(format!("{place} {state} point-in-time recovery")));
                }
                // A table that was just made is not ready for it yet.
                Err(failure)
                    if code(&failure) == "ContinuousBackupsUnavailableException"
                        && patience.pause().await => {}
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

pub(super) fn call<'a>(operation: &'static str, action: &'static str, place: &'a str) -> Call<'a> {
    Call { operation, action, place, key: place }
}

/// The error of a step after a table was created: a plain second run would find a table and change nothing about it.
fn to_be_finished(error: Error) -> Error {
    let hint = match error.hint() {
        Some(hint) => format!("{hint}, then {FINISH}"),
        None => FINISH.to_owned(),
    };
    error.with_hint(hint)
}

/// The service's code for a failure; empty when it did not answer.
pub(super) fn code<E: ProvideErrorMetadata>(failure: &Failure<E>) -> &str {
    failure.service.as_ref().and_then(|service| service.code()).unwrap_or_default()
}
