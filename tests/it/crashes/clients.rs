//! Clients that are killed from outside, at random times: what the crash points do not know.

use std::time::{Duration, Instant};

use super::site::{Ended, Site};
use super::story::{Step, Story};
use crate::support::ledgers::Target;
use crate::support::tier;

/// After so many deaths the story goes on with another package: the oracle reads a package whole.
const PER_PACKAGE: u32 = 20;

/// How long an `add` takes when nobody disturbs it, the longest of a few.
fn whole_run(site: &Site) -> Duration {
    let mut story = Story::new(site);
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let step = Step::Add(site.new_file(0));
        let started = Instant::now();
        story.succeed(&step, "undisturbed");
        longest = longest.max(started.elapsed());
    }
    longest
}

/// Runs `sacker` and kills it after `delay`, unless it was quicker.
fn run_and_kill(site: &Site, arguments: &[String], delay: Duration) -> Ended {
    let mut client = site.command(arguments).spawn().expect("sacker starts");
    // The random time is the fault, not a wait for anything.
    std::thread::sleep(delay);
    client.kill().expect("it is ours to kill");
    let ended = client.wait_with_output().expect("sacker ends").into();
    site.wait_for_orphans();
    ended
}

fn random_kills(target: Target, kills: u32) {
    let seed = tier::seed(&format!("crashes::clients::{target:?}"));
    let mut random = fastrand::Rng::with_seed(seed);
    let Some(site) = Site::open(target) else { return };
    let mut whole = whole_run(&site);
    let started = Instant::now();
    let (mut killed, mut operations) = (0, 0);
    while killed < kills {
        let mut story = Story::new(&site);
        let end = (killed + PER_PACKAGE).min(kills);
        while killed < end {
            let step = story.any_step(&mut random);
            // Most of them while it works; some before it begins, some when it was done.
            let delay = whole.mul_f64(random.f64() * 1.2);
            let before = killed;
            story.attempt(&step, |arguments| {
                let ended = run_and_kill(&site, &arguments, delay);
                killed += u32::from(ended == Ended::Killed);
                ended
            });
            operations += 1;
            // The machine becomes busier and quieter: the kills keep to the time that a run takes.
            whole = whole.mul_f64(if killed == before { 0.9 } else { 1.1 });
            story.check(&format!("{target:?}: {step:?} after {killed} kills"));
        }
        story.succeed(&Step::Add(site.new_file(0)), "after the last kill");
        story.check("after the last kill");
        assert_eq!(site.leftovers(), Vec::<std::path::PathBuf>::new(), "something was left");
    }
    tier::summary(&format!(
        "V5-clients backend={target:?} seed={seed} operations={operations} kills={killed} violations=0 seconds={}",
        started.elapsed().as_secs()
    ));
}

#[test]
fn file() {
    random_kills(Target::File, tier::figure(20, 5000));
}

#[test]
fn git() {
    random_kills(Target::Git, tier::figure(20, 500));
}

#[test]
fn dynamo() {
    random_kills(Target::Dynamo, tier::figure(20, 1000));
}

#[test]
fn zookeeper() {
    random_kills(Target::ZooKeeper, tier::figure(20, 1000));
}

#[test]
fn minio() {
    random_kills(Target::Minio, tier::figure(20, 1000));
}

#[test]
fn versitygw() {
    random_kills(Target::Versitygw, tier::figure(20, 1000));
}
