//! The probe: sound servers pass it, also side by side (V8); servers that ignore or invert a condition fail it, and are
//! refused for writes until they are mended, or somebody says that there is only one writer.

use std::time::Instant;

use rstest::rstest;
use sacker::error::Meaning;
use sacker::exit::Exit;
use sacker::ledger::{self, InitOptions, Ledger, ProbeOptions};
use sacker::model::{
    Actor, Change, EventSource, LedgerUri, NewVersion, Numbering, PackageName, Sha256, TagChange, TagName,
};

use crate::support::faultgate::{Action, Gate, Match, Rule};
use crate::support::ledgers::Target;
use crate::support::testbed::{self, S3Server};
use crate::support::{tier, unique};

fn server(name: &str) -> Option<S3Server> {
    if name == "minio" { testbed::minio() } else { testbed::versitygw() }
}

/// The S3 servers of the test bed: 8 parallel creates and 8 parallel exchanges a round, one winner each.
#[rstest]
#[tokio::test]
async fn sound_servers_pass(#[values("minio", "versitygw")] name: &str) {
    let Some(server) = server(name) else { return };
    let bucket = unique("probe");
    let uri: LedgerUri = server.uri(&format!("{bucket}/in/here")).parse().expect("a URI");
    let ledger = ledger::open(&uri, &server.connect()).await.expect("opened");
    ledger.init(&InitOptions::default()).await.expect("set up");
    let options = ProbeOptions { racers: 8, rounds: tier::figure(50, 200) };
    let start = Instant::now();
    let report = ledger.probe(&options).await.expect("an answer");
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(report.checks.len(), 8, "{report:?}");
    assert!(report.checks.iter().all(|check| check.broken.is_none()), "{report:?}");
    let left =
        server.client().await.list_objects_v2().bucket(&bucket).prefix("in/here/_sacker/probe/").send();
    assert_eq!(left.await.expect("listed").contents(), [], "a probe removes its keys");
    if tier::is_soak() {
        let rounds = options.rounds;
        tier::summary(&format!(
            "V8 backend={name} seed=0 operations={} faults=0 violations=0 seconds={seconds:.1}",
            rounds * options.racers * 2
        ));
    }
}

#[rstest]
#[tokio::test]
async fn other_ledgers_pass(
    #[values(Target::Memory, Target::File, Target::Dynamo, Target::ZooKeeper, Target::Git)] target: Target,
) {
    let Some(opened) = target.open().await else { return };
    let report = opened.ledger.probe(&ProbeOptions { racers: 8, rounds: 10 }).await.expect("an answer");
    assert!(report.checks.len() >= 5 && report.holds(), "{report:?}");
    if let Some(home) = &opened.home {
        let mut left = std::fs::read_dir(home.path().join("_sacker/probe")).expect("its directory");
        assert!(left.next().is_none(), "a probe removes its files");
    }
}

/// A fault that makes a sound server a broken one, and what the probe says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `If-None-Match` is ignored: creates overwrite.
    IgnoresIfNoneMatch,
    /// `If-Match` on an absent key answers 200, as older MinIO did.
    AcceptsAbsent,
    /// Conditions hold for most, but one create in five ignores its own: as under a race.
    RacesOnly,
}

impl Fault {
    fn rules(self) -> Vec<Rule> {
        let puts = || Match::target("PutObject");
        match self {
            Self::IgnoresIfNoneMatch => vec![Rule::new(puts(), Action::Strip("if-none-match".to_owned()))],
            Self::AcceptsAbsent => vec![Rule::new(puts(), Action::AcceptAbsentIfMatch)],
            Self::RacesOnly => {
                // The steps make fewer than ten requests of this kind; the races hundreds.
                let races = Match { header: Some(("if-none-match".to_owned(), "*".to_owned())), ..puts() };
                let mut rules: Vec<Rule> = Vec::new();
                for nth in [8, 15, 20, 27, 30, 35, 44, 49, 52, 60, 66, 71] {
                    let matches = Match { nth: Some(nth), ..races.clone() };
                    rules.push(Rule::new(matches, Action::Strip("if-none-match".to_owned())));
                }
                rules
            }
        }
    }

    fn broken(self) -> &'static str {
        match self {
            Self::IgnoresIfNoneMatch => "create an existing key is refused",
            Self::AcceptsAbsent => "exchange of an absent key is refused",
            Self::RacesOnly => "parallel creates of one key",
        }
    }
}

fn gate(server: &S3Server, fault: Fault) -> Gate {
    let gate = Gate::start(&server.endpoint, 1);
    gate.know_secret(server.access_key, server.secret_key);
    gate.set_rules(fault.rules());
    gate
}

fn through(endpoint: &str, bucket: &str, more: &str) -> LedgerUri {
    format!("s3://{bucket}?endpoint={endpoint}{more}").parse().expect("a URI")
}

fn new() -> NewVersion {
    NewVersion {
        sha256: Sha256::of(b"x"),
        size: 1,
        basename: "x".into(),
        mode: 0o100_644,
        metadata: std::collections::BTreeMap::new(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

fn package() -> PackageName {
    PackageName::new("web").expect("an allowed name")
}

#[rstest]
#[tokio::test]
async fn a_broken_server_fails(
    #[values("minio", "versitygw")] name: &str,
    #[values(Fault::IgnoresIfNoneMatch, Fault::AcceptsAbsent, Fault::RacesOnly)] fault: Fault,
) {
    let Some(server) = server(name) else { return };
    let gate = gate(&server, fault);
    let bucket = unique("broken");
    let ledger = ledger::open(&through(&gate.url(), &bucket, ""), &server.connect()).await.expect("opened");
    let root = server.client().await;
    root.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let report = ledger.probe(&ProbeOptions { racers: 8, rounds: 10 }).await.expect("an answer");
    assert!(!report.holds(), "{report:?}");
    assert!(report.why().expect("a reason").starts_with(fault.broken()), "{report:?}");
    assert!(gate.hits().values().sum::<u64>() > 0, "the fault was never there");
    let left = root.list_objects_v2().bucket(&bucket).send().await.expect("listed");
    assert_eq!(left.contents(), [], "a probe removes its keys");
}

/// The verdict is kept in the ledger: nobody writes there any more, whatever way they come, until the server is mended.
#[tokio::test]
async fn a_broken_server_is_refused_for_writes() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = gate(&server, Fault::IgnoresIfNoneMatch);
    let (bucket, connect) = (unique("refused"), server.connect());
    let open = async |endpoint: &str, more: &str| {
        ledger::open(&through(endpoint, &bucket, more), &connect).await.expect("opened")
    };
    let probing = InitOptions { probe: true, ..InitOptions::default() };
    let refused = |error: sacker::error::Error| {
        assert!(matches!(error.meaning(), Meaning::Invalid { .. }), "{error:?}");
        assert_eq!(Exit::from(&error), Exit::Usage);
        assert!(error.to_string().contains(Fault::IgnoresIfNoneMatch.broken()), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("?single_writer=true")), "{error:?}");
    };
    refused(open(&gate.url(), "").await.init(&probing).await.expect_err("broken"));

    let later: std::sync::Arc<dyn Ledger> = open(&server.endpoint, "").await;
    gate.take_log();
    refused(later.add(&package(), &new()).await.expect_err("broken"));
    let live = TagName::new("live").expect("an allowed tag");
    let actor = Actor { by: "alice".into(), reason: None, source: EventSource::Cli };
    let change = || TagChange::new(Change::Untag, actor.clone());
    refused(
        open(&server.endpoint, "").await.change_tag(&package(), &live, &change()).await.expect_err("broken"),
    );

    let alone = open(&server.endpoint, "&single_writer=true").await;
    let added = alone.add(&package(), &new()).await.expect("one writer needs no conditions");
    assert_eq!(later.latest(&package()).await.expect("reading is allowed").version, added.version);
    let lines =
        open(&gate.url(), "&single_writer=true").await.init(&probing).await.expect("as the user says");
    assert!(lines.iter().any(|line| line.contains("single writer only")), "{lines:?}");

    // A better release of the same server.
    open(&server.endpoint, "").await.init(&probing).await.expect("sound");
    open(&server.endpoint, "").await.add(&package(), &new()).await.expect("mended");
}

/// The numbering of a ledger is chosen once, also where the server would let it be overwritten.
#[tokio::test]
async fn setting_up_again_on_a_broken_server_keeps_the_numbering() {
    let Some(server) = testbed::versitygw() else { return };
    let gate = gate(&server, Fault::IgnoresIfNoneMatch);
    let (bucket, connect) = (unique("again"), server.connect());
    let open = async |endpoint: &str| {
        let uri = through(endpoint, &bucket, "&single_writer=true");
        ledger::open(&uri, &connect).await.expect("opened")
    };
    let sequence = InitOptions { numbering: Some(Numbering::Sequence), ..InitOptions::default() };
    open(&server.endpoint).await.init(&sequence).await.expect("set up");
    open(&gate.url()).await.init(&InitOptions::default()).await.expect("it is there");
    let added = open(&server.endpoint).await.add(&package(), &new()).await.expect("added");
    assert_eq!(added.version.get(), 1);
}

/// A busy server is not a broken one.
#[tokio::test]
async fn a_busy_server_is_probed_all_the_same() {
    use crate::support::faultgate::Refusal;
    let Some(server) = testbed::minio() else { return };
    let gate = Gate::start(&server.endpoint, 7);
    let bucket = unique("busy");
    server.client().await.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    // Seldom enough for the probe's patience, and sure to come in several hundred requests.
    gate.set_rules(vec![Rule::new(
        Match::target("PutObject").share(0.03),
        Action::Status(Refusal::SlowDown),
    )]);
    let ledger = ledger::open(&through(&gate.url(), &bucket, ""), &server.connect()).await.expect("opened");
    let report = ledger.probe(&ProbeOptions { racers: 8, rounds: 20 }).await.expect("an answer");
    assert!(report.holds(), "{report:?}");
    assert!(gate.hits().get("status").is_some_and(|hits| *hits > 0), "{:?}", gate.hits());
}
