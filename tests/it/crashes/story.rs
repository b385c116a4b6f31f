//! What was asked of one package and what was acknowledged, and the oracle that compares it with what is there.
//!
//! One client at a time works on a package, so the order of its requests is known. What was acknowledged must be there;
//! what was not may be there once; nothing else may.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt as _;
use sacker::connect::Connect;
use sacker::model::{
    Actor, Change, Event, EventSource, Hasher, NewVersion, Numbering, PackageName, Removal, Sha256,
    TagChange, TagName, Version, VersionRecord, verify_chain,
};
use sacker::store::BlobFile;

use super::forgetting::{Forgetting, NOTHING, Span};
use super::site::{Ended, Site};
use crate::support::{eventually, unique};

/// One request of a client.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// `sacker init`.
    Init,
    /// Adds this file.
    Add(PathBuf),
    Tag {
        tag: &'static str,
        to: Version,
    },
    Untag(&'static str),
    Remove(Version),
    /// Deletes every blob that is old and that nothing refers to.
    Collect,
    /// Writes the ledger over an earlier export.
    Export,
}

/// Where exports go, and what is there before.
const EXPORT: &str = "export.jsonl";
const OLD_EXPORT: &str = "an older export\n";

/// An attempt to add.
#[derive(Debug, Clone)]
struct Added {
    sha256: Sha256,
    /// Nothing while it was not acknowledged.
    version: Option<Version>,
    span: Span,
}

/// An attempt to change a tag.
#[derive(Debug, Clone)]
struct Moved {
    /// Unique: the event is recognised by it.
    reason: String,
    to: Option<Version>,
    acknowledged: bool,
    span: Span,
}

/// Everything that was asked of one package.
#[derive(Clone)]
pub(super) struct Story<'a> {
    pub(super) site: &'a Site,
    pub(super) package: PackageName,
    added: Vec<Added>,
    moved: BTreeMap<&'static str, Vec<Moved>>,
    /// Versions whose removal was asked for, and whether it was acknowledged.
    removed: BTreeMap<Version, bool>,
    /// A file that was added before.
    known: Option<PathBuf>,
    forgetting: &'a Forgetting,
}

/// The digest of a file.
pub(super) fn digest(path: &Path) -> Sha256 {
    Sha256::of(&std::fs::read(path).expect("the file is there"))
}

fn new_version(sha256: Sha256, size: u64) -> NewVersion {
    NewVersion {
        sha256,
        size,
        basename: "app.jar".into(),
        mode: 0o100_644,
        metadata: BTreeMap::new(),
        added_by: "crasher".into(),
        if_latest: None,
        add_id: unique("add"),
    }
}

fn tag_name(tag: &str) -> TagName {
    TagName::new(tag).expect("an allowed name")
}

impl<'a> Story<'a> {
    pub(super) fn new(site: &'a Site) -> Self {
        let package = PackageName::new(format!("crash/{}", unique("p"))).expect("an allowed name");
        Self {
            site,
            package,
            added: Vec::new(),
            moved: BTreeMap::new(),
            removed: BTreeMap::new(),
            known: None,
            forgetting: &NOTHING,
        }
    }

    /// A story of a server that forgets what it acknowledged.
    pub(super) fn that_is_forgotten(site: &'a Site, forgetting: &'a Forgetting) -> Self {
        Self { forgetting, ..Self::new(site) }
    }

    /// The same story of a copy of its ledger and store.
    pub(super) fn on<'b>(&self, site: &'b Site) -> Story<'b>
    where
        'a: 'b,
    {
        Story { site, ..self.clone() }
    }

    /// The newest version that was acknowledged.
    pub(super) fn newest(&self) -> Version {
        self.added.iter().filter_map(|added| added.version).max().expect("a version was added")
    }

    /// Versions that were acknowledged, oldest first.
    pub(super) fn versions(&self) -> Vec<Version> {
        self.added.iter().filter_map(|added| added.version).collect()
    }

    /// Adds `file` without a process.
    pub(super) fn have(&mut self, file: &Path) -> Version {
        let sha256 = digest(file);
        let size = std::fs::metadata(file).expect("the file is there").len();
        let new = new_version(sha256, size);
        let version = self.site.wait_for(async {
            let blob = BlobFile { path: file, sha256, size, scan: None };
            self.site.store.put(blob, &|_| {}).await.expect("the blob is stored");
            self.site.ledger.add(&self.package, &new).await.expect("the version is added").version
        });
        self.added.push(Added { sha256, version: Some(version), span: Span::begin() });
        version
    }

    /// Adds this many versions without a process.
    pub(super) fn have_versions(&mut self, count: usize) {
        for _ in 0..count {
            let file = self.site.new_file(0);
            self.have(&file);
        }
    }

    /// Adds a file without a process, for [`Story::known_file`].
    pub(super) fn have_known_bytes(&mut self) {
        let file = self.site.new_file(0);
        self.have(&file);
        self.known = Some(file);
    }

    /// Removes a version without a process.
    pub(super) fn have_removed(&mut self, version: Version) {
        let at = Connect::default().clock.now();
        let removal = Removal { at, by: "crasher".into(), reason: None };
        let removed = self.site.ledger.remove_version(&self.package, version, &removal);
        self.site.wait_for(removed).expect("the version is removed");
        self.removed.insert(version, true);
    }

    /// Adds the bytes of a version once more, as by a client that saw the blob and does not look again.
    pub(super) fn have_again(&mut self, version: Version) {
        let added = self.added.iter().find(|added| added.version == Some(version)).expect("it was added");
        let sha256 = added.sha256;
        let records = self.site.wait_for(self.site.ledger.versions(&self.package)).expect("versions");
        let record = records.iter().find(|record| record.version == version).expect("it is there");
        let new = new_version(sha256, record.size.expect("a size"));
        let again = self.site.wait_for(self.site.ledger.add(&self.package, &new)).expect("it is added again");
        self.added.push(Added { sha256, version: Some(again.version), span: Span::begin() });
    }

    /// Collects garbage until the next collection would do this to some blob: `verdict` as `sacker gc` prints it.
    pub(super) fn collect_until(&self, verdict: &str) {
        let collect = |arguments: &str| {
            let words = format!("gc --period 1ms --max-percent 100 -o json{arguments}");
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            match self.site.run(&words) {
                Ended::Acknowledged(items) => items.replace(' ', ""),
                ended => panic!("gc: {ended:?}"),
            }
        };
        let has = |items: &str, verdict: &str| items.contains(&format!("\"verdict\":\"{verdict}\""));
        let is_due = async || {
            let plan = collect("");
            if has(&plan, "condemn") {
                collect(" --delete --yes");
            }
            has(&plan, verdict)
        };
        self.site.wait_for(eventually(verdict, Duration::from_secs(30), is_due));
    }

    /// A file whose bytes are in the store.
    pub(super) fn known_file(&self) -> PathBuf {
        self.known.clone().expect("there is one")
    }

    /// Changes a tag without a process.
    pub(super) fn have_tag(&mut self, tag: &'static str, to: Option<Version>) {
        let reason = unique("reason");
        let by = Actor { by: "crasher".into(), reason: Some(reason.clone()), source: EventSource::Cli };
        let change = to.map_or(Change::Untag, |to| Change::Move { to, hold: None });
        let change = TagChange::new(change, by);
        let name = tag_name(tag);
        let changed = self.site.ledger.change_tag(&self.package, &name, &change);
        self.site.wait_for(changed).expect("the tag is changed");
        self.moved.entry(tag).or_default().push(Moved {
            reason,
            to,
            acknowledged: true,
            span: Span::begin(),
        });
    }

    /// The arguments of a request, which from now on may have happened.
    pub(super) fn begin(&mut self, step: &Step) -> Vec<String> {
        let package = self.package.to_string();
        let mut change = |tag: &'static str, to: Option<Version>| {
            let reason = unique("reason");
            self.moved.entry(tag).or_default().push(Moved {
                reason: reason.clone(),
                to,
                acknowledged: false,
                span: Span::begin(),
            });
            reason
        };
        match step {
            Step::Init => vec!["init".into()],
            Step::Collect => {
                let words = "gc --delete --yes --period 1ms --max-percent 100";
                words.split(' ').map(str::to_owned).collect()
            }
            Step::Export => vec!["export".into(), "-o".into(), self.site.path(EXPORT).display().to_string()],
            Step::Add(file) => {
                self.added.push(Added { sha256: digest(file), version: None, span: Span::begin() });
                vec!["add".into(), package, file.display().to_string()]
            }
            Step::Tag { tag, to } => {
                let reason = change(tag, Some(*to));
                vec!["tag".into(), package, to.to_string(), (*tag).into(), "--reason".into(), reason]
            }
            Step::Untag(tag) => {
                let reason = change(tag, None);
                vec!["untag".into(), package, (*tag).into(), "--yes".into(), "--reason".into(), reason]
            }
            Step::Remove(version) => {
                self.removed.entry(*version).or_insert(false);
                vec!["remove".into(), package, version.to_string(), "--yes".into()]
            }
        }
    }

    /// The last request of this kind was acknowledged with this answer.
    pub(super) fn acknowledge(&mut self, step: &Step, answer: &str) {
        match step {
            Step::Init | Step::Collect | Step::Export => {}
            Step::Add(_) => {
                let version = answer.trim_end().parse().unwrap_or_else(|_| panic!("no version: '{answer}'"));
                let added = self.added.last_mut().expect("it was begun");
                added.version = Some(version);
                added.span.end();
            }
            Step::Tag { tag, .. } | Step::Untag(tag) => {
                let moved = self.moved.get_mut(tag).and_then(|moved| moved.last_mut());
                let moved = moved.expect("it was begun");
                moved.acknowledged = true;
                moved.span.end();
            }
            Step::Remove(version) => {
                self.removed.insert(*version, true);
            }
        }
    }

    /// A request that somebody else may keep from its end: a client killed from outside, a server that is gone. Returns
    /// whether it was acknowledged.
    ///
    /// Fails the test for any refusal: nobody else writes to this package, so there is no reason for one.
    pub(super) fn attempt(&mut self, step: &Step, run: impl FnOnce(Vec<String>) -> Ended) -> bool {
        let arguments = self.begin(step);
        match run(arguments) {
            Ended::Acknowledged(answer) => {
                self.acknowledge(step, &answer);
                true
            }
            // Open: the outcome is not known, and sacker says so.
            Ended::Killed | Ended::Failed(Some(7), _) => false,
            Ended::Failed(Some(3), _) if matches!(step, Step::Untag(tag) if self.is_unset(tag)) => false,
            Ended::Failed(Some(3), _) if matches!(step, Step::Tag { to, .. } if self.is_forgotten(*to)) => {
                false
            }
            ended @ Ended::Failed(..) => panic!("{step:?}: {ended:?}"),
        }
    }

    /// Any request that makes sense now: an add, a tag to any version that was acknowledged, or an untag.
    pub(super) fn any_step(&self, random: &mut fastrand::Rng) -> Step {
        let versions = self.versions();
        let tag = if random.bool() { "live" } else { "canary" };
        match random.u32(0..10) {
            0..=3 => Step::Add(self.site.new_file(0)),
            4 if self.moved.contains_key(tag) => Step::Untag(tag),
            _ if versions.is_empty() => Step::Add(self.site.new_file(0)),
            _ => Step::Tag { tag, to: versions[random.usize(..versions.len())] },
        }
    }

    /// A request that must succeed.
    pub(super) fn succeed(&mut self, step: &Step, when: &str) {
        let arguments = self.begin(step);
        match self.site.run(&arguments) {
            Ended::Acknowledged(answer) => self.acknowledge(step, &answer),
            // What an attempt that was not acknowledged removed is removed.
            Ended::Failed(Some(3), _) if matches!(step, Step::Untag(tag) if self.is_unset(tag)) => {}
            ended => panic!("{when}: {arguments:?}: {ended:?}"),
        }
    }

    /// Whether the server may have forgotten this version. Its number may be another's by now.
    fn is_forgotten(&self, version: Version) -> bool {
        let mut added = self.added.iter().filter(|added| added.version == Some(version));
        added.any(|added| self.forgetting.concerns(added.span))
    }

    fn is_unset(&self, tag: &str) -> bool {
        let (name, mut state) = (tag_name(tag), None);
        // A server that was killed comes back.
        let is_read = async || match self.site.ledger.tag(&self.package, &name).await {
            Ok(found) => {
                state = found;
                true
            }
            Err(error) if error.is_transient() => false,
            Err(error) => panic!("the tag is read: {error}"),
        };
        self.site.wait_for(eventually("the tag is read", Duration::from_mins(1), is_read));
        state.is_none_or(|state| state.version.is_none())
    }

    /// Puts something in the place of an export.
    pub(super) fn have_export(&self) {
        std::fs::write(self.site.path(EXPORT), OLD_EXPORT).expect("a file is written");
    }

    /// The export is as it was, or whole.
    fn check_export(&self, when: &str) {
        let Ok(text) = std::fs::read_to_string(self.site.path(EXPORT)) else { return };
        let is_whole =
            text.ends_with('\n') && text.lines().last().is_some_and(|line| line.starts_with("{\"end\""));
        assert!(text == OLD_EXPORT || is_whole, "{when}: half an export: {text}");
    }

    /// The oracle. `when` goes into the message.
    pub(super) fn check(&self, when: &str) {
        self.check_export(when);
        let records = match self.site.wait_for(self.site.ledger.versions(&self.package)) {
            Err(error) if error.is_not_found() => Vec::new(),
            records => records.unwrap_or_else(|error| panic!("{when}: {error}")),
        };
        self.check_versions(&records, when);
        let blobs: BTreeMap<Sha256, &VersionRecord> = records
            .iter()
            .filter(|record| !record.is_removed())
            .map(|record| (record.sha256, record))
            .collect();
        for record in blobs.values() {
            self.check_blob(record, when);
        }
        for (tag, moved) in &self.moved {
            self.check_tag(&tag_name(tag), moved, &records, when);
        }
    }

    fn check_versions(&self, records: &[VersionRecord], when: &str) {
        let mut open: BTreeMap<Sha256, usize> = BTreeMap::new();
        let mut rest: BTreeMap<Version, &VersionRecord> =
            records.iter().map(|record| (record.version, record)).collect();
        assert_eq!(rest.len(), records.len(), "{when}: a version is listed twice");
        for record in records {
            let asked = self.removed.get(&record.version);
            let right = if record.is_removed() { asked.is_some() } else { asked != Some(&true) };
            assert!(right, "{when}: removal of version {}, acknowledged: {asked:?}", record.version);
        }
        for added in &self.added {
            match added.version {
                None => *open.entry(added.sha256).or_default() += 1,
                Some(version) => {
                    let is_ours = |there: &&VersionRecord| there.sha256 == added.sha256 || there.is_removed();
                    if rest.get(&version).is_some_and(is_ours) {
                        rest.remove(&version);
                    } else if !self.forgetting.excuses(added.span) {
                        let what = if rest.contains_key(&version) { "another's" } else { "lost" };
                        panic!("{when}: acknowledged {version} is {what}");
                    }
                }
            }
        }
        for (version, record) in rest {
            let left = open.get_mut(&record.sha256).filter(|left| **left > 0);
            let left = left.unwrap_or_else(|| panic!("{when}: nobody added version {version}, or once only"));
            *left -= 1;
        }
        if self.site.numbering == Numbering::Sequence {
            let numbers = records.iter().map(|record| record.version.get());
            assert!(numbers.eq((1..).take(records.len())), "{when}: the sequence has a gap");
        }
    }

    fn check_blob(&self, record: &VersionRecord, when: &str) {
        let hashed = self.site.wait_for(async {
            let mut hasher = Hasher::default();
            let mut blob = self.site.store.open(&record.sha256, sacker::store::WHOLE).await?.stream;
            while let Some(chunk) = blob.try_next().await? {
                hasher.update(&chunk);
            }
            Ok::<_, sacker::error::Error>(hasher.finish())
        });
        let version = record.version;
        let hashed = hashed.unwrap_or_else(|error| panic!("{when}: version {version} has no blob: {error}"));
        assert_eq!(hashed, record.sha256, "{when}: version {version} has a broken blob");
    }

    fn check_tag(&self, tag: &TagName, moved: &[Moved], records: &[VersionRecord], when: &str) {
        let (state, events) = self.site.wait_for(async {
            let events = match self.site.ledger.history(&self.package, tag).await {
                Err(error) if error.is_not_found() => Vec::new(),
                events => events.unwrap_or_else(|error| panic!("{when}: {error}")),
            };
            let state = self.site.ledger.tag(&self.package, tag).await;
            (state.unwrap_or_else(|error| panic!("{when}: {error}")), events)
        });
        verify_chain(&events)
            .unwrap_or_else(|found| panic!("{when}: the chain of '{tag}' is broken: {found:?}"));
        let shown = state.as_ref().map(|state| (state.version, state.event.as_ref().map(|event| &event.id)));
        let last = events.last().map(|event| (event.to, Some(&event.id)));
        // A tag that is about to be set for the first time is there without a version and without an event.
        assert_eq!(
            shown.unwrap_or_default(),
            last.unwrap_or_default(),
            "{when}: tag '{tag}' and its history differ"
        );
        for to in events.iter().filter_map(|event| event.to) {
            assert!(records.iter().any(|record| record.version == to), "{when}: '{tag}' was at absent {to}");
        }
        if let Some(at) = state.as_ref().and_then(|state| state.version) {
            let record = records.iter().find(|record| record.version == at);
            assert!(record.is_some_and(|record| !record.is_removed()), "{when}: '{tag}' is at removed {at}");
        }
        let mut ours = events.iter().filter(|event| event.source != EventSource::Legacy).peekable();
        // Where the tag was when the attempt was made.
        let mut now: Option<Version> = None;
        for attempt in moved {
            if ours.peek().and_then(|event| event.reason.as_ref()) == Some(&attempt.reason) {
                now = ours.next().and_then(|event: &Event| event.to);
                assert_eq!(now, attempt.to, "{when}: '{tag}' went elsewhere");
            } else {
                let nothing_to_do = now == attempt.to;
                assert!(
                    !attempt.acknowledged || nothing_to_do || self.forgetting.excuses(attempt.span),
                    "{when}: an acknowledged move is lost: {attempt:?}, among {moved:#?}; there are {events:#?}"
                );
            }
        }
        assert_eq!(ours.next(), None, "{when}: nobody asked for this, or it came late or twice");
    }
}
