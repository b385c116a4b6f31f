//! Setting up, and what is said when the tables are missing or belong to something else.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TableDescription,
};
use futures::TryStreamExt as _;
use sacker::error::{Error, Meaning, Missing};
use sacker::ledger::InitOptions;
use sacker::model::Numbering;

use super::{Tables, moving, new_version, package, tag, version};

impl Tables {
    async fn describe(&self, table: &str) -> Option<TableDescription> {
        self.client.describe_table().table_name(table).send().await.ok()?.table
    }

    /// A table whose key is one of two kinds of attributes.
    async fn foreign_table(&self, table: &str, range: (&str, ScalarAttributeType), billing: BillingMode) {
        let definition = |name: &str, of_type| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(of_type)
                .build()
                .expect("whole")
        };
        let part = |name: &str, key_type| {
            KeySchemaElement::builder().attribute_name(name).key_type(key_type).build().expect("whole")
        };
        let throughput = (billing == BillingMode::Provisioned).then(|| {
            ProvisionedThroughput::builder()
                .read_capacity_units(5)
                .write_capacity_units(5)
                .build()
                .expect("whole")
        });
        self.client
            .create_table()
            .table_name(table)
            .attribute_definitions(definition("package_name", ScalarAttributeType::S))
            .attribute_definitions(definition(range.0, range.1))
            .key_schema(part("package_name", KeyType::Hash))
            .key_schema(part(range.0, KeyType::Range))
            .billing_mode(billing)
            .set_provisioned_throughput(throughput)
            .send()
            .await
            .expect("create");
    }
}

#[tokio::test]
async fn init_creates_both_tables_and_says_so() {
    let Some(tables) = Tables::without_init().await else { return };
    let done = tables.ledger.init(&InitOptions::default()).await.expect("init");
    for table in [&tables.prefix, &tables.tags()] {
        let described = tables.describe(table).await.expect("it is there");
        assert_eq!(described.deletion_protection_enabled(), Some(true));
        let billing = described.billing_mode_summary().and_then(|summary| summary.billing_mode());
        assert_eq!(billing, Some(&BillingMode::PayPerRequest));
        assert!(done.contains(&format!("created table '{table}'")), "{done:?}");
        let left_out = format!("table '{table}' has no point-in-time recovery: this server does not know it");
        assert!(done.contains(&left_out), "{done:?}");
    }
    assert_eq!(done.len(), 4, "{done:?}");
    assert_eq!(tables.ledger.init(&InitOptions::default()).await.expect("again"), [""; 0]);
}

#[tokio::test]
async fn init_leaves_out_what_is_switched_off() {
    let Some(tables) = Tables::without_init().await else { return };
    let options =
        InitOptions { deletion_protection: false, point_in_time_recovery: false, ..InitOptions::default() };
    assert_eq!(tables.ledger.init(&options).await.expect("init").len(), 2);
    let described = tables.describe(&tables.prefix).await.expect("it is there");
    assert_ne!(described.deletion_protection_enabled(), Some(true));
}

#[tokio::test]
async fn init_changes_a_table_only_when_asked_to() {
    let Some(tables) = Tables::without_init().await else { return };
    let number = ("version", ScalarAttributeType::N);
    tables.foreign_table(&tables.prefix, number, BillingMode::Provisioned).await;
    let options = InitOptions { point_in_time_recovery: false, ..InitOptions::default() };
    let done = tables.ledger.init(&options).await.expect("init");
    assert_eq!(done, [format!("created table '{}'", tables.tags())]);
    let before = tables.describe(&tables.prefix).await.expect("it is there");
    assert_ne!(before.deletion_protection_enabled(), Some(true));

    let upgrade = InitOptions { upgrade: true, ..options };
    let done = tables.ledger.init(&upgrade).await.expect("upgrade");
    let expected = [
        format!("table '{}' is billed on demand", tables.prefix),
        format!("table '{}' is protected against deletion", tables.prefix),
    ];
    assert_eq!(done, expected);
    let after = tables.describe(&tables.prefix).await.expect("it is there");
    assert_eq!(after.deletion_protection_enabled(), Some(true));
    assert_eq!(tables.ledger.init(&upgrade).await.expect("again"), [""; 0]);
}

#[tokio::test]
async fn init_refuses_tables_of_something_else() {
    let Some(tables) = Tables::without_init().await else { return };
    let text = ("tag", ScalarAttributeType::N);
    tables.foreign_table(&tables.tags(), text, BillingMode::PayPerRequest).await;
    let error = tables.ledger.init(&InitOptions::default()).await.expect_err("a foreign table");
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    let expected = format!(
        "table '{}' is no table of a sacker ledger: its key is package_name (HASH, S), tag (RANGE, N), \
         it must be package_name (HASH, S), tag (RANGE, S)",
        tables.tags()
    );
    assert_eq!(error.to_string(), expected);
    assert!(tables.describe(&tables.prefix).await.is_none(), "no half ledger is left behind");
}

#[tokio::test]
async fn init_has_one_numbering() {
    let Some(tables) = Tables::without_init().await else { return };
    let timestamps = InitOptions { numbering: Some(Numbering::Timestamp), ..InitOptions::default() };
    let error = tables.ledger.init(&timestamps).await.expect_err("refused");
    assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error}");
    let sequence = InitOptions { numbering: Some(Numbering::Sequence), ..InitOptions::default() };
    tables.ledger.init(&sequence).await.expect("that is what it does");
}

#[tokio::test]
async fn init_from_several_places_at_once_is_one() {
    let Some(tables) = Tables::without_init().await else { return };
    let options = InitOptions::default();
    let done = futures::future::join_all((0..4).map(|_| tables.ledger.init(&options))).await;
    let lines: Vec<String> = done.into_iter().flat_map(|done| done.expect("init")).collect();
    for table in [&tables.prefix, &tables.tags()] {
        let created = format!("created table '{table}'");
        assert_eq!(lines.iter().filter(|line| **line == created).count(), 1, "{lines:?}");
    }
    tables.ledger.add(&package("frontend"), &new_version()).await.expect("add");
}

#[tokio::test]
async fn a_missing_table_is_named_with_what_to_do() {
    let Some(tables) = Tables::without_init().await else { return };
    let (ledger, frontend, live) = (&tables.ledger, package("frontend"), tag("live"));
    let missing = |error: Error, table: &str| {
        let expected = Meaning::NotFound(Missing::Backend(format!("table '{table}'")));
        assert_eq!(error.meaning(), &expected, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("sacker init")), "{error:?}");
    };
    let (main, tags) = (tables.prefix.as_str(), tables.tags());
    missing(ledger.versions(&frontend).await.expect_err("versions"), main);
    missing(ledger.newest(&frontend, 1).await.expect_err("newest"), main);
    missing(ledger.version(&frontend, version(1)).await.expect_err("version"), main);
    missing(ledger.add(&frontend, &new_version()).await.expect_err("add"), main);
    missing(ledger.packages().try_next().await.expect_err("packages"), main);
    missing(ledger.tags(&frontend).await.expect_err("tags"), &tags);
    missing(ledger.tag(&frontend, &live).await.expect_err("tag"), &tags);
    missing(ledger.history(&frontend, &live).await.expect_err("history"), &tags);
    missing(ledger.change_tag(&frontend, &live, &moving(1)).await.expect_err("move"), &tags);
    missing(ledger.latest(&frontend).await.expect_err("latest"), main);
}
