//! `docs/threat-catalog.yaml`: every control of the threat model names its tests, each of them exists, and
//! `docs/threat-model.md` says the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sacker::environment::Environment;
use serde::Deserialize;

const BEGIN: &str = "<!-- threat catalog: begin -->\n";
const END: &str = "<!-- threat catalog: end -->\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalog {
    threats: Vec<Threat>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Threat {
    id: String,
    actor: String,
    may: String,
    must_not: String,
    controls: Vec<Control>,
    #[serde(default)]
    not_covered: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    #[serde(rename = "control")]
    what: String,
    /// Of this binary.
    #[serde(default)]
    tests: Vec<String>,
    /// Of the library.
    #[serde(default)]
    unit_tests: Vec<String>,
    /// Checks that are no tests.
    #[serde(default)]
    files: Vec<String>,
}

impl Control {
    /// The names of all that shows it.
    fn proofs(&self) -> Vec<&str> {
        [&self.tests, &self.unit_tests, &self.files].into_iter().flatten().map(String::as_str).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn catalog() -> Vec<Threat> {
    let text = fs::read_to_string(root().join("docs/threat-catalog.yaml")).expect("the catalog");
    let catalog: Catalog = serde_saphyr::from_str(&text).expect("YAML");
    catalog.threats
}

/// The tests of this binary, as it lists them itself, and the modules that they are in.
fn listed() -> BTreeSet<String> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).arg("--list").output().expect("it lists its tests");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut names = BTreeSet::new();
    for test in text.lines().filter_map(|line| line.strip_suffix(": test")) {
        let ends = test.match_indices("::").map(|(end, _)| end);
        names.extend(ends.map(|end| test[..end].to_owned()));
        names.insert(test.to_owned());
    }
    names
}

/// Whether the library has this test: a function of this name, marked as one, in a file of its module.
fn is_unit_test(path: &str) -> bool {
    let Some((module, name)) = path.rsplit_once("::") else { return false };
    let folder = |module: &str| root().join("src").join(module.replace("::", "/"));
    let outer = module.strip_suffix("::tests").unwrap_or(module);
    let files: [PathBuf; 3] = [
        folder(outer).with_extension("rs"),
        folder(outer).join("mod.rs"),
        folder(module).with_extension("rs"),
    ];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let is_meant = |line: &str| line.trim_start_matches("async ").starts_with(&format!("fn {name}("));
        let attributes = |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
        (0..lines.len()).any(|at| is_meant(lines[at]) && attributes(at).any(|line| line.ends_with("test]")))
    })
}

/// What of a control does not exist.
fn missing(control: &Control, listed: &BTreeSet<String>) -> Vec<String> {
    let tests = control.tests.iter().filter(|test| !listed.contains(*test));
    let units = control.unit_tests.iter().filter(|test| !is_unit_test(test));
    let files = control.files.iter().filter(|file| !root().join(file).is_file());
    tests.chain(units).chain(files).cloned().collect()
}

#[test]
fn every_control_names_tests_that_exist() {
    let (threats, listed) = (catalog(), listed());
    for (number, threat) in threats.iter().enumerate() {
        assert_eq!(threat.id, format!("T{}", number + 1));
        assert!(!threat.controls.is_empty(), "{} has no control", threat.id);
        for control in &threat.controls {
            assert!(!control.proofs().is_empty(), "{}: nothing shows '{}'", threat.id, control.what);
            let missing = missing(control, &listed);
            assert!(missing.is_empty(), "{} names what does not exist: {missing:#?}", threat.id);
        }
    }
    assert!(threats.len() >= 13, "{}", threats.len());
}

#[test]
fn names_that_do_not_exist_are_noticed() {
    let control = Control {
        what: "none".to_owned(),
        tests: ["threats::no_such_test", "threats::every_control"].map(str::to_owned).into(),
        unit_tests: ["names::tests::no_such_test", "names::tests::addresses", "nowhere::tests::patterns"]
            .map(str::to_owned)
            .into(),
        files: vec!["lint/nothing".to_owned()],
    };
    assert_eq!(missing(&control, &listed()), control.proofs());
}

/// The catalog as part of the page.
fn rendered(threats: &[Threat]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for threat in threats {
        let Threat { id, actor, may, must_not, .. } = threat;
        let _ = write!(text, "\n### {id}: {actor}\n\nMay {may}. Must not {must_not}.\n\n");
        for control in &threat.controls {
            let proofs: Vec<String> = control.proofs().iter().map(|proof| format!("`{proof}`")).collect();
            let _ = writeln!(text, "* {}: {}", control.what, proofs.join(", "));
        }
        for open in &threat.not_covered {
            let _ = writeln!(text, "* **Not covered**: {open}");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_page_says_what_the_catalog_says() {
    let path = root().join("docs/threat-model.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (head, rest) = page.split_once(BEGIN).expect("where the catalog begins");
    let (_, tail) = rest.split_once(END).expect("where the catalog ends");
    let right = format!("{head}{BEGIN}{}{END}{tail}", rendered(&catalog()));
    if right != page && Environment::of_process().get("SACKER_UPDATE").is_some() {
        fs::write(&path, right).expect("the page can be written");
        return;
    }
    assert!(
        right == page,
        "docs/threat-model.md is out of date; run: SACKER_UPDATE=1 cargo test --test it threats"
    );
}
