//! The client of 2015, written anew from the wire contract (`docs/formats.md`) with raw requests and no code of ours: it
//! keeps that client's algorithms, its blind writes and its faults, and fails on a record whose types it does not expect.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::Value;

use sacker::model::Sha256;

/// What it answers instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// For everything that is not there.
    DoesNotExist,
    /// For a number that somebody else took.
    Race,
    /// A traceback: the record is not what it expects.
    Traceback(String),
}

/// What its `info` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) sha: String,
    pub(crate) basename: String,
    pub(crate) mode: i64,
    pub(crate) metadata: BTreeMap<String, String>,
}

type Answer<T> = Result<T, Refusal>;

#[derive(Debug)]
pub(crate) struct Peer {
    backend: Backend,
    /// What its clock says instead of the time, in milliseconds; 0 for the time.
    frozen: AtomicI64,
}

#[derive(Debug)]
enum Backend {
    S3 { client: aws_sdk_s3::Client, bucket: String },
    Dynamo { client: aws_sdk_dynamodb::Client, table: String },
}

fn traceback(what: impl std::fmt::Debug) -> Refusal {
    Refusal::Traceback(format!("{what:?}"))
}

/// The bytes that a version of this content has.
pub(crate) fn sha(content: &str) -> String {
    Sha256::of(content.as_bytes()).to_string()
}

fn s(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn n(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text_of(item: &HashMap<String, AttributeValue>, name: &str) -> Answer<String> {
    item.get(name).and_then(|value| value.as_s().ok()).cloned().ok_or_else(|| traceback((name, item)))
}

fn number_of(item: &HashMap<String, AttributeValue>, name: &str) -> Answer<i64> {
    let number = item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| traceback((name, item)))
}

impl Peer {
    pub(crate) fn s3(client: aws_sdk_s3::Client, bucket: &str) -> Self {
        Self { backend: Backend::S3 { client, bucket: bucket.to_owned() }, frozen: AtomicI64::new(0) }
    }

    pub(crate) fn dynamo(client: aws_sdk_dynamodb::Client, table: &str) -> Self {
        Self { backend: Backend::Dynamo { client, table: table.to_owned() }, frozen: AtomicI64::new(0) }
    }

    /// Stops its clock at this time.
    pub(crate) fn freeze(&self, milliseconds: i64) {
        self.frozen.store(milliseconds, Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "that client knows no clock but the machine's")]
    fn milliseconds(&self) -> i64 {
        match self.frozen.load(Ordering::Relaxed) {
            0 => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                i64::try_from(now.as_millis()).expect("before the year 292278994")
            }
            frozen => frozen,
        }
    }

    /// `sacker add`, without the upload. No metadata is `None` in Python, `null` on DynamoDB.
    pub(crate) async fn add(
        &self,
        package: &str,
        content: &str,
        metadata: Option<&[(&str, &str)]>,
    ) -> Answer<i64> {
        match &self.backend {
            Backend::S3 { .. } => {
                let version = self.milliseconds();
                // As Python's json.dumps writes it.
                let body =
                    format!("{{\"sha\": \"{}\", \"basename\": \"app.jar\", \"mode\": 33188}}", sha(content));
                self.put(&format!("{package}/versions/{version}"), &body, metadata.unwrap_or_default()).await;
                self.put(&format!("{package}/tags/latest"), &format!("{{\"version\": {version}}}"), &[])
                    .await;
                Ok(version)
            }
            Backend::Dynamo { client, table } => {
                let version = self.latest_row(package).await? + 1;
                let metadata = metadata.map(|pairs| pairs.iter().copied().collect::<BTreeMap<_, _>>());
                let put = client
                    .put_item()
                    .table_name(table)
                    .item("package_name", s(package))
                    .item("version", n(version))
                    .item("basename", s("app.jar"))
                    .item("sha", s(&sha(content)))
                    .item("mode", n(33188))
                    .item("metadata", s(&serde_json::to_string(&metadata).expect("text")))
                    .condition_expression("attribute_not_exists(package_name)");
                match put.send().await {
                    Ok(_) => Ok(version),
                    // Whatever it was.
                    Err(_) => Err(Refusal::Race),
                }
            }
        }
    }

    /// `sacker tag`: stores what was typed, and does not look whether there is such a version.
    pub(crate) async fn tag(&self, package: &str, version: &str, tag: &str) {
        match &self.backend {
            Backend::S3 { .. } => {
                let body = format!("{{\"version\": \"{version}\"}}");
                self.put(&format!("{package}/tags/{tag}"), &body, &[]).await;
            }
            Backend::Dynamo { client, table } => {
                let value = version.parse().map_or_else(|_| s(version), n);
                let put = client.put_item().table_name(format!("{table}-tags"));
                let put = put.item("package_name", s(package)).item("tag", s(tag)).item("version", value);
                put.send().await.expect("it is put");
            }
        }
    }

    /// `sacker untag`: a deletion without a condition.
    pub(crate) async fn untag(&self, package: &str, tag: &str) {
        match &self.backend {
            Backend::S3 { client, bucket } => {
                let delete = client.delete_object().bucket(bucket).key(format!("{package}/tags/{tag}"));
                delete.send().await.expect("it is deleted");
            }
            Backend::Dynamo { client, table } => {
                let delete = client.delete_item().table_name(format!("{table}-tags"));
                let delete = delete.key("package_name", s(package)).key("tag", s(tag));
                delete.send().await.expect("it is deleted");
            }
        }
    }

    /// `sacker list`.
    pub(crate) async fn packages(&self) -> BTreeSet<String> {
        match &self.backend {
            Backend::S3 { .. } => {
                let keys = self.keys("").await;
                keys.iter().filter_map(|key| key.strip_suffix("/tags/latest").map(str::to_owned)).collect()
            }
            Backend::Dynamo { client, table } => {
                let scan = client.scan().table_name(table).send().await.expect("it is scanned");
                let items = scan.items().iter();
                items.map(|item| text_of(item, "package_name").expect("the key is text")).collect()
            }
        }
    }

    /// `sacker versions`.
    pub(crate) async fn versions(&self, package: &str) -> Answer<Vec<i64>> {
        match &self.backend {
            Backend::S3 { .. } => {
                let prefix = format!("{package}/versions/");
                let keys = self.keys(&prefix).await;
                keys.iter().map(|key| key[prefix.len()..].parse().map_err(|_| traceback(key))).collect()
            }
            Backend::Dynamo { table, .. } => {
                self.page(table, package).await.iter().map(|item| number_of(item, "version")).collect()
            }
        }
    }

    /// `sacker tags`: names, with what is stored under them.
    pub(crate) async fn tags(&self, package: &str) -> Answer<BTreeMap<String, String>> {
        let mut tags = BTreeMap::new();
        match &self.backend {
            Backend::S3 { .. } => {
                let prefix = format!("{package}/tags/");
                for key in self.keys(&prefix).await {
                    let (body, _) = self.get(&key).await?;
                    tags.insert(key[prefix.len()..].to_owned(), pointed(&body)?);
                }
            }
            Backend::Dynamo { table, .. } => {
                for item in self.page(&format!("{table}-tags"), package).await {
                    let version = match item.get("version") {
                        Some(AttributeValue::N(text) | AttributeValue::S(text)) => text.clone(),
                        _ => return Err(traceback(item)),
                    };
                    tags.insert(text_of(&item, "tag")?, version);
                }
            }
        }
        Ok(tags)
    }

    /// The newest version as it knows it.
    pub(crate) async fn latest(&self, package: &str) -> Answer<i64> {
        let latest = match &self.backend {
            Backend::S3 { .. } => {
                let (body, _) = self.get(&format!("{package}/tags/latest")).await?;
                pointed(&body)?.parse().map_err(|_| traceback(body))?
            }
            Backend::Dynamo { .. } => self.latest_row(package).await?,
        };
        if latest == 0 { Err(Refusal::DoesNotExist) } else { Ok(latest) }
    }

    /// What a spec stands for: digits are a version, whatever tag may be called so.
    async fn resolve(&self, package: &str, spec: &str) -> Answer<String> {
        if spec.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(spec.to_owned());
        }
        match &self.backend {
            Backend::S3 { .. } => {
                let (body, _) = self.get(&format!("{package}/tags/{spec}")).await?;
                pointed(&body)
            }
            Backend::Dynamo { .. } if spec == "latest" => {
                self.latest(package).await.map(|version| version.to_string())
            }
            Backend::Dynamo { client, table } => {
                let get = client.get_item().table_name(format!("{table}-tags")).consistent_read(true);
                let get = get.key("package_name", s(package)).key("tag", s(spec)).send().await;
                match get.expect("it is read").item.and_then(|item| item.get("version").cloned()) {
                    Some(AttributeValue::N(text) | AttributeValue::S(text)) => Ok(text),
                    _ => Err(Refusal::DoesNotExist),
                }
            }
        }
    }

    /// `sacker info`; also what its `download` begins with.
    pub(crate) async fn info(&self, package: &str, spec: &str) -> Answer<Info> {
        let version = self.resolve(package, spec).await?;
        match &self.backend {
            Backend::S3 { .. } => {
                let (body, metadata) = self.get(&format!("{package}/versions/{version}")).await?;
                let text = |name| body[name].as_str().map(str::to_owned).ok_or_else(|| traceback(&body));
                let mode = body["mode"].as_i64().ok_or_else(|| traceback(&body))?;
                Ok(Info { sha: text("sha")?, basename: text("basename")?, mode, metadata })
            }
            Backend::Dynamo { client, table } => {
                // A word is no number: every error is "does not exist" to it.
                let Ok(version) = version.parse() else { return Err(Refusal::DoesNotExist) };
                let get = client.get_item().table_name(table).consistent_read(true);
                let get = get.key("package_name", s(package)).key("version", n(version)).send().await;
                let item = get.expect("it is read").item.ok_or(Refusal::DoesNotExist)?;
                // Python's json.loads: a dictionary, or None.
                let metadata: Option<BTreeMap<String, Value>> =
                    serde_json::from_str(&text_of(&item, "metadata")?).map_err(traceback)?;
                let plain = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Ok(Info {
                    sha: text_of(&item, "sha")?,
                    basename: text_of(&item, "basename")?,
                    mode: number_of(&item, "mode")?,
                    metadata: metadata
                        .into_iter()
                        .flatten()
                        .map(|(key, value)| (key, plain(value)))
                        .collect(),
                })
            }
        }
    }

    /// One page of at most 1 MB, in ascending order: where it ends, that client's knowledge ends.
    async fn page(&self, table: &str, package: &str) -> Vec<HashMap<String, AttributeValue>> {
        let Backend::Dynamo { client, .. } = &self.backend else { panic!("S3 has no rows") };
        let query = client.query().table_name(table).consistent_read(true);
        let query = query.key_condition_expression("package_name = :package");
        let query = query.expression_attribute_values(":package", s(package)).send().await;
        query.expect("it is queried").items.unwrap_or_default()
    }

    async fn latest_row(&self, package: &str) -> Answer<i64> {
        let Backend::Dynamo { table, .. } = &self.backend else { panic!("S3 has no rows") };
        let page = self.page(table, package).await;
        let mut latest = 0;
        for item in &page {
            latest = latest.max(number_of(item, "version")?);
        }
        Ok(latest)
    }

    async fn put(&self, key: &str, body: &str, metadata: &[(&str, &str)]) {
        let Backend::S3 { client, bucket } = &self.backend else { panic!("tables have no objects") };
        let mut put = client.put_object().bucket(bucket).key(key);
        for (name, value) in metadata {
            put = put.metadata(*name, *value);
        }
        put.body(ByteStream::from(body.as_bytes().to_vec())).send().await.expect("it is put");
    }

    async fn get(&self, key: &str) -> Answer<(Value, BTreeMap<String, String>)> {
        let Backend::S3 { client, bucket } = &self.backend else { panic!("tables have no objects") };
        let got = client.get_object().bucket(bucket).key(key).send().await;
        // Every error is "does not exist" to it.
        let got = got.map_err(|_| Refusal::DoesNotExist)?;
        let metadata = got.metadata().into_iter().flatten();
        let metadata = metadata.map(|(name, value)| (name.clone(), value.clone())).collect();
        let bytes = got.body.collect().await.map_err(traceback)?.into_bytes();
        Ok((serde_json::from_slice(&bytes).map_err(traceback)?, metadata))
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let Backend::S3 { client, bucket } = &self.backend else { panic!("tables have no objects") };
        let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("it is listed");
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
        keys
    }

    /// Writes a golden record as it stands.
    pub(crate) async fn write_fixture(&self, fixture: &Value) {
        match &self.backend {
            Backend::S3 { .. } => {
                let text = |name| fixture[name].as_str().expect("the fixture has it");
                let metadata = fixture["metadata"].as_object().into_iter().flatten();
                let metadata: Vec<(&str, &str)> =
                    metadata.map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect();
                self.put(text("key"), text("body"), &metadata).await;
            }
            Backend::Dynamo { client, table } => {
                let suffix = fixture["table"].as_str().expect("the fixture has it");
                let mut put = client.put_item().table_name(format!("{table}{suffix}"));
                for (name, value) in fixture["item"].as_object().expect("the fixture has it") {
                    let (kind, value) = value.as_object().and_then(|of| of.iter().next()).expect("a type");
                    let value = value.as_str().expect("as DynamoDB's JSON has it").to_owned();
                    let value = if kind == "N" { AttributeValue::N(value) } else { AttributeValue::S(value) };
                    put = put.item(name, value);
                }
                put.send().await.expect("it is put");
            }
        }
    }
}

/// What a pointer says: an integer, or what was typed.
fn pointed(body: &Value) -> Answer<String> {
    match &body["version"] {
        Value::Number(number) if number.is_i64() => Ok(number.to_string()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(traceback(body)),
    }
}
