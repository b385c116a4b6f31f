//! The admin port, and the log as a file.

use serde_json::Value;

use super::backend::{Backend, ask, ask_with};
use crate::support::faultgate::{Gate, Upstream};
use crate::support::process::Folder;

#[test]
fn a_gate_is_steered_through_its_admin_port() {
    let folder = Folder::new("faultgate");
    let path = folder.path().join("log.jsonl");
    let backend = Backend::start();
    let file = std::fs::File::create(&path).expect("a file");
    let gate = Gate::start_on(&Upstream::new(&backend.url), 1, "127.0.0.1:0", Some(file)).expect("a gate");
    let admin = format!("http://{}", gate.admin("127.0.0.1:0").expect("a free port"));
    let call = |method: &str, path: &str, body: &str| {
        let reply = ask_with(&admin, method, path, "", body.as_bytes());
        (reply.status(), String::from_utf8(reply.body).expect("text"))
    };
    assert_eq!(call("PUT", "/rules", "- action: { answer: [418, tea] }").0, 200);
    assert_eq!(ask(&gate.url(), "GET", "/bytes/1").body, b"tea");
    let (status, why) = call("PUT", "/rules", "- action: explode");
    assert!(status == 400 && why.contains("explode"), "{status}: {why}");
    assert_eq!(call("GET", "/hits", ""), (200, "{\"answer\":1}\n".into()));
    assert_eq!(call("DELETE", "/rules", "").0, 200);
    assert_eq!(ask(&gate.url(), "GET", "/bytes/1").body.len(), 1);
    assert_eq!(call("POST", "/drain", "").0, 200);
    let (_, log) = call("GET", "/log", "");
    let entries: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[0]["action"], &entries[0]["status"]), (&"answer".into(), &418.into()));
    assert_eq!((&entries[1]["path"], &entries[1]["bytes_out"]), (&"/bytes/1".into(), &1.into()));
    assert!(entries[0]["started"].as_f64() <= entries[0]["ended"].as_f64());
    assert_eq!(call("DELETE", "/log", "").1.lines().count(), 2);
    assert_eq!(call("GET", "/log", "").1, "");
    assert_eq!(call("POST", "/close", "").0, 200);
    assert_eq!(ask(&gate.url(), "GET", "/bytes/1").status(), 0);
    assert_eq!(call("POST", "/open", "").0, 200);
    assert_eq!(call("PUT", "/secret/AKIA1", "secret").0, 200);
    assert_eq!(call("POST", "/release", "").0, 200);
    assert_eq!(call("GET", "/nothing", "").0, 404);
    drop(gate);
    let written = std::fs::read_to_string(&path).expect("the log");
    let paths: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(paths.len(), 2, "{written}");
}
