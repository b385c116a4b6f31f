//! The images that `make image` writes: what is in them, that they run, and that the same input makes the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use crate::support::process::Folder;
use crate::support::testbed;

/// Where `make image` puts what it makes.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../image");

const SACKER: &str = "sacker";
const INIT: &str = "sacker-init";

/// A file beside the image of this name; nothing where the image was not built, which is said.
pub(crate) fn beside(name: &str, suffix: &str) -> Option<PathBuf> {
    let path = Path::new(FOLDER).join(format!("{name}{suffix}"));
    if path.exists() {
        return Some(path);
    }
    testbed::skip(&format!("{name}{suffix} is missing; build it with: make image"));
    None
}

/// What one entry of an archive is: its content, or where it leads.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(String),
}

/// The files and links of a tar by their names. All belong to root and are of the year 1970.
fn entries(tar: impl Read) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    for entry in Archive::new(tar).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string().trim_start_matches("./").to_owned();
        let header = entry.header();
        let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
        assert_eq!((owner, header.mtime().expect("a number")), ((0, 0), 0), "{name}");
        match header.entry_type() {
            EntryType::Directory => {}
            EntryType::Symlink => {
                let target = entry.link_name().expect("a path").expect("a target");
                found.insert(name, Entry::Link(target.display().to_string()));
            }
            EntryType::Regular => {
                assert_eq!(header.mode().expect("a number") & 0o022, 0, "others may write {name}");
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("it can be read");
                found.insert(name, Entry::File(content));
            }
            other => panic!("{name} is a {other:?}"),
        }
    }
    found
}

/// The files of an OCI layout; each blob has the digest that is its name.
fn layout(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, entry) in entries(File::open(archive).expect("it is there")) {
        let Entry::File(content) = entry else { panic!("{name} is a link") };
        if let Some(digest) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(hex::encode(Sha256::digest(&content)), digest);
        }
        files.insert(name, content);
    }
    files
}

/// The content that a descriptor (OCI image specification) refers to.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
    let content = &files[&format!("blobs/{digest}")];
    assert_eq!(descriptor["size"], content.len(), "{descriptor}");
    content
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The digest by which a registry knows the image.
pub(crate) fn manifest_digest(archive: &Path) -> String {
    let index = parsed(&layout(archive)["index.json"]);
    index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
}

/// Whether a program names a loader, as one that is not static does.
fn loads_libraries(program: &Path) -> bool {
    let output =
        Command::new("readelf").arg("--program-headers").arg(program).output().expect("readelf runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).contains("INTERP")
}

#[rstest]
#[case::init(INIT, &["sacker-init"])]
#[case::sacker(SACKER, &["kubectl-sacker", "sacker", "sacker-operator"])]
fn an_image_holds_its_programs_and_nothing_else(#[case] name: &str, #[case] programs: &[&str]) {
    let Some(archive) = beside(name, ".tar") else { return };
    let files = layout(&archive);
    let index = parsed(&files["index.json"]);
    let manifest = parsed(blob(&files, &index["manifests"][0]));
    let config = parsed(blob(&files, &manifest["config"]));
    let runs = json!({ "User": "65532:65532", "Entrypoint": [format!("/{name}")], "WorkingDir": "/" });
    assert_eq!(config["config"], runs);

    let mut layer = Vec::new();
    GzDecoder::new(blob(&files, &manifest["layers"][0])).read_to_end(&mut layer).expect("gzip");
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest]));

    let mut found = entries(layer.as_slice());
    // `make test` makes the image of sacker of its own programs, which load libraries (`image/run`); a static one has none.
    let loads =
        beside(name, "").is_some_and(|root| loads_libraries(&root.join(programs[programs.len() - 1])));
    found.retain(|file, _| !(loads && file.starts_with("lib") && file.contains(".so")));
    assert!(!(loads && name == INIT), "sacker-init is not static");
    let mut expected = vec!["etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"];
    expected.extend(programs);
    expected.sort_unstable();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
    if name == SACKER {
        assert_eq!(found["kubectl-sacker"], Entry::Link("sacker".to_owned()));
    }
    let home = env!("CARGO_MANIFEST_DIR").as_bytes();
    for (name, entry) in &found {
        if let Entry::File(content) = entry {
            let path = content.windows(home.len()).any(|bytes| bytes == home);
            assert!(!path, "{name} names the folder it was built in");
        }
    }
    // All blobs that are there are referred to.
    assert_eq!(files.keys().filter(|name| name.starts_with("blobs/")).count(), 3);
}

#[rstest]
#[case::init(INIT, &["sacker-init"])]
#[case::sacker(SACKER, &["kubectl-sacker", "sacker", "sacker-operator"])]
fn the_programs_of_an_image_run(#[case] name: &str, #[case] programs: &[&str]) {
    let Some(root) = beside(name, "") else { return };
    for program in programs {
        let called = program.replace("kubectl-", "kubectl ");
        for (argument, says) in [("--version", env!("CARGO_PKG_VERSION")), ("--help", called.as_str())] {
            let output = Command::new(root.join(program)).arg(argument).env_clear().output();
            let output = output.expect("it starts");
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && stdout.contains(says), "{program} {argument}: {output:?}");
        }
    }
}

#[rstest]
#[case::init(INIT)]
#[case::sacker(SACKER)]
fn the_same_files_make_the_same_image(#[case] name: &str) {
    let (Some(archive), Some(root)) = (beside(name, ".tar"), beside(name, "")) else { return };
    let files = layout(&archive);
    let index = parsed(&files["index.json"]);
    let called = index["manifests"][0]["annotations"]["io.containerd.image.name"].as_str().expect("a name");
    let manifest = parsed(blob(&files, &index["manifests"][0]));
    let config = parsed(blob(&files, &manifest["config"]))["config"].clone();
    // The order of its keys is the script's.
    let config = format!(
        r#"{{"User":{},"Entrypoint":{},"WorkingDir":{}}}"#,
        config["User"], config["Entrypoint"], config["WorkingDir"]
    );

    // Elsewhere, later, and with files that somebody touched.
    let folder = Folder::new("image");
    let (copy, again) = (folder.path().join("root"), folder.path().join("again.tar"));
    let copied = Command::new("cp").arg("--recursive").args([&root, &copy]).status().expect("cp runs");
    assert!(copied.success());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/image/layout");
    let output =
        Command::new(script).arg(&again).args([called, &config]).arg(&copy).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let same = std::fs::read(&again).expect("it is there") == std::fs::read(&archive).expect("it is there");
    assert!(same, "image/layout makes other bytes of the same files");
}
