//! Reads: versions, tags and histories, always consistent, over as many pages as there are.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::DynamoLedger;
use super::consumed::TOTAL;
use super::item::{self, Item, TagRow, attribute, row_name, text};
use super::request::{Patience, send_counted};
use crate::aws::Call;
use crate::error::{Error, Missing, Result};
use crate::ledger::Newest;
use crate::model::{Event, PackageName, TagName, TagState, Version, VersionRecord};

/// One Query: which rows, and in which order.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    operation: &'static str,
    table: &'a str,
    partition: String,
    /// The name of the range key with its first and last value.
    range: Option<(&'static str, AttributeValue, AttributeValue)>,
    newest_first: bool,
    /// Rows per page; without it, as many as fit into 1 MB.
    page: Option<usize>,
}

impl<'a> Rows<'a> {
    /// All versions of a package, oldest first.
    pub(super) fn versions(ledger: &'a DynamoLedger, package: &PackageName) -> Self {
        Self {
            operation: "read the versions",
            table: &ledger.versions,
            partition: package.as_str().to_owned(),
            range: None,
            newest_first: false,
            page: None,
        }
    }

    /// All tags of a package, by name.
    fn tags(ledger: &'a DynamoLedger, package: &PackageName) -> Self {
        Self { operation: "read the tags", table: &ledger.tags, ..Self::versions(ledger, package) }
    }

    /// All events of a tag, oldest first.
    pub(super) fn events(ledger: &'a DynamoLedger, package: &PackageName, tag: &TagName) -> Self {
        let (first, last) = item::history_bounds(tag);
        Self {
            operation: "read the history",
            table: &ledger.tags,
            partition: item::history_partition(package),
            range: Some((attribute::TAG, text(first), text(last))),
            newest_first: false,
            page: None,
        }
    }

    /// All events of all tags of a package.
    fn histories(ledger: &'a DynamoLedger, package: &PackageName) -> Self {
        Self {
            operation: "read the history",
            partition: item::history_partition(package),
            ..Self::tags(ledger, package)
        }
    }

    pub(super) fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    pub(super) fn by(mut self, rows: usize) -> Self {
        self.page = Some(rows);
        self
    }
}

/// Where the next page begins; nothing after the last one.
pub(super) type Next = Option<HashMap<String, AttributeValue>>;

impl DynamoLedger {
    /// Whether both tables can be read: a look at rows that no package has.
    pub(super) async fn check_readable(&self, patience: &Patience) -> Result<()> {
        let nobody = PackageName::existing("_sacker");
        for rows in [Rows::versions(self, &nobody), Rows::tags(self, &nobody)] {
            self.page(patience, &rows.by(1), None).await?;
        }
        Ok(())
    }

    /// One page of rows.
    pub(super) async fn page(
        &self,
        patience: &Patience,
        rows: &Rows<'_>,
        start: Next,
    ) -> Result<(Vec<Item>, Next)> {
        let mut condition = "#package = :package".to_owned();
        let mut query = self
            .client
            .query()
            .table_name(rows.table)
            .return_consumed_capacity(TOTAL)
            .consistent_read(true)
            .scan_index_forward(!rows.newest_first)
            .set_limit(rows.page.map(|page| i32::try_from(page).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(start)
            .expression_attribute_names("#package", attribute::PACKAGE)
            .expression_attribute_values(":package", text(rows.partition.as_str()));
        if let Some((name, first, last)) = &rows.range {
            condition.push_str(" AND #range BETWEEN :first AND :last");
            query = query
                .expression_attribute_names("#range", *name)
                .expression_attribute_values(":first", first.clone())
                .expression_attribute_values(":last", last.clone());
        }
        let call = Call {
            operation: rows.operation,
            action: "dynamodb:Query",
            place: &format!("table '{}'", rows.table),
            key: &format!("table '{}', '{}'", rows.table, rows.partition.escape_debug()),
        };
        let answer = send_counted(patience, &call, query.key_condition_expression(condition).send()).await?;
        // An empty key means the end as an absent one does.
        let next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok((answer.items.unwrap_or_default(), next))
    }

    /// All rows, over all pages, each as `decode` reads it.
    async fn all<T>(&self, rows: &Rows<'_>, decode: impl Fn(&Item) -> Result<T>) -> Result<Vec<T>> {
        let patience = self.patience();
        let mut all = Vec::new();
        let mut start = None;
        loop {
            let (items, next) = self.page(&patience, rows, start).await?;
            for item in &items {
                all.push(decode(item)?);
            }
            if next.is_none() {
                return Ok(all);
            }
            start = next;
        }
    }

    /// One row of either table.
    async fn get(
        &self,
        patience: &Patience,
        operation: &'static str,
        table: &str,
        key: Item,
    ) -> Result<Option<Item>> {
        let call = Call {
            operation,
            action: "dynamodb:GetItem",
            place: &format!("table '{table}'"),
            key: &row_name(table, &key),
        };
        let request = self.client.get_item().table_name(table).consistent_read(true).set_key(Some(key));
        let request = request.return_consumed_capacity(TOTAL).send();
        Ok(send_counted(patience, &call, request).await?.item)
    }

    /// The row of a version, removed or not; nothing if it was never added.
    pub(super) async fn version_item(
        &self,
        patience: &Patience,
        package: &PackageName,
        version: Version,
    ) -> Result<Option<Item>> {
        if !item::can_be_package(package) {
            return Ok(None);
        }
        let key = item::version_key(package, version);
        self.get(patience, "read the version", &self.versions, key).await
    }

    pub(super) async fn live_version(
        &self,
        patience: &Patience,
        package: &PackageName,
        version: Version,
    ) -> Result<VersionRecord> {
        let Some(item) = self.version_item(patience, package, version).await? else {
            return Err(Error::not_found(Missing::Version(package.clone(), version)));
        };
        let record = item::decode_version(&self.versions, &item)?;
        if record.is_removed() {
            return Err(Error::not_found(Missing::Removed(package.clone(), version)));
        }
        Ok(record)
    }

    /// Whether the package has any version, removed ones included.
    pub(super) async fn has_versions(&self, patience: &Patience, package: &PackageName) -> Result<bool> {
        if !item::can_be_package(package) {
            return Ok(false);
        }
        let (items, _) = self.page(patience, &Rows::versions(self, package).by(1), None).await?;
        Ok(!items.is_empty())
    }

    pub(super) async fn all_versions(&self, package: &PackageName) -> Result<Vec<VersionRecord>> {
        let none = || Error::not_found(Missing::Package(package.clone()));
        if !item::can_be_package(package) {
            return Err(none());
        }
        let decode = |item: &Item| item::decode_version(&self.versions, item);
        let records = self.all(&Rows::versions(self, package), decode).await?;
        if records.is_empty() { Err(none()) } else { Ok(records) }
    }

    pub(super) async fn newest_versions(&self, package: &PackageName, count: usize) -> Result<Newest> {
        let none = || Error::not_found(Missing::Package(package.clone()));
        if !item::can_be_package(package) {
            return Err(none());
        }
        let patience = self.patience();
        let rows = Rows::versions(self, package).newest_first().by(count.max(1));
        let mut newest = Newest::default();
        let mut start = None;
        loop {
            let (items, next) = self.page(&patience, &rows, start).await?;
            if let (0, Some(first)) = (newest.version_count, items.first()) {
                // Numbers have no gap and are never given up, so the highest is the count.
                newest.version_count = item::decode_version_key(&self.versions, first)?.get().unsigned_abs();
            }
            for item in &items {
                if newest.records.len() < count {
                    let record = item::decode_version(&self.versions, item)?;
                    newest.records.extend((!record.is_removed()).then_some(record));
                }
            }
            if newest.records.len() >= count || next.is_none() {
                break;
            }
            start = next;
        }
        if newest.version_count == 0 { Err(none()) } else { Ok(newest) }
    }

    /// The tags of a package that may not exist.
    pub(super) async fn tags_of(&self, package: &PackageName) -> Result<Vec<TagState>> {
        if !item::can_be_package(package) {
            return Ok(Vec::new());
        }
        let decode = |item: &Item| item::decode_tag(&self.tags, item).map(|row| row.state);
        let mut tags: Vec<TagState> = self.all(&Rows::tags(self, package), decode).await?;
        // A 2015 client may have written a row of that name; it means nothing, there or here.
        tags.retain(|state| state.tag.check_stored().is_ok());
        Ok(tags)
    }

    pub(super) async fn all_tags(&self, package: &PackageName) -> Result<Vec<TagState>> {
        let tags = self.tags_of(package).await?;
        // An empty answer is only right for a package that exists.
        if tags.is_empty() && !self.has_versions(&self.patience(), package).await? {
            return Err(Error::not_found(Missing::Package(package.clone())));
        }
        Ok(tags)
    }

    /// Reads the rows of all events: there is no other list of the tags that were removed.
    pub(super) async fn all_tags_ever(&self, package: &PackageName) -> Result<Vec<TagName>> {
        let set = self.all_tags(package).await?;
        let decode = |item: &Item| Ok(item::tag_of_history(item));
        let had = if item::can_have_histories(package) {
            self.all(&Rows::histories(self, package), decode).await?
        } else {
            Vec::new()
        };
        let names: BTreeSet<TagName> =
            had.into_iter().flatten().chain(set.into_iter().map(|state| state.tag)).collect();
        Ok(names.into_iter().collect())
    }

    /// A tag's row; nothing if the tag is not set.
    pub(super) async fn tag_row(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
    ) -> Result<Option<TagRow>> {
        let key = item::tag_key(package, tag);
        let item = self.get(patience, "read the tag", &self.tags, key).await?;
        item.map(|item| item::decode_tag(&self.tags, &item)).transpose()
    }

    /// The row of a tag or, where there is none, its newest events, newest first.
    ///
    /// The two reads are no snapshot: a tag that is set between them has an event with a version and no row. A row is
    /// only taken for deleted by a 2015 client when that event is still the newest after the row was missed once more.
    pub(super) async fn row_or_events(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        count: usize,
    ) -> Result<(Option<TagRow>, Vec<Event>)> {
        let mut missed: Option<String> = None;
        loop {
            if let Some(row) = self.tag_row(patience, package, tag).await? {
                return Ok((Some(row), Vec::new()));
            }
            let events = self.newest_events(patience, package, tag, count).await?;
            match events.first() {
                Some(event) if event.to.is_some() && missed.as_ref() != Some(&event.id) => {
                    missed = Some(event.id.clone());
                }
                _ => return Ok((None, events)),
            }
        }
    }

    pub(super) async fn one_tag(&self, package: &PackageName, tag: &TagName) -> Result<Option<TagState>> {
        if !item::can_be_package(package) || !item::can_be_tag(tag) {
            return Ok(None);
        }
        let patience = self.patience();
        let (row, events) = self.row_or_events(&patience, package, tag, 1).await?;
        if let Some(row) = row {
            return Ok(Some(row.state));
        }
        let last = events.into_iter().next();
        Ok(last.map(|event| {
            // A history that ends with a version belongs to a row that a 2015 client deleted since.
            let event = event.to.is_none().then_some(event);
            TagState { tag: tag.clone(), version: None, event }
        }))
    }

    /// The last events of a tag, newest first: at most `count`, and no more than fit into one page.
    pub(super) async fn newest_events(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        count: usize,
    ) -> Result<Vec<Event>> {
        if !item::can_have_history(package, tag) {
            return Ok(Vec::new());
        }
        let rows = Rows::events(self, package, tag).newest_first().by(count);
        let (items, _) = self.page(patience, &rows, None).await?;
        items.iter().map(|item| item::decode_event(&self.tags, item)).collect()
    }

    /// The event with this number; nothing if there is none.
    pub(super) async fn event_at(
        &self,
        patience: &Patience,
        package: &PackageName,
        tag: &TagName,
        seq: u64,
    ) -> Result<Option<Event>> {
        let key = item::event_key(package, tag, seq);
        let item = self.get(patience, "read the history", &self.tags, key).await?;
        item.map(|item| item::decode_event(&self.tags, &item)).transpose()
    }

    pub(super) async fn all_events(&self, package: &PackageName, tag: &TagName) -> Result<Vec<Event>> {
        let none = || Error::not_found(Missing::Tag(package.clone(), tag.clone()));
        if !item::can_be_package(package) || !item::can_be_tag(tag) {
            return Err(none());
        }
        let decode = |item: &Item| item::decode_event(&self.tags, item);
        let events = if item::can_have_history(package, tag) {
            self.all(&Rows::events(self, package, tag), decode).await?
        } else {
            Vec::new()
        };
        // A tag that only 2015 clients wrote has no event yet.
        if events.is_empty() && self.tag_row(&self.patience(), package, tag).await?.is_none() {
            return Err(none());
        }
        Ok(events)
    }
}
