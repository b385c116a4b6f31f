//! Beside clients of 2015 (`docs/formats.md`, rows marked *2015*): what they write is read, what we write they can read,
//! and both may write to one package. The client is [`peer`]: raw requests, none of our code.
//!
//! A case is an `async fn(Bed)`; it is listed once below and becomes one test per backend.

mod adds;
mod golden;
mod load;
mod peer;
mod tags;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use peer::{Peer, sha};
use sacker::connect::Connect;
use sacker::error::Error;
use sacker::ledger::{self, InitOptions, Ledger, TagOutcome};
use sacker::model::{
    Actor, Change, Event, EventKind, EventSource, LedgerUri, NewVersion, PackageName, Removal, Sha256, Spec,
    TagChange, TagName, TagState, Version, VersionRecord, verify_chain,
};

use crate::support::ledgers::Target;
use crate::support::{testbed, unique};

/// A bucket or a pair of tables of one case's own, with a client of ours and one of 2015.
struct Bed {
    target: Target,
    uri: LedgerUri,
    connect: Connect,
    ledger: Arc<dyn Ledger>,
    peer: Peer,
    package: PackageName,
}

impl Bed {
    async fn open(target: Target) -> Option<Self> {
        let place = unique("legacy");
        let (uri, peer) = if target == Target::Dynamo {
            let server = testbed::dynamodb()?;
            let client =
                sacker::aws::dynamo_client("us-east-1", Some(&server.endpoint), &server.connect()).await;
            (server.uri(&place), Peer::dynamo(client.expect("a client"), &place))
        } else {
            let server = testbed::minio()?;
            (server.uri(&place), Peer::s3(server.client().await, &place))
        };
        let (uri, connect): (LedgerUri, _) = (uri.parse().expect("a ledger URI"), testbed::connect());
        let ledger = ledger::open(&uri, &connect).await.expect("the ledger opens");
        ledger.init(&InitOptions::default()).await.expect("the ledger is set up");
        let package = PackageName::new("cluster/role/env/job").expect("an allowed name");
        Some(Self { target, uri, connect, ledger, peer, package })
    }

    fn is_dynamo(&self) -> bool {
        self.target == Target::Dynamo
    }

    /// The package as the old client names it.
    fn name(&self) -> &str {
        self.package.as_str()
    }

    async fn add(&self, content: &str) -> Version {
        self.add_with(content, &[]).await.version
    }

    async fn add_with(&self, content: &str, metadata: &[(&str, &str)]) -> VersionRecord {
        self.ledger.add(&self.package, &new_version(content, metadata)).await.expect("it is added")
    }

    async fn old_add(&self, content: &str) -> Version {
        version(self.peer.add(self.name(), content, None).await.expect("the old client adds"))
    }

    async fn change(&self, name: &str, change: Change) -> Result<TagOutcome, Error> {
        let by = Actor { by: "alice".into(), reason: None, source: EventSource::Cli };
        self.ledger.change_tag(&self.package, &tag(name), &TagChange::new(change, by)).await
    }

    async fn tag(&self, name: &str, to: Version) {
        self.change(name, Change::Move { to, hold: None }).await.expect("the tag moves");
    }

    async fn untag(&self, name: &str) {
        self.change(name, Change::Untag).await.expect("the tag goes");
    }

    async fn old_tag(&self, name: &str, to: Version) {
        self.peer.tag(self.name(), &to.to_string(), name).await;
    }

    async fn state(&self, name: &str) -> Option<TagState> {
        self.ledger.tag(&self.package, &tag(name)).await.expect("the tag is read")
    }

    async fn points_to(&self, name: &str) -> Option<Version> {
        self.state(name).await.and_then(|state| state.version)
    }

    /// The history; its chain holds.
    async fn events(&self, name: &str) -> Vec<Event> {
        let events = self.ledger.history(&self.package, &tag(name)).await.expect("the history is read");
        verify_chain(&events).expect("one chain");
        events
    }

    /// The history in short.
    async fn told(&self, name: &str) -> Vec<(EventKind, EventSource, Option<Version>)> {
        self.events(name).await.iter().map(|event| (event.kind, event.source, event.to)).collect()
    }

    async fn resolve(&self, spec: &str) -> Result<VersionRecord, Error> {
        let spec: Spec = spec.parse().expect("a spec");
        self.ledger.resolve(&self.package, &spec).await.map(|resolved| resolved.record)
    }

    async fn remove(&self, version: Version) {
        let at = self.connect.clock.now();
        let removal = Removal { at, by: "alice".into(), reason: Some("broken".into()) };
        self.ledger.remove_version(&self.package, version, &removal).await.expect("it is removed");
    }
}

fn new_version(content: &str, metadata: &[(&str, &str)]) -> NewVersion {
    let pairs = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    NewVersion {
        sha256: Sha256::of(content.as_bytes()),
        size: content.len() as u64,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: pairs.collect::<BTreeMap<_, _>>(),
        added_by: "ci".into(),
        if_latest: None,
        add_id: uuid::Uuid::new_v4().to_string(),
    }
}

fn tag(name: &str) -> TagName {
    TagName::existing(name)
}

fn version(number: i64) -> Version {
    Version::new(number).expect("a positive number")
}

fn run<F: Future<Output = ()>>(target: Target, body: impl FnOnce(Bed) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let Some(bed) = Bed::open(target).await else { return };
        body(bed).await;
    });
}

macro_rules! on_backend {
    ($backend:ident, $target:ident, $($group:ident::$case:ident),* $(,)?) => {
        mod $backend {
            $(#[test]
            fn $case() {
                super::run(crate::support::ledgers::Target::$target, super::$group::$case);
            })*
        }
    };
}

macro_rules! scenarios {
    ($($cases:tt)*) => {
        on_backend!(dynamo, Dynamo, $($cases)*);
        on_backend!(s3, Minio, $($cases)*);
    };
}

scenarios! {
    golden::records_are_read,
    golden::tags_are_read,
    golden::odd_tags_can_be_removed,
    golden::odd_names_are_packages,
    golden::the_command_line_shows_them,
    golden::they_can_be_written_beside,
    adds::its_version_is_read,
    adds::its_metadata_is_read,
    adds::its_latest_is_ours,
    adds::our_version_is_read_by_it,
    adds::our_metadata_is_read_by_it,
    adds::our_latest_is_its,
    adds::our_package_is_listed_by_it,
    adds::its_package_is_listed_by_us,
    adds::our_own_records_are_nothing_to_it,
    adds::both_add_in_turn,
    adds::latest_that_went_backwards_is_repaired_by_the_next_add,
    adds::an_untagged_latest_hides_nothing_from_us,
    adds::adds_of_one_millisecond,
    adds::a_removed_version_is_read_by_it,
    adds::a_removed_number_is_not_given_again,
    adds::a_package_over_one_page,
    adds::our_retry_is_no_failure,
    tags::its_tag_is_read,
    tags::our_tag_is_read_by_it,
    tags::our_untag_does_not_exist_for_it,
    tags::its_untag_is_seen,
    tags::its_move_enters_the_history,
    tags::its_deletion_enters_the_history,
    tags::its_tag_after_our_untag,
    tags::a_hold_survives_its_overwrite,
    tags::a_word_where_a_number_belongs,
    tags::a_tag_to_nowhere,
    tags::a_number_as_a_tag,
    tags::it_sets_a_tag_back_to_what_it_was,
    tags::a_removed_version_that_it_tags,
    load::four_of_each_on_one_package,
}
