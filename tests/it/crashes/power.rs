//! Loss of power under the ledger and the store on files (V6).
//!
//! Clients run with a trace of their file operations (`src/crash_point.rs`). A crash state is a prefix of that log in which
//! every operation that was made durable has happened; of the names that were not, any part may be there, and of bytes that
//! were not, all, half or none. Each state is laid out in a directory and put before the oracle, which knows what was
//! acknowledged by then.
//!
//! Whether an operation was really made durable is the trace's word: the log as a whole must lead to the files that are
//! there, which shows that no write, name or directory is missing from it, but nothing can show a sync.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::site::{Ended, Site};
use super::story::{Step, Story};
use crate::support::ledgers::Target;
use crate::support::tier;

/// What a file holds.
#[derive(Debug, Clone, Default)]
struct Bytes {
    now: Vec<u8>,
    /// What a loss of power leaves for certain.
    durable: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

/// One name in a directory, in the order in which names were given.
#[derive(Debug, Clone)]
struct Name {
    path: PathBuf,
    node: Node,
    durable: bool,
}

/// How much of what may be lost is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    None,
    Half,
    All,
}

/// The files as a crash at this moment may leave them.
#[derive(Debug, Clone, Default)]
struct Disk {
    files: Vec<Bytes>,
    names: Vec<Name>,
}

/// The layout of a state: directories without bytes, files with theirs.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    /// What is below `root`, all of it durable.
    fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        for (path, bytes) in tree_of(root) {
            let node = bytes.map_or(Node::Directory, |bytes| {
                disk.files.push(Bytes { durable: Some(bytes.clone()), now: bytes });
                Node::File(disk.files.len() - 1)
            });
            disk.names.push(Name { path, node, durable: true });
        }
        disk
    }

    fn file(&self, path: &Path) -> usize {
        let named = self.names.iter().rev().find(|name| name.path == path).map(|name| name.node);
        let Some(Node::File(file)) = named else { panic!("'{}' is no file", path.display()) };
        file
    }

    fn name(&mut self, path: PathBuf, node: Node) {
        self.names.push(Name { path, node, durable: false });
    }

    fn sync_directory(&mut self, directory: &Path) {
        for name in &mut self.names {
            name.durable |= name.path.parent() == Some(directory);
        }
    }

    fn sync_file(&mut self, file: usize) {
        self.files[file].durable = Some(self.files[file].now.clone());
    }

    /// Carries out one line of a trace. Lines of points without a path change nothing.
    fn apply(&mut self, line: &str, root: &Path) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [point, path, bytes] = fields[..] else { panic!("a broken trace: '{line}'") };
        if path.is_empty() {
            return;
        }
        let path = Path::new(path).strip_prefix(root).expect("only files of the site are written").to_owned();
        let bytes = hex::decode(bytes).expect("a broken trace");
        match point {
            "files.directory.created" | "file.directory.created" => {
                if !self.names.iter().any(|name| name.path == path) {
                    self.name(path, Node::Directory);
                }
            }
            "files.temporary.created" => {
                self.files.push(Bytes::default());
                self.name(path, Node::File(self.files.len() - 1));
            }
            "file.temporary.written" | "store.file.copied" => {
                let file = self.file(&path);
                self.files[file].now = bytes;
            }
            "file.temporary.synced" | "store.file.synced" => self.sync_file(self.file(&path)),
            // The file that was made last: a client works on one at a time.
            "file.object.linked" | "file.object.renamed" | "store.file.named" | "store.file.replaced" => {
                self.name(path, Node::File(self.files.len() - 1));
            }
            "store.file.confirmed" => {
                self.sync_file(self.file(&path));
                self.sync_directory(path.parent().expect("it is in a directory"));
            }
            "files.directory.durable"
            | "file.directory.durable"
            | "file.object.durable"
            | "store.file.durable" => {
                self.sync_directory(&path);
            }
            _ => panic!("what '{point}' does to the files is not known here"),
        }
    }

    /// The files after a crash that kept the names of which `keep` says so by their place among those that it may lose.
    fn after(&self, keep: impl Fn(usize) -> bool, loss: Loss) -> Tree {
        let mut tree = Tree::new();
        let mut losable = 0;
        for name in &self.names {
            let kept = name.durable || keep(losable);
            losable += usize::from(!name.durable);
            let parent = name.path.parent().unwrap_or(Path::new(""));
            // A name in a directory that is not there is nowhere.
            if !kept || !(parent == Path::new("") || tree.contains_key(parent)) {
                continue;
            }
            let bytes = match name.node {
                Node::Directory => None,
                Node::File(file) => {
                    let Bytes { now, durable } = &self.files[file];
                    let lost = || match loss {
                        Loss::None => now.clone(),
                        Loss::Half => now[..now.len() / 2].to_vec(),
                        Loss::All => Vec::new(),
                    };
                    Some(durable.clone().unwrap_or_else(lost))
                }
            };
            tree.insert(name.path.clone(), bytes);
        }
        tree
    }

    fn losable(&self) -> usize {
        self.names.iter().filter(|name| !name.durable).count()
    }
}

/// What is below `root`.
fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut queue: Vec<PathBuf> = ["ledger", "store"].into_iter().map(PathBuf::from).collect();
    while let Some(path) = queue.pop() {
        let whole = root.join(&path);
        if !whole.is_dir() {
            let bytes = fs::read(&whole).expect("it is there");
            tree.insert(path, Some(bytes));
            continue;
        }
        for entry in fs::read_dir(&whole).expect("it is there") {
            queue.push(path.join(entry.expect("an entry").file_name()));
        }
        tree.insert(path, None);
    }
    tree
}

fn lay_out(tree: &Tree, root: &Path) {
    for place in ["ledger", "store"] {
        let _ = fs::remove_dir_all(root.join(place));
    }
    for (path, bytes) in tree {
        match bytes {
            None => fs::create_dir(root.join(path)).expect("a directory"),
            Some(bytes) => fs::write(root.join(path), bytes).expect("a file"),
        }
    }
}

/// Without what no reader looks at: temporary files, locks, and directories that a listing passes over.
fn essence(tree: Tree) -> Tree {
    let own = |path: &Path| {
        let text = path.to_string_lossy();
        text.starts_with("ledger/_sacker/tmp")
            || text.starts_with("ledger/_sacker/locks")
            || text.contains(".unfinished-")
    };
    tree.into_iter().filter(|(path, bytes)| bytes.is_some() && !own(path)).collect()
}

/// A request, the log of its file operations, and the story while its outcome is open.
struct Chapter<'a> {
    log: Vec<String>,
    open: Story<'a>,
}

/// Runs one request with a trace.
fn record<'a>(story: &mut Story<'a>, step: &Step) -> Chapter<'a> {
    let site = story.site;
    let trace = site.path("trace");
    let _ = fs::remove_file(&trace);
    let arguments = story.begin(step);
    let open = story.clone();
    let output = site.command(&arguments).env("SACKER_CRASH_TRACE", &trace).output().expect("sacker starts");
    let Ended::Acknowledged(answer) = output.into() else { panic!("{step:?} fails") };
    story.acknowledge(step, &answer);
    let log = fs::read_to_string(&trace).expect("the trace is there").lines().map(str::to_owned).collect();
    Chapter { log, open }
}

/// The requests of one story: all kinds of writes, and repetitions.
fn tell<'a>(story: &mut Story<'a>) -> Vec<Chapter<'a>> {
    let mut chapters = Vec::new();
    let mut known = None;
    for _ in 0..2 {
        let file = story.site.new_file(0);
        chapters.push(record(story, &Step::Add(file.clone())));
        known = Some(file);
    }
    let (one, two) = (story.versions()[0], story.newest());
    for to in [one, two] {
        chapters.push(record(story, &Step::Tag { tag: "live", to }));
    }
    chapters.push(record(story, &Step::Untag("live")));
    chapters.push(record(story, &Step::Tag { tag: "live", to: one }));
    chapters.push(record(story, &Step::Add(known.expect("two were added"))));
    chapters.push(record(story, &Step::Remove(two)));
    chapters
}

/// Puts every state of a crash at this moment before the oracle that was not there before. Returns how many there are.
fn crash(
    disk: &Disk,
    story: &Story<'_>,
    place: &Site,
    seen: &mut BTreeSet<Tree>,
    random: &mut fastrand::Rng,
    when: &str,
) -> usize {
    let losable = disk.losable();
    let mut keeps: Vec<Vec<bool>> = vec![vec![true; losable], vec![false; losable]];
    // The newest ones one by one, kept alone and lost alone; and any part of all.
    for one in losable.saturating_sub(4)..losable {
        for value in [true, false] {
            let mut keep = vec![!value; losable];
            keep[one] = value;
            keeps.push(keep);
        }
    }
    for _ in 0..tier::figure(2, 20) {
        keeps.push((0..losable).map(|_| random.bool()).collect());
    }
    let mut states = 0;
    for keep in keeps {
        for loss in [Loss::None, Loss::Half, Loss::All] {
            states += 1;
            let tree = disk.after(|place| keep[place], loss);
            if !seen.insert(tree.clone()) {
                continue;
            }
            lay_out(&tree, place.home());
            story.on(place).check(&format!("{when}, {keep:?} {loss:?}"));
        }
    }
    states
}

/// How many of what were looked at.
#[derive(Debug, Default)]
struct Counts {
    operations: usize,
    states: usize,
    distinct: usize,
}

/// Goes through the log of a story and crashes at every line that `is_there`.
fn replay(
    chapters: &[Chapter<'_>],
    whole: &Story<'_>,
    mut disk: Disk,
    is_there: impl Fn(&str) -> bool,
    random: &mut fastrand::Rng,
) -> (Counts, Disk) {
    let place = Site::unmade(Target::File).expect("files are always there");
    let mut counts = Counts::default();
    for (index, Chapter { log, open }) in chapters.iter().enumerate() {
        // The same files are another state once more was acknowledged.
        let mut seen = BTreeSet::new();
        for (number, line) in log.iter().enumerate().filter(|(_, line)| is_there(line)) {
            disk.apply(line, whole.site.home());
            let point = line.split('\t').next().unwrap_or_default();
            let when = format!("request {index}, line {number}: {point}");
            counts.states += crash(&disk, open, &place, &mut seen, random, &when);
            counts.operations += 1;
        }
        // The moment after its end: what it acknowledged must last.
        let after = chapters.get(index + 1).map_or(whole, |next| &next.open);
        let mut seen_after = BTreeSet::new();
        counts.states +=
            crash(&disk, after, &place, &mut seen_after, random, &format!("after request {index}"));
        counts.distinct += seen.len() + seen_after.len();
    }
    (counts, disk)
}

#[test]
fn no_acknowledged_write_is_lost() {
    const { assert!(cfg!(debug_assertions), "the trace is in debug builds only") };
    let seed = tier::seed("crashes::power");
    let mut random = fastrand::Rng::with_seed(seed);
    let started = std::time::Instant::now();
    let mut sum = Counts::default();
    for _ in 0..tier::figure(1, 10) {
        let site = Site::open(Target::File).expect("files are always there");
        let disk = Disk::of(site.home());
        let mut story = Story::new(&site);
        let chapters = tell(&mut story);
        let (counts, disk) = replay(&chapters, &story, disk, |_| true, &mut random);
        sum.operations += counts.operations;
        sum.states += counts.states;
        sum.distinct += counts.distinct;
        let whole = essence(disk.after(|_| true, Loss::None));
        assert_eq!(whole, essence(tree_of(site.home())), "the log is not whole");
    }
    assert!(sum.states >= 1000, "only {} crash states", sum.states);
    tier::summary(&format!(
        "V6 backend=File seed={seed} operations={} states={} distinct={} violations=0 seconds={}",
        sum.operations,
        sum.states,
        sum.distinct,
        started.elapsed().as_secs()
    ));
}

/// Without any one kind of sync something is lost that was acknowledged, and the oracle says so.
#[test]
fn every_sync_is_needed() {
    let site = Site::open(Target::File).expect("files are always there");
    let disk = Disk::of(site.home());
    let mut story = Story::new(&site);
    let mut chapters = vec![record(&mut story, &Step::Add(site.new_file(0)))];
    let to = story.newest();
    chapters.push(record(&mut story, &Step::Tag { tag: "live", to }));
    let syncs = [
        "file.directory.durable",
        "file.object.durable",
        "file.temporary.synced",
        "store.file.durable",
        "store.file.synced",
    ];
    for sync in syncs {
        let without = |line: &str| !line.starts_with(sync);
        let mut random = fastrand::Rng::with_seed(1);
        let replayed = || replay(&chapters, &story, disk.clone(), without, &mut random);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(replayed));
        assert!(caught.is_err(), "nothing is lost without {sync}");
    }
}

/// The model of the disk: a name that was not made durable, and bytes that were not, can be lost; others cannot.
#[test]
fn what_is_not_synced_can_be_lost() {
    let root = Path::new("/r");
    let run = |lines: &[&str]| {
        let mut disk = Disk::default();
        disk.names.push(Name { path: "ledger".into(), node: Node::Directory, durable: true });
        for line in lines {
            disk.apply(line, root);
        }
        disk
    };
    let create = "files.temporary.created\t/r/ledger/t\t";
    let write = "file.temporary.written\t/r/ledger/t\t3132";
    let sync = "file.temporary.synced\t/r/ledger/t\t3132";
    let link = "file.object.linked\t/r/ledger/o\t3132";
    let durable = "file.object.durable\t/r/ledger\t";
    let object =
        |disk: &Disk, keep: bool, loss| disk.after(|_| keep, loss).remove(Path::new("ledger/o")).flatten();
    let whole = run(&[create, write, sync, link, durable]);
    assert_eq!(object(&whole, false, Loss::All).as_deref(), Some(&b"12"[..]));
    let unnamed = run(&[create, write, sync, link]);
    assert_eq!(object(&unnamed, false, Loss::All), None);
    let unsynced = run(&[create, write, link, durable]);
    assert_eq!(object(&unsynced, false, Loss::All).as_deref(), Some(&b""[..]));
    assert_eq!(object(&unsynced, false, Loss::Half).as_deref(), Some(&b"1"[..]));
}
