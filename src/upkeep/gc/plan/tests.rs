use super::*;

const GRACE: i64 = 100;
const PERIOD: i64 = 10;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
}

fn rules(two_steps: bool) -> Rules {
    Rules {
        grace: Duration::from_secs(100),
        period: Duration::from_secs(10),
        publish_within: Duration::from_secs(4),
        resolution: Duration::from_secs(1),
        two_steps,
        max_percent: None,
    }
}

fn blob(name: &str, modified: i64) -> StoredBlob {
    let sha256 = Sha256::of(name.as_bytes());
    StoredBlob { sha256, size: 1, modified: at(modified), revision: format!("r{modified}") }
}

/// Runs of collection over blobs that a test changes between them.
struct Store {
    blobs: Vec<StoredBlob>,
    referenced: Vec<Sha256>,
    manifest: Manifest,
    rules: Rules,
}

impl Store {
    fn new(blobs: &[StoredBlob], two_steps: bool) -> Self {
        let rules = rules(two_steps);
        Self { blobs: blobs.to_vec(), referenced: Vec::new(), manifest: Manifest::default(), rules }
    }

    /// One run at `now` that carries everything out at once.
    fn run(&mut self, now: i64) -> Vec<Verdict> {
        let is_referenced = |sha256: &Sha256| self.referenced.contains(sha256);
        let situation = Situation {
            now: at(now),
            blobs: &self.blobs,
            is_referenced: &is_referenced,
            manifest: &self.manifest,
        };
        let plan = plan(&situation, &self.rules);
        let mut next = plan.manifest_before(&self.manifest, at(now));
        for Decision { blob, verdict } in &plan.decisions {
            match verdict {
                Verdict::Delete { .. } => self.blobs.retain(|it| it != blob),
                Verdict::Hide { .. } => {
                    self.blobs.retain(|it| it != blob);
                    let entry = next.blobs.get_mut(&blob.sha256).expect("it is in the manifest");
                    assert_eq!(entry.state, State::Hiding, "the intention is written first");
                    (entry.state, entry.since) = (State::Hidden, at(now));
                    continue;
                }
                Verdict::Restore => self.blobs.push(blob.clone()),
                Verdict::Purge { .. } => {}
                _ => continue,
            }
            next.blobs.remove(&blob.sha256);
        }
        self.manifest = next;
        plan.decisions.iter().map(|decision| decision.verdict).collect()
    }
}

#[test]
fn an_unreferenced_blob_goes_after_the_grace_and_a_period() {
    let mut store = Store::new(&[blob("a", 0)], false);
    assert_eq!(store.run(GRACE), [Verdict::TooYoung { until: at(GRACE + 1) }]);
    // Times are known to the second: exactly the grace is not enough.
    assert_eq!(store.run(GRACE + 1), [Verdict::TooYoung { until: at(GRACE + 1) }]);
    let first = GRACE + 2;
    assert_eq!(store.run(first), [Verdict::Condemn]);
    let (since, until) = (at(first), at(first + PERIOD));
    assert_eq!(store.run(first + PERIOD - 1), [Verdict::Waiting { since, until }]);
    assert_eq!(store.run(first + PERIOD), [Verdict::Delete { since }]);
    assert_eq!((store.run(first + PERIOD + 1), store.manifest.blobs.len()), (vec![], 0));
}

#[test]
fn a_reference_ends_a_condemnation() {
    let mut store = Store::new(&[blob("a", 0)], false);
    assert_eq!(store.run(200), [Verdict::Condemn]);
    store.referenced.push(Sha256::of(b"a"));
    assert_eq!((store.run(300), store.manifest.blobs.len()), (vec![Verdict::Referenced], 0));
    // Without it the whole way begins again.
    store.referenced.clear();
    assert_eq!(store.run(400), [Verdict::Condemn]);
}

#[test]
fn a_blob_that_was_written_again_was_not_condemned() {
    let mut store = Store::new(&[blob("a", 0)], false);
    assert_eq!(store.run(200), [Verdict::Condemn]);
    store.blobs = vec![blob("a", 205)];
    assert_eq!(store.run(300), [Verdict::TooYoung { until: at(306) }]);
    assert!(store.manifest.blobs.is_empty());
    // Also if it is old again when the next run comes.
    store.run(200);
    store.blobs = vec![blob("a", 90)];
    assert_eq!(store.run(400), [Verdict::Condemn]);
}

#[test]
fn a_run_touches_its_share_and_no_more() {
    let blobs: Vec<_> = (0..25).map(|number| blob(&number.to_string(), 0)).collect();
    let mut store = Store::new(&blobs, false);
    store.rules.max_percent = Some(10);
    store.run(200);
    let verdicts = store.run(300);
    let since = at(200);
    assert_eq!(
        verdicts.iter().filter(|it| **it == Verdict::Delete { since }).count(),
        3,
        "a tenth, rounded up"
    );
    assert_eq!(verdicts.iter().filter(|it| **it == Verdict::Postponed { since }).count(), 22);
    // What was postponed stays condemned since then.
    assert!(store.run(301).contains(&Verdict::Delete { since }));
}

#[test]
fn two_steps_hide_first() {
    let mut store = Store::new(&[blob("a", 0)], true);
    store.run(200);
    assert_eq!(store.run(210), [Verdict::Hide { since: at(200) }]);
    assert!(store.blobs.is_empty());
    assert_eq!(store.run(221), [Verdict::Hidden { since: at(210), until: at(221) }]);
    assert_eq!(store.run(222), [Verdict::Purge { since: at(210) }]);
    assert!(store.manifest.blobs.is_empty());
}

#[test]
fn a_hidden_blob_that_is_referred_to_comes_back() {
    let mut store = Store::new(&[blob("a", 0)], true);
    store.run(200);
    store.run(210);
    store.referenced.push(Sha256::of(b"a"));
    assert_eq!(store.run(500), [Verdict::Restore], "however late");
    assert_eq!(store.run(501), [Verdict::Referenced]);
}

#[test]
fn what_is_hidden_is_never_forgotten() {
    let mut store = Store::new(&[blob("a", 0)], true);
    store.rules.max_percent = Some(1);
    store.run(200);
    store.run(210);
    // Written again on top, and old and unreferenced itself: first the hidden one goes, then the new one is judged.
    store.blobs.push(blob("a", 50));
    let verdicts = store.run(230);
    assert!(verdicts.contains(&Verdict::Purge { since: at(210) }), "{verdicts:?}");
    assert_eq!(store.run(231), [Verdict::Condemn]);
}

#[test]
fn an_interrupted_hiding_is_taken_up_again_in_full() {
    let mut store = Store::new(&[], true);
    let blobs: Vec<_> = (0..5).map(|number| blob(&number.to_string(), 0)).collect();
    for it in &blobs {
        store.manifest.blobs.insert(it.sha256, condemned(it, State::Hiding, at(200)));
    }
    store.rules.max_percent = Some(1);
    // They may be hidden already: a share that left one out would leave it hidden for ever.
    assert!(store.run(300).iter().all(|it| *it == Verdict::Hide { since: at(200) }));
    assert_eq!(store.manifest.blobs.len(), 5);
    // One that is referred to by then is shown.
    store.manifest.blobs.values_mut().for_each(|it| it.state = State::Hiding);
    store.referenced = blobs.iter().map(|blob| blob.sha256).collect();
    assert!(store.run(301).iter().all(|it| *it == Verdict::Restore));
}

/// The inequality that everything hangs on: whoever skips the upload of a fresh blob has written its reference before any
/// run can have the blob on its list.
#[test]
fn a_skipped_upload_is_referred_to_before_the_blob_can_be_listed() {
    for seconds in [2, 3, 10, 3600, 86_400] {
        let timing = Timing::new(Some(Duration::from_secs(seconds)));
        let rules = Rules::new(timing, false);
        let written = at(0);
        let latest_skip =
            (0..200_000).map(at).take_while(|now| timing.is_fresh(Some(written), Some(*now))).last();
        let Some(skip) = latest_skip else { continue };
        // The date of the look is cut to seconds, so it was up to one later.
        let referred = later(skip, rules.publish_within + RESOLUTION);
        let listed_from = later(written, rules.grace);
        assert!(referred < listed_from, "grace {seconds} s: {referred} {listed_from}");
    }
}
