use super::*;
use crate::model::{Hold, PackageName, Sha256, TagName};

fn context(package: &str, tag: Option<&str>) -> Context {
    Context {
        subject: Subject { package: Some(package.into()), tag: tag.map(str::to_owned) },
        ledger: Some("s3://ledger".into()),
        store: Some("s3://store".into()),
        deadline: Duration::from_secs(30),
        elapsed: Duration::from_millis(2849),
        init: "sacker init".into(),
        verbose: false,
    }
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The report as it is printed, without colour.
fn text(error: &Error, context: &Context, known: &Known) -> String {
    let report = report(error, context, known);
    let mut text = format!("error: {}", report.error);
    for hint in &report.hints {
        let _ = write!(text, "\nhint: {hint}");
    }
    text
}

fn no_package(name: &str) -> Error {
    Error::not_found(Missing::Package(PackageName::existing(name)))
}

fn no_tag(package: &str, tag: &str) -> Error {
    Error::not_found(Missing::Tag(PackageName::existing(package), TagName::existing(tag)))
}

#[test]
fn an_unknown_package() {
    let known = |names: &[&str]| Known { packages: Some(words(names)), ..Known::default() };
    insta::assert_snapshot!(
        text(&no_package("fronted"), &context("fronted", None), &known(&["backend", "frontend"])),
        @r"
    error: no package 'fronted' in s3://ledger
    hint: did you mean 'frontend'?
    "
    );
    insta::assert_snapshot!(
        text(&no_package("zebra"), &context("zebra", None), &known(&["a", "b", "c", "d", "e", "with space", "g"])),
        @r"
    error: no package 'zebra' in s3://ledger
    hint: its packages: a, b, c, d, e and 2 more; see: sacker list
    "
    );
    insta::assert_snapshot!(
        text(&no_package("my app"), &context("my app", None), &known(&[])),
        @r"
    error: no package 'my app' in s3://ledger
    hint: the ledger has no packages yet; add one with: sacker add 'my app' FILE
    "
    );
    insta::assert_snapshot!(
        text(&no_package("zebra"), &context("zebra", None), &Known::default()),
        @r"
    error: no package 'zebra' in s3://ledger
    hint: see what there is with: sacker list
    "
    );
}

#[test]
fn an_unknown_tag() {
    let known = |names: &[&str]| Known { tags: Some(words(names)), ..Known::default() };
    let context = context("frontend", None);
    insta::assert_snapshot!(text(&no_tag("frontend", "live"), &context, &known(&["canary", "devel"])), @r"
    error: package 'frontend' has no tag 'live'
    hint: its tags: canary, devel; see: sacker tags frontend
    ");
    insta::assert_snapshot!(text(&no_tag("frontend", "canari"), &context, &known(&["canary", "devel"])), @r"
    error: package 'frontend' has no tag 'canari'
    hint: did you mean 'canary'?
    ");
    insta::assert_snapshot!(text(&no_tag("frontend", "live"), &context, &known(&[])), @r"
    error: package 'frontend' has no tag 'live'
    hint: it has no tags; set one with: sacker tag frontend latest live
    ");
}

#[test]
fn an_unknown_version_blob_or_backend() {
    let package = PackageName::existing("frontend");
    let version = |number| Version::new(number).expect("positive");
    let known = Known { versions: Some(vec![version(23), version(22)]), ..Known::default() };
    let context = context("frontend", None);
    let error = Error::not_found(Missing::Version(package.clone(), version(230)));
    insta::assert_snapshot!(text(&error, &context, &known), @r"
    error: package 'frontend' has no version 230
    hint: its newest versions: 23, 22; see: sacker versions frontend
    ");
    let error = Error::not_found(Missing::Removed(package, version(3)));
    insta::assert_snapshot!(text(&error, &context, &Known::default()), @r"
    error: version 3 of package 'frontend' was removed
    hint: see what there is with: sacker versions frontend
    ");
    let error = Error::not_found(Missing::Blob(Sha256::ZERO));
    insta::assert_snapshot!(text(&error, &context, &known), @r"
    error: s3://store has no blob 0000000000000000000000000000000000000000000000000000000000000000
    hint: is this the store it was added to? --store URI names another; adding the same file again restores it
    ");
    let error = Error::not_found(Missing::Backend("bucket 'ledger'".into()));
    insta::assert_snapshot!(text(&error, &context, &known), @r"
    error: bucket 'ledger' does not exist
    hint: if that is its right name, create it with: sacker init
    ");
}

#[test]
fn a_held_owned_or_moved_tag() {
    let context = context("frontend", Some("live"));
    let failed = |meaning| text(&Error::new(meaning, "change the tag"), &context, &Known::default());
    let hold = Hold {
        at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        by: "ann@host".into(),
        reason: "incident 4711".into(),
    };
    insta::assert_snapshot!(failed(Meaning::Held(hold)), @r"
    error: tag 'live' of package 'frontend' is held by 'ann@host' since 2026-11-21T10:00:00.000Z: incident 4711
    hint: end the hold with: sacker release frontend live
    ");
    insta::assert_snapshot!(failed(Meaning::Owned { owner: "k8s:prod/web/frontend-live".into() }), @r"
    error: tag 'live' of package 'frontend' is owned by 'k8s:prod/web/frontend-live'
    hint: change the SackerTag that owns it: kubectl -n web edit sackertag frontend-live
    hint: or, to go back and let nobody move it forward again: sacker rollback frontend live
    hint: or add --take-over: the owner then leaves the tag to you
    ");
    insta::assert_snapshot!(failed(Meaning::Conflict { expected: "version 2".into(), found: "version 3".into() }), @r"
    error: tag 'live' of package 'frontend': expected version 2, found version 3
    hint: see who moved it with: sacker history frontend live
    ");
}

#[test]
fn a_backend_that_refuses_or_stays_away() {
    let denied = Meaning::Denied { action: "s3:PutObject".into(), resource: "bucket 'ledger'".into() };
    let error = Error::new(denied, "write the tag").with_key("frontend/tags/live");
    insta::assert_snapshot!(text(&error, &context("frontend", None), &Known::default()), @r"
    error: access denied: s3:PutObject on bucket 'ledger' (cannot write the tag: frontend/tags/live)
    hint: check which credentials are in use and what they may do
    ");
    let error = Error::new(Meaning::Unavailable, "write the tag")
        .with_key("frontend/tags/live")
        .with_unsettled("0191-id")
        .with_hint("the endpoint is http://127.0.0.1:9000");
    insta::assert_snapshot!(text(&error, &context("frontend", Some("live")), &Known::default()), @r"
    error: the backend is unavailable (cannot write the tag: frontend/tags/live), given up 2.8 s after the start
    hint: the endpoint is http://127.0.0.1:9000
    hint: the write may have happened all the same; it did if its id 0191-id is in: sacker history frontend live -o json
    ");
}

#[test]
fn waiting_longer_is_offered_only_where_time_ran_out() {
    let error = Error::new(Meaning::Unavailable, "read the tag").with_key("frontend/tags/live");
    let mut context = context("frontend", Some("live"));
    insta::assert_snapshot!(text(&error, &context, &Known::default()), @r"
    error: the backend is unavailable (cannot read the tag: frontend/tags/live), given up 2.8 s after the start
    hint: try again; -v shows what lies under it
    ");
    context.elapsed = Duration::from_secs(31);
    insta::assert_snapshot!(text(&error, &context, &Known::default()), @r"
    error: the backend is unavailable (cannot read the tag: frontend/tags/live), given up 31.0 s after the start
    hint: try again, or wait longer with --timeout 2m
    ");
}

#[test]
fn a_ledger_that_is_not_there_has_no_packages_to_offer() {
    let known = Known { missing_backend: Some("directory '/mnt/ledger'".into()), ..Known::default() };
    insta::assert_snapshot!(text(&no_package("frontend"), &context("frontend", None), &known), @r"
    error: directory '/mnt/ledger' does not exist
    hint: if that is its right name, create it with: sacker init
    ");
}

#[test]
fn what_a_local_directory_refuses_is_no_matter_of_credentials() {
    let denied = Meaning::Denied { action: "create".into(), resource: "read-only file system".into() };
    let error = Error::new(denied, "create").with_key("/mnt/ledger");
    insta::assert_snapshot!(text(&error, &context("frontend", None), &Known::default()), @r"
    error: access denied: create on read-only file system (cannot create: /mnt/ledger)
    hint: check who owns the directory, and that it is not mounted read-only
    ");
}

#[test]
fn missing_credentials_are_named() {
    let denied = Meaning::Denied { action: "s3:ListBucket".into(), resource: "s3://ledger/".into() };
    let error = Error::new(denied, "list records").with_hint("no AWS credentials: nothing is set");
    insta::assert_snapshot!(text(&error, &context("frontend", None), &Known::default()), @r"
    error: access denied: s3:ListBucket on s3://ledger/ (cannot list records)
    hint: no AWS credentials: nothing is set
    hint: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    ");
}

#[test]
fn causes_are_listed_once() {
    let inner = std::io::Error::other("connection refused");
    let error = Error::new(Meaning::Unavailable, "read the tag").with_source(inner);
    assert_eq!(causes(&error), ["connection refused"]);
}

#[test]
fn words_are_quoted_for_the_shell() {
    for (word, expected) in [
        ("frontend-server", "frontend-server"),
        ("a/b@c", "a/b@c"),
        ("my app", "'my app'"),
        ("", "''"),
        ("it's", r"'it'\''s'"),
        ("$(reboot)", "'$(reboot)'"),
    ] {
        assert_eq!(typed(word), expected);
    }
}

#[test]
fn a_tag_that_is_owned_and_held_says_what_comes_first() {
    let hold = Hold {
        at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        by: "ann".into(),
        reason: "incident 4711".into(),
    };
    let known = Known { hold: Some(hold), ..Known::default() };
    let error = Error::new(Meaning::Owned { owner: "k8s:prod/web/frontend-live".into() }, "change the tag");
    insta::assert_snapshot!(text(&error, &context("frontend", Some("live")), &known), @r"
    error: tag 'live' of package 'frontend' is owned by 'k8s:prod/web/frontend-live'
    hint: it is also held by 'ann' since 2026-11-21T10:00:00.000Z: incident 4711; end the hold with: sacker release frontend live
    ");
}

#[test]
fn a_hint_of_the_backend_is_not_contradicted() {
    let known = Known { packages: Some(words(&["frontend"])), ..Known::default() };
    let error = no_package("frontend").with_hint("at 2026-11-21T10:00:00.000Z it had no version");
    insta::assert_snapshot!(text(&error, &context("frontend", None), &known), @r"
    error: no package 'frontend'
    hint: at 2026-11-21T10:00:00.000Z it had no version
    ");
    let meaning = Meaning::Conflict { expected: "no tag on version 1".into(), found: "tag 'live'".into() };
    let error = Error::new(meaning, "remove a version").with_hint("move the tag first");
    insta::assert_snapshot!(text(&error, &context("frontend", None), &known), @r"
    error: expected no tag on version 1, found tag 'live'
    hint: move the tag first
    ");
}

#[test]
fn counts() {
    assert_eq!(counted(1_u64, "tag"), "1 tag");
    assert_eq!([0, 2].map(|count: usize| counted(count, "tag")), ["0 tags", "2 tags"]);
}
