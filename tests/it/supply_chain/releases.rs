//! The scripts of `release/`, and what is written down twice: the compiler, the layout of the images.

use std::process::{Command, Output};

use flate2::read::GzDecoder;
use tar::Archive;

use super::{channel, place, read};
use crate::images::beside;
use crate::support::process::Folder;

fn run(script: &str, arguments: &[&str]) -> Output {
    Command::new(place(script)).args(arguments).output().expect("it runs")
}

#[test]
fn everything_names_one_version() {
    let output = run("release/version", &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_tag_of_another_version_is_refused() {
    let output = run("release/version", &["v999.0.0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("the tag v999.0.0 says version '999.0.0'"), "{complaint}");
}

#[test]
fn notes_are_one_section_of_the_changelog() {
    let changelog = read("CHANGELOG.md");
    // Just after a release, nothing is unreleased.
    let mut sections = changelog.split("\n## ").skip(1).filter(|section| section.contains("\n* "));
    let (title, body) = sections.next().and_then(|section| section.split_once('\n')).expect("a section");
    let version = title.split(' ').next().expect("a version");
    let output = run("release/notes", &[version]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), body.trim());

    // A version is a word, no pattern.
    for unknown in ["999.0.0", ".*", ""] {
        assert!(!run("release/notes", &[unknown]).status.success(), "'{unknown}'");
    }
}

#[test]
fn the_files_of_a_release() {
    if ["sacker", "sacker-init"].iter().any(|name| beside(name, ".cdx.json").is_none()) {
        return;
    }
    let folder = Folder::new("release");
    let path = folder.path().to_str().expect("test folders are UTF-8");
    let output = run("release/files", &[path]);
    assert!(output.status.success(), "{output:?}");
    let listed = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = listed.map(|name| name.to_str().expect("UTF-8").to_owned()).collect();
    names.sort_unstable();
    let version = env!("CARGO_PKG_VERSION");
    let platform = if cfg!(target_arch = "x86_64") { "linux-amd64" } else { "linux-arm64" };
    let mut expected = vec![format!("sacker-{version}-{platform}.tar.gz")];
    for image in ["sacker", "sacker-init"] {
        expected.push(format!("{image}-{version}-{platform}.cdx.json"));
        expected.push(format!("{image}-{version}-{platform}.oci.tar"));
    }
    expected.sort_unstable();
    assert_eq!(names, expected);

    let archive = std::fs::File::open(folder.path().join(format!("sacker-{version}-{platform}.tar.gz")));
    let mut archive = Archive::new(GzDecoder::new(archive.expect("it is there")));
    let entries = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
    let mut programs: Vec<String> =
        entries.map(|entry| entry.path().expect("a path").display().to_string()).collect();
    programs.sort_unstable();
    let inside = ["LICENSE", "kubectl-sacker", "sacker", "sacker-init", "sacker-operator"];
    assert_eq!(programs, inside.map(|name| format!("sacker-{version}-{platform}/{name}")));
}

/// The Dockerfile makes the images that `image/run` makes, with the project's compiler, from names that every registry has.
#[test]
fn the_dockerfile_agrees() {
    let file = read("Dockerfile");
    let channel = channel();
    assert!(file.contains(&format!("\nENV RUSTUP_TOOLCHAIN={channel}\n")), "{file}");
    let mut stages: Vec<&str> = vec!["scratch"];
    for line in file.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        let (base, stage) = line.split_once(" AS ").expect("a stage with a name");
        let is_compiler = base.starts_with(&format!("rust:{channel}-slim-"));
        assert!(is_compiler || stages.contains(&base), "{line}");
        stages.push(stage);
    }
    let script = read("image/run");
    assert!(script.contains(r#""User":"65532:65532","Entrypoint":["%s"],"WorkingDir":"/""#), "{script}");
    for (stage, image) in [("init", "sacker-init"), ("sacker", "sacker")] {
        assert!(script.contains(&format!("write {image} /{image} ")), "{script}");
        let expected = format!(
            "FROM scratch AS {stage}\nCOPY --from=build-{stage} /src/target/image/{image}/ /\nUSER 65532:65532\nWORKDIR \
             /\nENTRYPOINT [\"/{image}\"]\n"
        );
        assert!(file.contains(&expected), "no\n{expected}in\n{file}");
        assert!(file.contains(&format!(" AS build-{stage}\nRUN image/run {stage}\n")), "{file}");
    }
}
