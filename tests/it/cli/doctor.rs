//! `sacker doctor`: one line per check, and the exit code of the first that failed.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{BillingMode, ProvisionedThroughput};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use rstest::rstest;
use sacker::model::Sha256;

use super::home::{Home, PACKAGE, Ran};
use crate::support::canned::Canned;
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule, ServerDate};
use crate::support::testbed;
use crate::support::unique;

/// The word of each check, and its text.
fn checks(ran: &Ran) -> BTreeMap<String, (String, String)> {
    let row = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        let (word, what) = (columns.next().expect("a word"), columns.next().expect("a check"));
        (what, (word, columns.next().expect("a text")))
    };
    ran.stdout.lines().map(row).collect()
}

fn word<'a>(found: &'a BTreeMap<String, (String, String)>, check: &str) -> &'a str {
    found.get(check).map_or("not there", |(word, _)| word.as_str())
}

/// Every line: its word, its check and its text.
fn lines(ran: &Ran) -> Vec<[String; 3]> {
    let row = |line: &str| {
        let columns: Vec<String> = line.split('\t').map(str::to_owned).collect();
        columns.try_into().expect("three columns")
    };
    ran.stdout.lines().map(row).collect()
}

/// The one line that begins so, without its beginning.
#[track_caller]
fn line(ran: &Ran, word: &str, check: &str, start: &str) -> String {
    let begin = format!("{word}\t{check}\t{start}");
    let found: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix(&begin)).collect();
    assert_eq!(found.len(), 1, "'{begin}' in {ran:?}");
    found[0].to_owned()
}

/// What every backend is asked.
const ALWAYS: [&str; 7] =
    ["blobs", "clock", "conditional writes", "hints for old readers", "ledger", "store", "times of versions"];

#[rstest]
#[case::file("file", &["disk"], &[])]
#[case::minio("minio", &["credentials", "bucket access", "bucket encryption", "bucket versioning", "unfinished uploads"], &["bucket versioning"])]
#[case::versitygw("versitygw", &["credentials", "bucket access", "bucket encryption", "bucket versioning", "unfinished uploads"], &["bucket versioning"])]
#[case::dynamodb("dynamodb", &["credentials", "disk", "table backups", "table billing", "table protection", "tables"], &[])]
fn all_is_well(#[case] name: &str, #[case] besides: &[&str], #[case] warned: &[&str]) {
    let home = match name {
        "file" => Home::with_two_versions(),
        "dynamodb" => {
            let Some(home) = super::backends::home_on_tables() else { return };
            home
        }
        name => {
            let Some(server) = s3(name) else { return };
            super::backends::home_on(&server)
        }
    };
    home.run(&["init"]).answer();
    home.file("x", "x");
    home.run(&["add", PACKAGE, "x"]).answer();
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut expected = [&ALWAYS[..], besides].concat();
    expected.sort_unstable();
    assert_eq!(checks(&ran).keys().map(String::as_str).collect::<Vec<_>>(), expected, "{ran:?}");
    let odd: Vec<_> = lines(&ran).into_iter().filter(|[word, ..]| word != "ok").collect();
    // A bucket as `init` makes it keeps no old versions.
    assert_eq!(odd.iter().map(|[_, check, _]| check.as_str()).collect::<Vec<_>>(), warned, "{ran:?}");
}

fn s3(name: &str) -> Option<testbed::S3Server> {
    if name == "minio" { testbed::minio() } else { testbed::versitygw() }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Every form of the answer has the same checks.
#[test]
fn the_answer_has_every_form() {
    let home = Home::with_two_versions();
    let json = home.run(&["doctor", "-o", "json"]).json();
    let found = json.as_array().expect("a list");
    let clock = serde_json::json!({
        "verdict": "ok", "check": "clock", "hint": null,
        "text": "the server tells no time, and no version depends on it",
    });
    assert!(found.contains(&clock), "{json}");
    let names: Vec<&str> = found.iter().filter_map(|check| check["check"].as_str()).collect();
    assert_eq!(home.run(&["doctor", "-o", "name"]).answer(), names.join("\n") + "\n");
    let plain = home.run(&["doctor"]);
    assert_eq!(lines(&plain).iter().map(|[_, check, _]| check.as_str()).collect::<Vec<_>>(), names);
    let yaml = home.run(&["doctor", "-o", "yaml"]).answer().to_owned();
    assert!(yaml.contains("- verdict: ok\n  check: clock\n  text: the server tells no time"), "{yaml}");
    let table = home.run(&["doctor", "-o", "table"]).answer().to_owned();
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["VERDICT", "CHECK", "TEXT", "HINT"]);
    assert_eq!(table.lines().count(), names.len() + 1, "{table}");

    // Also where a check fails: the answer is whole, and the exit code says it.
    let nowhere = format!("file://{}", home.path("nowhere").display());
    let ran = home.run(&["doctor", "-o", "json", "--ledger", &nowhere]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!((&found[0]["verdict"], &found[0]["check"]), (&"failed".into(), &"ledger".into()), "{found}");
    assert!(found[0]["hint"].is_string(), "{found}");
}

#[test]
fn whose_credentials_are_in_force() {
    let Some(server) = testbed::minio() else { return };
    let uri = server.uri(&unique("whose"));
    let keys = super::backends::home_on(&server).with("SACKER_LEDGER", &uri).with("SACKER_STORE", &uri);
    keys.run(&["init", "--no-probe"]).answer();
    let ran = keys.run(&["doctor", "--no-probe"]);
    // Ledger and store have the same: one line.
    let text = line(&ran, "ok", "credentials", "from the environment (AWS_ACCESS_KEY_ID), access key …");
    assert_eq!(text, "bed; they do not expire; region us-east-1");
    assert!(!ran.stdout.contains(server.secret_key), "{ran:?}");

    let home = || {
        let home = Home::new().with("SACKER_LEDGER", &uri).with("SACKER_STORE", &uri);
        home.with("AWS_EC2_METADATA_DISABLED", "true")
    };
    let profile = home().with("AWS_PROFILE", "work").with("AWS_REGION", "eu-west-1");
    std::fs::create_dir(profile.path(".aws")).expect("created");
    let text = format!(
        "[work]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        server.access_key, server.secret_key
    );
    std::fs::write(profile.path(".aws/credentials"), text).expect("written");
    let ran = profile.run(&["doctor", "--no-probe"]);
    let text = line(&ran, "ok", "credentials", "from the profile 'work', access key …");
    assert!(text.ends_with("region eu-west-1"), "{text}");

    let answer = serde_json::json!({
        "AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key, "Token": "",
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let agent = Canned::with("200 OK", &answer.to_string());
    let ran =
        home().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent.endpoint).run(&["doctor", "--no-probe"]);
    let start = "from the container credentials (AWS_CONTAINER_CREDENTIALS_FULL_URI), access key …";
    let text = line(&ran, "ok", "credentials", start);
    assert!(text.contains("they expire at 2099-01-01T00:00:00Z, in "), "{text}");
    assert_eq!(agent.requests().len(), 1, "what was found for the look is what is used");

    let ran = home().run(&["doctor"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    line(&ran, "warning", "credentials", "there are none: AWS_ACCESS_KEY_ID");
    line(&ran, "failed", "ledger", "access denied");
}

/// Tables as somebody made them by hand; then as `init --upgrade` makes them.
#[test]
fn tables_that_are_not_as_init_makes_them() {
    let Some(server) = testbed::dynamodb() else { return };
    let prefix = unique("tables");
    let home = Home::new()
        .with("SACKER_LEDGER", &server.uri(&prefix))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init"]).answer();
    let both = format!("tables '{prefix}' and '{prefix}-tags': ");
    block_on(async {
        let connect = server.connect();
        let client = sacker::aws::dynamo_client("us-east-1", Some(&server.endpoint), &connect);
        let client = client.await.expect("a client");
        let update = client.update_table().table_name(format!("{prefix}-tags"));
        update.deletion_protection_enabled(false).send().await.expect("changed");
        let ran = home.run(&["doctor", "--no-probe"]);
        assert_eq!(ran.code, Some(0), "warnings are no failure: {ran:?}");
        line(&ran, "ok", "tables", &format!("{both}there, with the keys of a ledger"));
        line(&ran, "ok", "table protection", &format!("table '{prefix}': protected against deletion"));
        let text =
            line(&ran, "warning", "table protection", &format!("table '{prefix}-tags': not protected"));
        assert!(text.ends_with("hint: run: sacker init --upgrade"), "{text}");

        let units = ProvisionedThroughput::builder().read_capacity_units(7).write_capacity_units(3).build();
        let update = client.update_table().table_name(&prefix).billing_mode(BillingMode::Provisioned);
        update.provisioned_throughput(units.expect("complete")).send().await.expect("changed");
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    let text = line(&ran, "ok", "table billing", &format!("table '{prefix}': provisioned: "));
    assert!(text.starts_with("7 read and 3 write units a second; hint: "), "{text}");
    line(&ran, "ok", "table billing", &format!("table '{prefix}-tags': billed on demand"));
    home.run(&["init", "--upgrade"]).answer();
    let ran = home.run(&["doctor", "--no-probe"]);
    line(&ran, "ok", "table billing", &format!("{both}billed on demand"));
    line(&ran, "ok", "table protection", &format!("{both}protected against deletion"));
}

/// Who uses the tables need not have the right to look at how they are set up.
#[test]
fn rights_on_tables_that_are_missing_are_named() {
    let Some(server) = testbed::dynamodb() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    let prefix = unique("rights");
    let home = Home::new()
        .with("SACKER_LEDGER", &server.behind(&gate).uri(&prefix))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init"]).answer();
    let refuse = |operation: &str| Rule::new(Match::target(operation), Action::Status(Refusal::Forbidden));
    gate.set_rules(vec![refuse("DescribeTable"), refuse("DescribeContinuousBackups")]);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    line(&ran, "ok", "ledger", "it answers");
    for table in [prefix.clone(), format!("{prefix}-tags")] {
        let text = line(
            &ran,
            "warning",
            "tables",
            &format!("access denied: dynamodb:DescribeTable on table '{table}'"),
        );
        assert!(text.ends_with(&format!("hint: grant dynamodb:DescribeTable on table '{table}'")), "{text}");
        let start = format!("access denied: dynamodb:DescribeContinuousBackups on table '{table}'");
        line(&ran, "warning", "table backups", &start);
    }
    // Who may not read them either cannot use them.
    gate.set_rules(vec![refuse("DescribeTable"), refuse("Query")]);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    line(&ran, "failed", "ledger", "access denied: dynamodb:Query");

    // What DynamoDB Local does not know, in DynamoDB's words.
    let backups = |state: &str| {
        let body = serde_json::json!({"ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": state, "RecoveryPeriodInDays": 35},
        }});
        let answer = Action::Answer(200, body.to_string());
        gate.set_rules(vec![Rule::new(Match::target("DescribeContinuousBackups"), answer)]);
    };
    let both = format!("tables '{prefix}' and '{prefix}-tags': ");
    backups("DISABLED");
    let ran = home.run(&["doctor", "--no-probe"]);
    line(
        &ran,
        "warning",
        "table backups",
        &format!("{both}without point-in-time recovery; hint: run: sacker init"),
    );
    backups("ENABLED");
    let ran = home.run(&["doctor", "--no-probe"]);
    line(&ran, "ok", "table backups", &format!("{both}can be put back to any second of the last 35 days"));
}

#[test]
fn a_bucket_that_is_versioned_or_public() {
    let Some(server) = testbed::minio() else { return };
    let bucket = unique("bucket");
    let uri = |prefix: &str| server.uri(&format!("{bucket}/{prefix}"));
    let home = super::backends::home_on(&server).with("SACKER_LEDGER", &uri("ledger"));
    let home = home.with("SACKER_STORE", &(uri("blobs") + "&create_only=true"));
    home.run(&["init", "--no-probe"]).answer();
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for start in ["keeps no old versions: what is", "keeps no old versions, which writers"] {
        let text = line(&ran, "warning", "bucket versioning", &format!("bucket '{bucket}' {start}"));
        assert!(text.contains("s3api put-bucket-versioning --bucket"), "{text}");
    }
    line(&ran, "ok", "bucket access", &format!("no policy makes bucket '{bucket}' public"));

    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:GetBucketLocation", "s3:DeleteObject",
                "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"],
            "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
        }],
    });
    block_on(async {
        let client = server.client().await;
        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = client.put_bucket_versioning().bucket(&bucket).versioning_configuration(versions);
        request.send().await.expect("switched on");
        client.put_bucket_policy().bucket(&bucket).policy(policy.to_string()).send().await.expect("taken");
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    // One bucket for both: what is the same of both is told once.
    line(&ran, "ok", "bucket versioning", &format!("bucket '{bucket}' keeps old versions"));
    let text = line(&ran, "failed", "bucket access", &format!("bucket '{bucket}' is public by its policy"));
    assert!(text.contains("s3api get-bucket-policy --bucket"), "{text}");
}

/// What only AWS and few others tell, in the words of S3.
#[test]
fn what_a_bucket_of_aws_tells() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    let (server, bucket) = (server.behind(&gate), unique("aws"));
    let home = super::backends::home_on(&server).with("SACKER_LEDGER", &server.uri(&bucket));
    let home = home.with("SACKER_STORE", &server.uri(&bucket));
    home.run(&["init", "--no-probe"]).answer();
    let answer = |query: &str, body: &str| {
        let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        let matches = Match { query: Some(format!("{query}*")), ..Match::method("GET") };
        Rule::new(matches, Action::Answer(200, xml))
    };
    let whole = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
                 <IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>\
                 <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1b";
    let encrypted = format!(
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
         <SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{key}</KMSMasterKeyID>\
         </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
    );
    let rule = "<LifecycleConfiguration><Rule><ID>uploads</ID><Filter><Prefix></Prefix></Filter>\
                <Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
                </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";
    gate.set_rules(vec![
        answer("publicAccessBlock", whole),
        answer("encryption", &encrypted),
        answer("lifecycle", rule),
    ]);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    line(&ran, "ok", "bucket access", &format!("public access to bucket '{bucket}' is blocked"));
    let text = format!("bucket '{bucket}' is encrypted by default: aws:kms, key {key}");
    line(&ran, "ok", "bucket encryption", &text);
    line(&ran, "ok", "unfinished uploads", &format!("a rule of bucket '{bucket}' ends them after 7 days"));

    let off = whole.replace("<BlockPublicPolicy>true", "<BlockPublicPolicy>false");
    let public = "<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>";
    for (block, status, word, text) in [
        (
            off.as_str(),
            None,
            "warning",
            format!("no policy makes bucket '{bucket}' public, and nothing would keep"),
        ),
        (whole, Some(public), "warning", format!("the policy of bucket '{bucket}' makes it public, and")),
        (off.as_str(), Some(public), "failed", format!("bucket '{bucket}' is public by its policy")),
    ] {
        let mut rules = vec![answer("publicAccessBlock", block)];
        rules.extend(status.map(|status| answer("policyStatus", status)));
        gate.set_rules(rules);
        let ran = home.run(&["doctor", "--no-probe"]);
        line(&ran, word, "bucket access", &text);
        assert_eq!(ran.code, Some(if word == "failed" { 2 } else { 0 }), "{ran:?}");
    }
}

/// Temporary credentials of MinIO that may use the bucket and nothing else about it.
#[test]
fn rights_on_a_bucket_that_are_missing_are_named() {
    let Some(server) = testbed::minio() else { return };
    let uri = server.uri(&unique("rights"));
    let root = super::backends::home_on(&server).with("SACKER_LEDGER", &uri).with("SACKER_STORE", &uri);
    root.run(&["init", "--no-probe"]).answer();
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*",
        "Action":["s3:GetObject","s3:PutObject","s3:DeleteObject","s3:ListBucket"]}]}"#;
    let [key, secret, token] = block_on(testbed::minio_session(&server, policy));
    let home = root
        .with("AWS_ACCESS_KEY_ID", &key)
        .with("AWS_SECRET_ACCESS_KEY", &secret)
        .with("AWS_SESSION_TOKEN", &token);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = line(&ran, "ok", "credentials", "from the environment (AWS_ACCESS_KEY_ID)");
    assert!(text.contains("they are temporary, and nobody says until when"), "{text}");
    for (check, action) in [
        ("bucket versioning", "s3:GetBucketVersioning"),
        ("bucket access", "s3:GetBucketPolicyStatus"),
        ("bucket encryption", "s3:GetEncryptionConfiguration"),
        ("unfinished uploads", "s3:GetLifecycleConfiguration"),
    ] {
        let text = line(&ran, "warning", check, &format!("access denied: {action} on s3://"));
        let hint = text.split_once("; hint: ").expect("a hint").1;
        assert!(hint.contains(&format!("grant {action} on bucket '")), "{text}");
    }
}

/// Each of several stores has its lines, and the first that fails ends the command.
#[test]
fn several_stores_are_told_one_by_one() {
    let Some(server) = testbed::minio() else { return };
    let home = Home::new();
    let place = |name: &str| format!("file://{}", home.path(name).display());
    let (file, ledger, bucket) = (place("blobs"), place("ledger"), unique("several"));
    let home = home
        .with("SACKER_LEDGER", &ledger)
        .with("SACKER_STORE", &format!("{file} {}", server.uri(&bucket)))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init"]).answer();
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    line(&ran, "ok", "store", &format!("{file}: it answers"));
    line(&ran, "ok", "store", &format!("s3://{bucket}?"));
    line(&ran, "ok", "disk", "");
    line(&ran, "ok", "bucket versioning", &format!("bucket '{bucket}' keeps no old versions; only writers"));
    let down = format!("{file} s3://{bucket}?endpoint=http://127.0.0.1:1");
    let ran = home.with("SACKER_STORE", &down).run(&["doctor", "--no-probe", "--timeout", "1s"]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    line(&ran, "ok", "store", &format!("{file}: it answers"));
    line(&ran, "failed", "store", &format!("s3://{bucket}?"));
}

/// R5: numbers of 2015 clients whose clocks were off; and a hint that lags, which is set right.
#[test]
fn what_is_odd_is_told_and_repaired() {
    let Some(server) = testbed::minio() else { return };
    let (bucket, store) = (unique("odd"), unique("store"));
    let home = Home::new()
        .with("SACKER_LEDGER", &server.uri(&bucket))
        .with("SACKER_STORE", &server.uri(&store))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init", "--no-probe"]).answer();
    home.file("x", "x");
    let version: i64 = home.run(&["add", "web", "x"]).answer().trim_end().parse().expect("a version");
    let (early, late, near) = (version - 600_000, version + 600_000, version + 120_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        for number in [early, late, near] {
            let body = format!("{{\"sha\": \"{}\", \"basename\": \"x\", \"mode\": 33188}}", Sha256::of(b"x"));
            let put = client.put_object().bucket(&bucket).key(format!("web/versions/{number}"));
            put.body(body.into_bytes().into()).send().await.expect("written");
        }
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(ran.code, Some(0), "warnings are no failure: {ran:?}");
    let found = checks(&ran);
    let (word_of_times, text) = &found["times of versions"];
    assert_eq!(word_of_times, "warning");
    assert!(text.starts_with("2 are off") && text.contains(&early.to_string()), "{text}");
    assert!(text.contains(&late.to_string()) && !text.contains(&near.to_string()), "{text}");
    assert_eq!(word(&found, "hints for old readers"), "warning", "{ran:?}");
    assert!(found["hints for old readers"].1.contains("--repair"), "{ran:?}");
    let repaired = home.run(&["doctor", "--no-probe", "--repair"]);
    assert_eq!(word(&checks(&repaired), "hints for old readers"), "ok", "{repaired:?}");
    let again = home.run(&["doctor", "--no-probe"]);
    assert_eq!(word(&checks(&again), "hints for old readers"), "ok", "{again:?}");
    assert_eq!(home.run(&["info", "web", "latest", "-o", "json"]).json()["version"], late);
}

#[test]
fn what_is_broken_is_told_with_its_exit_code() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    gate.know_secret(server.access_key, server.secret_key);
    let blobs = unique("store");
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://{}?endpoint={}", unique("ill"), gate.url()))
        .with("SACKER_STORE", &server.uri(&blobs))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    home.run(&["init", "--no-probe"]).answer();
    home.file("x", "x");
    home.run(&["add", "web", "x"]).answer();

    // A blob that is gone.
    let blob = Sha256::of(b"x").to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        client.delete_object().bucket(&blobs).key(&blob).send().await.expect("deleted");
    });
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!((ran.code, word(&checks(&ran), "blobs")), (Some(5), "failed"), "{ran:?}");

    // A clock that is off, and a server that ignores conditions.
    gate.set_rules(vec![Rule::new(Match::default(), Action::RewriteDate(ServerDate::Offset(10)))]);
    let ran = home.run(&["doctor", "--no-probe"]);
    assert_eq!(word(&checks(&ran), "clock"), "warning", "{ran:?}");
    let strip = Action::Strip("if-none-match".to_owned());
    gate.set_rules(vec![Rule::new(Match::target("PutObject"), strip)]);
    let ran = home.run(&["doctor"]);
    assert_eq!((ran.code, word(&checks(&ran), "conditional writes")), (Some(2), "failed"), "{ran:?}");
    gate.close();
    let ran = home.run(&["doctor", "--timeout", "1s"]);
    assert_eq!((ran.code, word(&checks(&ran), "ledger")), (Some(7), "failed"), "{ran:?}");
}

/// `init` refuses a server that is broken, unless told not to look.
#[test]
fn init_refuses_a_broken_server() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = Gate::start(&server.endpoint, 0);
    gate.know_secret(server.access_key, server.secret_key);
    gate.set_rules(vec![Rule::new(Match::target("PutObject"), Action::AcceptAbsentIfMatch)]);
    let home = Home::new()
        .with("SACKER_LEDGER", &format!("s3://{}?endpoint={}", unique("refused"), gate.url()))
        .with("AWS_ACCESS_KEY_ID", server.access_key)
        .with("AWS_SECRET_ACCESS_KEY", server.secret_key);
    let ran = home.run(&["init"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("exchange of an absent key is refused"), "{ran:?}");
    assert!(ran.stderr.contains("?single_writer=true"), "{ran:?}");
}
