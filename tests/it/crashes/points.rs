//! Every crash point, on every ledger where a command reaches it.
//!
//! A command runs once with a trace, which tells the points on its way; then once for each of them, armed there, on a
//! package of its own. Every run of the suite takes one passing of each point at random, a soak takes them all, several
//! times.

use std::collections::{BTreeMap, BTreeSet};

use sacker::crash_point::POINTS;

use super::site::{Ended, Site};
use super::story::{Step, Story, digest};
use crate::support::ledgers::Target;
use crate::support::tier;

/// A blob of this size goes to S3 in parts.
const LARGE: u64 = 65 << 20;

/// A request that dies, and what was there before.
struct Scenario {
    name: &'static str,
    prepare: fn(&mut Story<'_>),
    step: fn(&Story<'_>) -> Step,
    on: fn(Target) -> bool,
    /// Dies only at points that begin so: others are cheaper to reach elsewhere.
    only: &'static str,
    place: Place,
    /// Whether the oracle holds at the death already: not before there is a ledger, nor while a version waits for its
    /// hidden blob.
    is_whole: bool,
}

/// Where a scenario takes place.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// On a package of its own beside those of the others.
    Shared,
    /// Where nobody set anything up.
    Unmade,
    /// Alone: collection deletes what all others left, and an export writes it.
    Own,
    /// Alone, and what is deleted is hidden first.
    CreateOnly,
}

/// What most scenarios have in common.
const SHARED: Scenario = Scenario {
    name: "",
    prepare: |_| {},
    step: new_file,
    on: |_| true,
    only: "",
    place: Place::Shared,
    is_whole: true,
};

/// Where there are parts.
const ON_S3: fn(Target) -> bool = |target| matches!(target, Target::Minio | Target::Versitygw);

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "init", step: |_| Step::Init, place: Place::Unmade, is_whole: false, ..SHARED },
    Scenario { name: "first add", ..SHARED },
    Scenario { name: "next add", prepare: |story| story.have_versions(2), ..SHARED },
    Scenario {
        name: "add of known bytes",
        prepare: |story| story.have_known_bytes(),
        step: known_file,
        ..SHARED
    },
    Scenario {
        name: "large add",
        prepare: |story| story.have_versions(1),
        step: |story| Step::Add(story.site.new_file(LARGE)),
        on: ON_S3,
        only: "store.s3.",
        ..SHARED
    },
    Scenario { name: "first tag", prepare: |story| story.have_versions(1), step: tag_newest, ..SHARED },
    Scenario { name: "tag", prepare: tagged, step: tag_newest, ..SHARED },
    Scenario { name: "untag", prepare: tagged, step: |_| Step::Untag(LIVE), ..SHARED },
    Scenario { name: "tag after untag", prepare: untagged, step: tag_newest, ..SHARED },
    Scenario { name: "remove", prepare: tagged, step: |story| Step::Remove(story.newest()), ..SHARED },
    Scenario {
        name: "add of known and old bytes",
        prepare: |story| {
            story.have_known_bytes();
            story.site.age_blobs();
        },
        step: known_file,
        on: ON_FILES,
        only: "store.",
        ..SHARED
    },
    Scenario {
        name: "export",
        prepare: |story| {
            tagged(story);
            story.have_export();
        },
        step: |_| Step::Export,
        on: ON_FILES,
        only: "export.",
        place: Place::Own,
        ..SHARED
    },
    Scenario {
        name: "gc",
        prepare: garbage,
        step: |_| Step::Collect,
        on: ON_FILES,
        only: "gc.",
        place: Place::Own,
        ..SHARED
    },
    Scenario { name: "gc that hides", prepare: condemned, only: "gc.hide.", ..IN_TWO_STEPS },
    Scenario {
        name: "gc that deletes what is hidden",
        prepare: |story| hidden(story, "delete"),
        only: "gc.purge.",
        ..IN_TWO_STEPS
    },
    Scenario {
        name: "gc that shows again",
        prepare: |story| {
            hidden(story, "hidden");
            story.have_again(story.versions()[0]);
        },
        only: "gc.restore.",
        is_whole: false,
        ..IN_TWO_STEPS
    },
];

/// Where writers cannot make a blob younger.
const IN_TWO_STEPS: Scenario = Scenario {
    step: |_| Step::Collect,
    on: |target| matches!(target, Target::Minio),
    place: Place::CreateOnly,
    ..SHARED
};

impl Scenario {
    /// Whether it dies at this point. What the ledger beside a store in HDFS does is looked at elsewhere; there a blob needs
    /// a directory only where none has the same first digits, which is certain for the first.
    fn dies_at(&self, target: Target, name: &str) -> bool {
        match target {
            Target::Hdfs => {}
            // What is the same on files dies there, where a process costs less.
            Target::Git => {
                return name.starts_with(self.only)
                    && (name.starts_with("git.") || name.starts_with("ledger."));
            }
            _ => return name.starts_with(self.only),
        }
        name.starts_with("store.hdfs.")
            && (!name.starts_with("store.hdfs.directory.") || self.name == "first add")
    }

    /// Where it takes place. A store in HDFS has nothing yet, not even its directories.
    fn place(&self, target: Target) -> Place {
        match self.place {
            Place::Shared if target == Target::Hdfs => Place::Own,
            place => place,
        }
    }
}

/// Where the age of a blob can be set.
const ON_FILES: fn(Target) -> bool = |target| !ON_S3(target) && target != Target::Git;

const LIVE: &str = "live";

fn new_file(story: &Story<'_>) -> Step {
    Step::Add(story.site.new_file(0))
}

fn known_file(story: &Story<'_>) -> Step {
    Step::Add(story.known_file())
}

fn tag_newest(story: &Story<'_>) -> Step {
    Step::Tag { tag: LIVE, to: story.newest() }
}

/// Two versions, and a tag at the first.
fn tagged(story: &mut Story<'_>) {
    story.have_versions(2);
    story.have_tag(LIVE, Some(story.versions()[0]));
}

/// One version with its blob, one without a need for it, and what an upload left.
fn garbage(story: &mut Story<'_>) {
    story.have_versions(2);
    story.have_removed(story.versions()[0]);
    story.site.age_blobs();
    // The first run condemns, the next one deletes. Waiting in one run would wait for the grace of younger blobs too.
    story.succeed(&Step::Collect, "condemning");
    story.site.leave_unfinished();
}

/// A blob without a need for it that the next collection hides.
fn condemned(story: &mut Story<'_>) {
    story.have_versions(2);
    story.have_removed(story.versions()[0]);
    story.collect_until("hide");
}

/// The same, hidden, and by now `verdict`.
fn hidden(story: &mut Story<'_>, verdict: &str) {
    condemned(story);
    story.succeed(&Step::Collect, "hiding");
    story.collect_until(verdict);
}

fn untagged(story: &mut Story<'_>) {
    tagged(story);
    story.have_tag(LIVE, None);
}

/// The points that some command reaches on this target.
fn reachable(target: Target) -> BTreeSet<&'static str> {
    // Collection, in one step and in two.
    let (delete, hide) =
        (["gc.delete.", "gc.discard.", "gc.manifest."], ["gc.hide.", "gc.purge.", "gc.restore."]);
    let areas: Vec<&str> = match target {
        Target::Dynamo => [&delete[..], &["dynamo.", "export.", "files.", "store.file."]].concat(),
        Target::Minio => [&hide[..], &["ledger.", "store.s3."]].concat(),
        Target::Versitygw => vec!["ledger.", "store.s3."],
        Target::ZooKeeper => {
            [&delete[..], &["export.", "files.", "ledger.", "store.file.", "zookeeper."]].concat()
        }
        Target::Hdfs => vec!["store.hdfs."],
        Target::Git => vec!["git.", "ledger."],
        _ => [&delete[..], &["export.", "file.", "files.", "ledger.", "store.file."]].concat(),
    };
    // Where a pointer and its row are one step, no command of ours writes a row alone.
    let is_in_one_step =
        |name: &str| matches!(target, Target::ZooKeeper | Target::Git) && name.starts_with("ledger.archive.");
    let reaches = |name: &&str| areas.iter().any(|area| name.starts_with(area)) && !is_in_one_step(name);
    POINTS.iter().copied().filter(reaches).collect()
}

/// Whether a point on this target dies in a scenario. In every run on git, each does so at least once, and in a quarter of the
/// scenarios that reach it again: each death costs a dozen commits.
fn dies(target: Target, name: &str, died: &mut BTreeSet<String>, random: &mut fastrand::Rng) -> bool {
    target != Target::Git || died.insert(name.to_owned()) || tier::is_soak() || random.u8(..4) == 0
}

/// The points on the way of a scenario, each with the number of its passings.
fn trace(site: &Site, scenario: &Scenario) -> BTreeMap<String, u32> {
    let mut story = Story::new(site);
    (scenario.prepare)(&mut story);
    let step = (scenario.step)(&story);
    let arguments = story.begin(&step);
    let file = site.path("trace");
    let _ = std::fs::remove_file(&file);
    let output = site.command(&arguments).env("SACKER_CRASH_TRACE", &file).output().expect("sacker starts");
    let answer = match output.into() {
        Ended::Acknowledged(answer) => answer,
        ended => panic!("{} fails: {ended:?}", scenario.name),
    };
    story.acknowledge(&step, &answer);
    story.check(scenario.name);
    let mut passed = BTreeMap::new();
    for name in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let name = name.split('\t').next().unwrap_or(name);
        *passed.entry(name.to_owned()).or_default() += 1;
    }
    passed
}

/// One death, the oracle, the same request again, the oracle, and a normal add that leaves nothing behind.
fn die(site: &Site, scenario: &Scenario, name: &str, nth: u32) {
    let when = format!("{:?}: '{}' died at {name}:{nth}", site.target, scenario.name);
    let mut story = Story::new(site);
    (scenario.prepare)(&mut story);
    let step = (scenario.step)(&story);
    let arguments = story.begin(&step);
    let output = site.command(&arguments).env("SACKER_CRASH_AT", format!("{name}:{nth}")).output();
    let ended = Ended::from(output.expect("sacker starts"));
    assert_eq!(ended, Ended::Killed, "{when}: the point was not hit");
    if scenario.is_whole {
        story.check(&when);
    }
    story.succeed(&step, &format!("{when}, again"));
    story.succeed(&new_file(&story), &format!("{when}, next"));
    story.check(&format!("{when}, again and next"));
    assert_eq!(site.leftovers(), Vec::<std::path::PathBuf>::new(), "{when}: something was left");
    if let Step::Add(file) = &step
        && ON_S3(site.target)
    {
        site.discard(&digest(file));
    }
}

fn every_point(target: Target) {
    const { assert!(cfg!(debug_assertions), "crash points are in debug builds only") };
    let Some(site) = Site::open(target) else { return };
    let rounds = tier::figure(1, 20);
    let seed = tier::seed(&format!("crashes::points::{target:?}"));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut hit, mut died, mut deaths) = (BTreeSet::new(), BTreeSet::new(), 0);
    let started = std::time::Instant::now();
    for scenario in SCENARIOS.iter().filter(|scenario| (scenario.on)(target)) {
        let own = || {
            let opened = match scenario.place(target) {
                Place::Shared => return None,
                Place::Unmade => Site::unmade(target),
                Place::Own => Site::open(target),
                Place::CreateOnly => Site::create_only(target),
            };
            Some(opened.expect("the server is there"))
        };
        let passed = trace(own().as_ref().unwrap_or(&site), scenario);
        hit.extend(passed.keys().filter(|name| scenario.dies_at(target, name)).cloned());
        for (name, count) in passed.into_iter().filter(|(name, _)| scenario.dies_at(target, name)) {
            if !dies(target, &name, &mut died, &mut random) {
                continue;
            }
            let nths: Vec<u32> = tier::figure(vec![random.u32(1..=count)], (1..=count).collect());
            for nth in nths.into_iter().flat_map(|nth| std::iter::repeat_n(nth, rounds)) {
                die(own().as_ref().unwrap_or(&site), scenario, &name, nth);
                deaths += 1;
            }
        }
    }
    let hit: BTreeSet<&str> = hit.iter().map(String::as_str).collect();
    assert_eq!(
        hit,
        reachable(target),
        "points of {target:?} that no scenario reaches, or that are new there"
    );
    tier::summary(&format!(
        "V5 backend={target:?} seed={seed} points={} deaths={deaths} violations=0 seconds={}",
        hit.len(),
        started.elapsed().as_secs()
    ));
}

/// No point is out of every target's reach. Those of the operator are looked at elsewhere.
#[test]
fn every_point_is_reachable_somewhere() {
    let targets = [Target::File, Target::Dynamo, Target::Minio, Target::ZooKeeper, Target::Git, Target::Hdfs];
    let all: BTreeSet<&str> = targets.into_iter().flat_map(reachable).collect();
    assert_eq!(all, POINTS.iter().copied().filter(|name| !name.starts_with("operator.")).collect());
}

#[test]
fn file() {
    every_point(Target::File);
}

#[test]
fn git() {
    every_point(Target::Git);
}

#[test]
fn dynamo() {
    every_point(Target::Dynamo);
}

#[test]
fn zookeeper() {
    every_point(Target::ZooKeeper);
}

#[test]
fn minio() {
    every_point(Target::Minio);
}

#[test]
fn hdfs() {
    every_point(Target::Hdfs);
}

#[test]
fn versitygw() {
    every_point(Target::Versitygw);
}
