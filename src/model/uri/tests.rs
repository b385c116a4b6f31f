//! Round trips and refusals of every kind.

use super::*;

#[test]
fn round_trips() {
    for text in [
        "dynamo://us-east-1/sacker",
        "dynamo://us-east-1/sacker?endpoint=http://127.0.0.1:8000",
        "s3://bucket",
        "s3://bucket/a/b",
        "s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu-west-1&versions=sequence",
        "s3://bucket?endpoint=http://127.0.0.1:9000&path_style=false",
        "file:///var/lib/sacker/ledger",
    ] {
        let uri: LedgerUri = text.parse().expect(text);
        assert_eq!(uri.to_string(), text);
    }
}

#[test]
fn stores_have_parameters_of_their_own() {
    for text in ["s3://bucket?create_only=true&grace=48h", "file:///var/blobs?grace=2s"] {
        let uri: StoreUri = text.parse().expect(text);
        assert_eq!(uri.to_string(), text);
        let error = text.parse::<LedgerUri>().expect_err("not for ledgers").to_string();
        assert!(error.contains("unknown parameter"), "{error}");
    }
    let error = "file:///var/blobs?grace=1s".parse::<StoreUri>().expect_err("too short").to_string();
    assert!(error.contains("grace is a time of at least 2s"), "{error}");
}

#[test]
fn several_stores_are_separated_by_white_space() {
    let stores: StoreUris = " s3://one\n file:///two\ts3://three ".parse().expect("three");
    assert_eq!((stores.len(), stores.to_string().as_str()), (3, "s3://one file:///two s3://three"));
    for (text, rule) in
        [("", "no store is named"), ("s3://one s3://one", "named twice"), ("s3://one ftp://x", "not a kind")]
    {
        let error = text.parse::<StoreUris>().expect_err(text).to_string();
        assert!(error.contains(rule), "{error}");
    }
}

#[test]
fn a_path_has_one_spelling() {
    let uri: LedgerUri = "file:////var/./lib//sacker/".parse().expect("a URI");
    assert_eq!(uri.to_string(), "file:///var/lib/sacker");
}

#[test]
fn refusals_name_the_rule_and_hide_credentials() {
    for (text, rule) in [
        ("bucket", "must look like"),
        ("ftp://x/y", "not a kind of ledger"),
        ("s3://key:secret@bucket", "credentials never stand in a URI"),
        ("s3://Bucket", "a bucket name has"),
        ("s3://bu", "a bucket name has"),
        ("s3://bucket?color=red", "unknown parameter 'color'"),
        ("s3://bucket?path_style=maybe", "'true' or 'false'"),
        ("s3://bucket?versions=random", "'sequence' or 'timestamp'"),
        ("s3://bucket?endpoint=ftp://h", "endpoint is not"),
        ("s3://bucket?endpoint=http://u:secret@h", "credentials never stand"),
        ("s3://bucket?endpoint=http://169.254.169.254", "link-local"),
        ("s3://bucket?endpoint=http://2852039166", "link-local"),
        ("s3://bucket?endpoint=http://[::ffff:169.254.169.254]", "link-local"),
        ("s3://bucket?endpoint=http://0xa9.0376.43518", "link-local"),
        ("s3://bucket?endpoint=http%3A%2F%2Fuser%3Asecret%40host", "credentials never stand"),
        ("s3://bucket?secret_key=secret", "unknown parameter 'secret_key'"),
        ("s3://bucket?wJalrXUtnFEMI/secret/bPxRfiCY", "unknown parameter (not a name)"),
        ("s3://bucket?path_style=secret", "'true' or 'false'"),
        ("s3://bucket?versions=sequence?key=secret", "'sequence' or 'timestamp'"),
        ("s3://key:secret?more@bucket", "a bucket name has"),
        ("key:secret@s3://bucket", "credentials never stand in a URI"),
        ("key:secret@bucket", "must look like"),
        ("bucket?secret_key=secret", "must look like"),
        ("ftp://x/y?password=secret", "not a kind of ledger"),
        ("file:///a/../b?token=secret", "'..'"),
        ("s3://bucket/a//b", "'//'"),
        ("dynamo://us-east-1", "3 to 250"),
        ("dynamo:///sacker", "dynamo://<region>/<prefix>"),
        ("dynamo://us-east-1/sacker-tags", "'-tags'"),
        ("file://relative/path", "absolute path"),
        ("file:///a/../b", "'..'"),
        ("file:///a#b", "'#'"),
        ("file:////", "not '/'"),
        ("file:///./", "not '/'"),
    ] {
        let error = text.parse::<LedgerUri>().expect_err(text).to_string();
        assert!(error.contains(rule), "{text}: {error}");
        assert!(!error.replace("'secret_key'", "").contains("secret"), "{error}");
    }
}
