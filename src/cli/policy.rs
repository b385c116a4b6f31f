//! The IAM policy of a client that only adds versions, such as a CI job: what `sacker init --print-ci-policy` prints.
//!
//! Pure: from the URIs alone. Not responsible for who gets the policy, nor for buckets that demand more (a KMS key).
//! Conditions: `s3:if-none-match` and `s3:ObjectCreationOperation` (Amazon S3 user guide, "Enforce conditional writes"),
//! `dynamodb:LeadingKeys` (DynamoDB developer guide, "Fine-grained access control").

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::{DynamoLocation, LedgerUri, Numbering, PackageName, S3Location, StoreUri};

/// Versions that are times have 13 digits until the year 2286. Saying so keeps a client from taking the last number there
/// is, after which nobody could add.
const TIMESTAMP: &str = "?????????????";

/// A blob's key has 64 digits.
const DIGEST: &str = "????????????????????????????????????????????????????????????????";

/// What a policy is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) ledger: Option<&'a LedgerUri>,
    pub(super) stores: &'a [StoreUri],
    /// Names of packages; a `*` is any text, `/` included. All packages when empty.
    pub(super) packages: &'a [String],
    /// Forbids to overwrite what is there, where the cloud can.
    pub(super) strict: bool,
    /// The region where the URIs do not say one: it decides the partition of names (`aws-cn`).
    pub(super) region: Option<&'a str>,
}

/// The policy document.
///
/// # Errors
/// `Invalid` for a package that cannot be one, and where neither ledger nor store is in a cloud.
pub(super) fn document(request: &Request<'_>) -> Result<Value> {
    let packages = patterns(request.packages)?;
    let mut statements = Vec::new();
    match request.ledger {
        Some(LedgerUri::S3(S3Location { versions: Some(Numbering::Sequence), .. })) => {
            return Err(Error::invalid(
                "a client that may only write cannot know the next number of a sequence",
            )
            .with_hint(
                "let the client read the ledger, or keep its packages in a ledger with timestamp versions",
            ));
        }
        Some(LedgerUri::S3(location)) => s3_ledger(location, &packages, request, &mut statements),
        Some(LedgerUri::Dynamo(location)) => dynamo_ledger(location, &packages, &mut statements),
        Some(LedgerUri::File(_) | LedgerUri::ZooKeeper(_) | LedgerUri::Git(_)) | None => {}
    }
    for store in request.stores {
        if let StoreUri::S3(location) = store {
            s3_store(location, request, &mut statements);
        }
    }
    if statements.is_empty() {
        return Err(Error::invalid("neither the ledger nor the store is in a cloud, so there is no policy")
            .with_hint("name them: sacker --ledger s3://bucket --store s3://blobs init --print-ci-policy"));
    }
    Ok(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// The packages as IAM patterns.
fn patterns(packages: &[String]) -> Result<Vec<String>> {
    if packages.is_empty() {
        return Ok(vec!["*".to_owned()]);
    }
    let pattern = |text: &String| {
        // A star stands for letters that are allowed in any name.
        PackageName::new(text.replace('*', "x"))?;
        if text.contains(['?', '$']) {
            return Err(Error::invalid(format!(
                "package '{text}' has a '?' or '$', which mean something else in IAM"
            )));
        }
        let mut shorter = text.clone();
        while shorter.contains("**") {
            shorter = shorter.replace("**", "*");
        }
        Ok(shorter)
    };
    packages.iter().map(pattern).collect()
}

/// The partition that a region belongs to: the second part of every name in it.
fn partition(region: Option<&str>) -> &'static str {
    match region {
        Some(region) if region.starts_with("cn-") => "aws-cn",
        Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The names of keys in a bucket.
fn objects(location: &S3Location, request: &Request<'_>, keys: &[String]) -> Vec<String> {
    let partition = partition(location.region.as_deref().or(request.region));
    let name = |key: &String| format!("arn:{partition}:s3:::{}/{}{key}", location.bucket, location.prefix);
    keys.iter().map(name).collect()
}

fn s3_ledger(location: &S3Location, packages: &[String], request: &Request<'_>, statements: &mut Vec<Value>) {
    let versions: Vec<String> = packages.iter().map(|name| format!("{name}/versions/{TIMESTAMP}")).collect();
    let versions = objects(location, request, &versions);
    statements.push(allow("AddVersions", &["s3:PutObject"], &versions));
    // Nothing about packages is in it, and without it a client would put times among the numbers of a sequence.
    let own = objects(location, request, &["_sacker/ledger.json".to_owned()]);
    statements.push(allow("KnowHowVersionsAreNumbered", &["s3:GetObject"], &own));
    if request.strict {
        statements.push(deny_overwriting("NeverOverwriteVersions", &versions));
    } else {
        let hints: Vec<String> = packages.iter().map(|name| format!("{name}/tags/latest")).collect();
        let hints = objects(location, request, &hints);
        statements.push(allow("TellOldReadersTheNewest", &["s3:PutObject"], &hints));
    }
}

fn s3_store(location: &S3Location, request: &Request<'_>, statements: &mut Vec<Value>) {
    let blobs = objects(location, request, &[DIGEST.to_owned()]);
    statements.push(allow("StoreBlobs", &["s3:PutObject", "s3:AbortMultipartUpload"], &blobs));
    if request.strict {
        statements.push(deny_overwriting("NeverOverwriteBlobs", &blobs));
    }
}

fn dynamo_ledger(location: &DynamoLocation, packages: &[String], statements: &mut Vec<Value>) {
    let partition = partition(Some(&location.region));
    let table = format!("arn:{partition}:dynamodb:{}:*:table/{}", location.region, location.prefix);
    let mut add = allow("AddVersions", &["dynamodb:Query", "dynamodb:PutItem"], &[table]);
    if packages != ["*"] {
        add["Condition"] = json!({ "ForAllValues:StringLike": { "dynamodb:LeadingKeys": packages } });
    }
    statements.push(add);
}

fn allow(id: &str, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": id, "Effect": "Allow", "Action": actions, "Resource": resources })
}

/// Denies what creates an object without the condition that it is absent. The first steps of an upload in parts create
/// none and take no condition; its last step does both.
fn deny_overwriting(id: &str, resources: &[String]) -> Value {
    json!({
        "Sid": id,
        "Effect": "Deny",
        "Action": ["s3:PutObject"],
        "Resource": resources,
        "Condition": {
            "Null": { "s3:if-none-match": "true" },
            "Bool": { "s3:ObjectCreationOperation": "true" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_in_result, reason = "URIs of these tests are right")]
    fn of(ledger: &str, store: &str, packages: &[&str], strict: bool) -> Result<Value> {
        let ledger: LedgerUri = ledger.parse().expect("a URI");
        let store: StoreUri = store.parse().expect("a URI");
        let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
        document(&Request {
            ledger: Some(&ledger),
            stores: &[store],
            packages: &packages,
            strict,
            region: Some("cn-north-1"),
        })
    }

    #[test]
    fn a_compatible_policy_allows_to_put_and_to_know_how() {
        let policy =
            of("s3://bkt/l?region=eu-west-1", "s3://bkt/s?region=eu-west-1", &["web", "team/*"], false)
                .expect("a policy");
        let expected = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "AddVersions", "Effect": "Allow", "Action": ["s3:PutObject"],
                    "Resource": [
                        "arn:aws:s3:::bkt/l/web/versions/?????????????",
                        "arn:aws:s3:::bkt/l/team/*/versions/?????????????",
                    ],
                },
                {
                    "Sid": "KnowHowVersionsAreNumbered", "Effect": "Allow", "Action": ["s3:GetObject"],
                    "Resource": ["arn:aws:s3:::bkt/l/_sacker/ledger.json"],
                },
                {
                    "Sid": "TellOldReadersTheNewest", "Effect": "Allow", "Action": ["s3:PutObject"],
                    "Resource": ["arn:aws:s3:::bkt/l/web/tags/latest", "arn:aws:s3:::bkt/l/team/*/tags/latest"],
                },
                {
                    "Sid": "StoreBlobs", "Effect": "Allow", "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
                    "Resource": [format!("arn:aws:s3:::bkt/s/{}", "?".repeat(64))],
                },
            ],
        });
        assert_eq!(policy, expected);
    }

    #[test]
    fn a_strict_policy_denies_what_has_no_condition() {
        let policy = of("s3://bkt/l", "s3://blobs", &[], true).expect("a policy");
        let denied: Vec<&Value> = policy["Statement"]
            .as_array()
            .expect("statements")
            .iter()
            .filter(|statement| statement["Effect"] == "Deny")
            .collect();
        assert_eq!(denied.len(), 2, "{policy:#}");
        for statement in denied {
            assert_eq!(
                statement["Condition"],
                json!({ "Null": { "s3:if-none-match": "true" }, "Bool": { "s3:ObjectCreationOperation": "true" } })
            );
        }
        assert!(!policy.to_string().contains("tags/latest"), "{policy:#}");
        assert!(policy.to_string().contains("arn:aws-cn:s3:::bkt/l/*/versions/"), "{policy:#}");
    }

    #[test]
    fn tables_are_limited_to_the_partitions_of_the_packages() {
        let policy = of("dynamo://us-gov-west-1/sacker", "file:///blobs", &["web"], false).expect("a policy");
        let expected = json!([{
            "Sid": "AddVersions", "Effect": "Allow", "Action": ["dynamodb:Query", "dynamodb:PutItem"],
            "Resource": ["arn:aws-us-gov:dynamodb:us-gov-west-1:*:table/sacker"],
            "Condition": { "ForAllValues:StringLike": { "dynamodb:LeadingKeys": ["web"] } },
        }]);
        assert_eq!(policy["Statement"], expected);
        let policy = of("dynamo://us-east-1/sacker", "file:///blobs", &[], false).expect("a policy");
        assert_eq!(policy["Statement"][0]["Condition"], Value::Null);
    }

    #[test]
    fn what_is_no_package_or_means_more_in_iam_is_refused() {
        for package in ["", "a//b", "a/tags", "/a", "a?", "${aws:username}", "../a", "_sacker/x"] {
            of("s3://bkt", "s3://blobs", &[package], false).expect_err(package);
        }
        of("file:///ledger", "file:///blobs", &[], false).expect_err("no cloud");
        of("s3://bkt?versions=sequence", "s3://blobs", &[], false).expect_err("a sequence must be read");
    }
}
