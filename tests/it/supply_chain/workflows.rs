//! The workflows: no more rights than a job needs, actions that nobody can change under us, and a release that checks first.

use serde_json::{Map, Value};

use super::{place, read};

const FOLDER: &str = ".github/workflows";

/// Name, text and content of each workflow.
fn workflows() -> Vec<(String, String, Value)> {
    let listed = std::fs::read_dir(place(FOLDER)).expect("a folder").map(|entry| entry.expect("an entry"));
    let names = listed.map(|entry| entry.file_name().to_str().expect("UTF-8").to_owned());
    let read = |name: String| {
        let text = read(&format!("{FOLDER}/{name}"));
        let content: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text, content)
    };
    names.map(read).collect()
}

fn jobs(workflow: &Value) -> &Map<String, Value> {
    workflow["jobs"].as_object().expect("jobs")
}

fn steps(job: &Value) -> &[Value] {
    job["steps"].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn jobs_have_rights_one_by_one_and_an_end() {
    let workflows = workflows();
    assert!(workflows.len() >= 2);
    for (name, _, workflow) in &workflows {
        assert_eq!(workflow["permissions"], Value::Object(Map::new()), "{name}: nothing for all jobs");
        // Without the name, a failure inside a pipe is none.
        assert_eq!(workflow["defaults"]["run"]["shell"], "bash", "{name}");
        for (job, content) in jobs(workflow) {
            let given = content["permissions"].as_object();
            let given = given.unwrap_or_else(|| panic!("{name}: job {job} does not say what it may"));
            let writes = given.values().any(|right| right != "read");
            assert!(!writes || (name == "release.yaml" && job == "publish"), "{name}: job {job} writes");
            let is_call = content["uses"].is_string();
            assert!(is_call || content["timeout-minutes"].is_u64(), "{name}: job {job} may take for ever");
        }
    }
}

#[test]
fn actions_are_pinned_by_commit() {
    for (name, text, _) in workflows() {
        let mut seen = 0;
        for line in text.lines() {
            let Some((_, used)) = line.split_once("uses: ") else { continue };
            seen += 1;
            if used.starts_with("./") {
                continue;
            }
            let (action, release) =
                used.split_once(" # v").unwrap_or_else(|| panic!("{name}: no release: {line}"));
            let commit = action.split_once('@').map(|(_, commit)| commit).unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit && release.split('.').count() == 3, "{name}: {line}");
        }
        assert!(seen > 0, "{name} uses nothing");
    }
}

/// What a job runs are scripts of the project, which see what they are told as variables: text that somebody else wrote, such as the
/// name of a branch, is never part of a program.
#[test]
fn nothing_is_pasted_into_a_program() {
    for (name, _, workflow) in workflows() {
        for (job, content) in jobs(&workflow) {
            for step in steps(content) {
                let run = step["run"].as_str().unwrap_or_default();
                assert!(!run.contains("${{"), "{name}: job {job}: {run}");
                let script = run.split(['"', ' ', '\n', '(']).filter(|word| word.starts_with("release/"));
                for script in script {
                    assert!(place(script).is_file(), "{name}: there is no {script}");
                }
                if step["uses"].as_str().is_some_and(|used| used.starts_with("actions/checkout@")) {
                    assert_eq!(step["with"]["persist-credentials"], false, "{name}: job {job} keeps a token");
                }
            }
        }
    }
}

#[test]
fn a_release_is_checked_before_anything_is_published() {
    let workflows = workflows();
    let (_, _, release) = workflows.iter().find(|(name, ..)| name == "release.yaml").expect("a release");
    let jobs = jobs(release);
    let runs = |job: &str, what: &str| {
        steps(&jobs[job]).iter().any(|step| step["run"].as_str().is_some_and(|run| run.contains(what)))
    };
    assert!(runs("version", r#"release/version "$GITHUB_REF_NAME""#));
    assert_eq!(jobs["ci"]["uses"], "./.github/workflows/ci.yaml");
    let needs = jobs["publish"]["needs"].as_array().expect("a list");
    for job in ["version", "ci", "build", "chart"] {
        assert!(needs.iter().any(|need| need == job), "publish does not wait for {job}");
    }
    assert_eq!(jobs["publish"]["environment"], "release", "nobody is asked");
    assert!(runs("build", "make image") && runs("build", "release/files dist"));
    for step in ["sha256sum", "gh release create", "release/notes", "skopeo copy"] {
        assert!(runs("publish", step), "{step}");
    }
    // The tests of a change are those of a release.
    let (_, _, change) = workflows.iter().find(|(name, ..)| name == "ci.yaml").expect("ci");
    let test = &change["jobs"]["test"];
    assert!(steps(test).iter().any(|step| step["run"].as_str().is_some_and(|run| run.ends_with(".ci/run"))));
}
