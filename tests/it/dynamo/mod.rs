//! What is special to the DynamoDB ledger: the tables, 2015 clients beside us, lost replies, races, pages.

mod legacy;
mod load;
mod lost;
mod races;
mod tables;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use sacker::connect::Connect;
use sacker::ledger::{self, InitOptions, Ledger};
use sacker::model::{
    Actor, Change, EventSource, Expected, LedgerUri, NewVersion, PackageName, Sha256, TagChange, TagName,
    Version,
};

use crate::support::faultgate::{Action, Gate, Match, Rule, operations};
use crate::support::{testbed, unique};

/// A row as the service hands it out.
type Item = HashMap<String, AttributeValue>;

/// A ledger with tables of its own, and a client that goes around it.
struct Tables {
    ledger: Arc<dyn Ledger>,
    client: Client,
    prefix: String,
    connect: Connect,
    gate: Gate,
}

impl Tables {
    /// Nothing where DynamoDB Local is missing, which was said then.
    async fn new() -> Option<Self> {
        let tables = Self::without_init().await?;
        tables.ledger.init(&InitOptions::default()).await.expect("init");
        tables.gate.take_log();
        Some(tables)
    }

    async fn without_init() -> Option<Self> {
        let server = testbed::dynamodb()?;
        let gate = Gate::start(&server.endpoint, 1);
        let (prefix, connect) = (unique("t"), server.connect());
        let client = sacker::aws::dynamo_client("us-east-1", Some(&server.endpoint), &connect)
            .await
            .expect("a client");
        let ledger = open(&gate.url(), &prefix, &connect).await;
        Some(Self { ledger, client, prefix, connect, gate })
    }

    /// Another ledger value for the same tables, through the gate.
    async fn again(&self, connect: &Connect) -> Arc<dyn Ledger> {
        open(&self.gate.url(), &self.prefix, connect).await
    }

    /// The next `times` requests of this operation get `fault`, after those of earlier calls.
    fn inject(&self, operation: &str, fault: Action, times: usize) {
        self.gate.add_rule(Rule::new(Match::target(operation), fault).times(times as u64));
    }

    /// No faults any more.
    fn heal(&self) {
        self.gate.set_rules(Vec::new());
    }

    /// The operations since the last call, in one line.
    fn requests(&self) -> String {
        operations(&self.gate.take_log())
    }

    fn tags(&self) -> String {
        format!("{}-tags", self.prefix)
    }

    async fn put(&self, table: &str, row: Item) {
        self.client.put_item().table_name(table).set_item(Some(row)).send().await.expect("put");
    }

    /// As the 2015 client adds, without its condition.
    async fn old_version(&self, package: &str, version: i64, metadata: &str) {
        let row = row(&[
            ("package_name", text(package)),
            ("version", number(version)),
            ("basename", text("app.jar")),
            ("sha", text(&Sha256::of(format!("old {version}").as_bytes()).to_string())),
            ("mode", number(33188)),
            ("metadata", text(metadata)),
        ]);
        self.put(&self.prefix, row).await;
    }

    /// As the 2015 client tags: the whole row is replaced, whatever was there.
    async fn old_tag(&self, package: &str, tag: &str, version: AttributeValue) {
        let row = row(&[("package_name", text(package)), ("tag", text(tag)), ("version", version)]);
        self.put(&self.tags(), row).await;
    }

    /// As the 2015 client removes a tag.
    async fn old_untag(&self, package: &str, tag: &str) {
        let key = row(&[("package_name", text(package)), ("tag", text(tag))]);
        self.client.delete_item().table_name(self.tags()).set_key(Some(key)).send().await.expect("delete");
    }

    async fn raw_tag(&self, package: &str, tag: &str) -> Option<Item> {
        let key = row(&[("package_name", text(package)), ("tag", text(tag))]);
        let request = self.client.get_item().table_name(self.tags()).set_key(Some(key));
        request.consistent_read(true).send().await.expect("get").item
    }

    async fn raw_version(&self, package: &str, version: i64) -> Option<Item> {
        let key = row(&[("package_name", text(package)), ("version", number(version))]);
        let request = self.client.get_item().table_name(&self.prefix).set_key(Some(key));
        request.consistent_read(true).send().await.expect("get").item
    }
}

async fn open(endpoint: &str, prefix: &str, connect: &Connect) -> Arc<dyn Ledger> {
    let uri: LedgerUri = format!("dynamo://us-east-1/{prefix}?endpoint={endpoint}").parse().expect("a URI");
    ledger::open(&uri, connect).await.expect("open")
}

fn row(pairs: &[(&str, AttributeValue)]) -> Item {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn package(name: &str) -> PackageName {
    PackageName::existing(name)
}

fn tag(name: &str) -> TagName {
    TagName::existing(name)
}

fn version(number: i64) -> Version {
    Version::new(number).expect("positive")
}

fn new_version() -> NewVersion {
    let id = uuid::Uuid::new_v4().to_string();
    NewVersion {
        sha256: Sha256::of(id.as_bytes()),
        size: 36,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: id,
    }
}

fn actor() -> Actor {
    Actor { by: "alice".into(), reason: None, source: EventSource::Cli }
}

fn moving(to: i64) -> TagChange {
    TagChange::new(Change::Move { to: version(to), hold: None }, actor())
}

fn moving_from(from: i64, to: i64) -> TagChange {
    moving(to).expecting(Expected::Version(version(from)))
}
