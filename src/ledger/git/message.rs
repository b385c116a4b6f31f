//! The message of a commit, so that `git log` reads as a history: derived from a key and its bytes alone.
//!
//! Not responsible for what counts: sacker never reads a message.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

/// Who made a commit, when, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// A name that git takes: no `<`, `>` or control characters.
    pub(super) name: String,
    /// A placeholder: nobody is asked for an address.
    pub(super) mail: String,
    /// The time in the record; nothing where it has none.
    pub(super) at: Option<Timestamp>,
    pub(super) text: String,
}

/// No line is longer than this, in characters.
const LINE: usize = 1000;

/// What a record says about itself.
#[derive(Debug, Default)]
struct Facts {
    subject: String,
    reason: Option<String>,
    by: Option<String>,
    source: Option<String>,
    id: Option<String>,
    at: Option<String>,
}

/// The message for the commit that writes `bytes` at `key`; with nothing, that removes the key.
pub(super) fn of(key: &str, bytes: Option<&[u8]>) -> Message {
    let body: Value = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let facts = match parts(key) {
        _ if bytes.is_none() => plain(format!("remove {key}")),
        Some((package, "versions", number)) => version(package, number, &body),
        Some((package, "tags", "latest")) => plain(newest(package, &body)),
        Some((package, "tags", tag)) => pointer(package, tag, &body),
        Some((package, "history", row)) => archived(package, row, &body),
        _ if key == "_sacker/ledger.json" => {
            let numbering = body["versions"].as_str().unwrap_or("unknown");
            plain(format!("ledger: versions are numbered by {numbering}"))
        }
        _ => plain(format!("write {key}")),
    };
    written(facts)
}

/// The message of the first commit of a branch.
pub(super) fn of_beginning() -> Message {
    written(plain("ledger: begin".to_owned()))
}

/// Package, area and the rest of a key. The last area counts: package names may contain anything else.
fn parts(key: &str) -> Option<(&str, &str, &str)> {
    ["versions", "tags", "history"].into_iter().find_map(|area| {
        let (package, rest) = key.rsplit_once(&format!("/{area}/"))?;
        let is_whole = area == "history" || !rest.contains('/');
        (is_whole && !package.starts_with("_sacker/")).then_some((package, area, rest))
    })
}

fn plain(subject: String) -> Facts {
    Facts { subject, ..Facts::default() }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn version(package: &str, number: &str, body: &Value) -> Facts {
    let removal = &body["removal"];
    if removal.is_object() {
        return Facts {
            subject: format!("{package}: remove version {number}"),
            reason: text(&removal["reason"]),
            by: text(&removal["by"]),
            id: text(&body["fence"]),
            at: text(&removal["at"]),
            ..Facts::default()
        };
    }
    if let Some(fence) = text(&body["fence"]) {
        let done = if body["removing"] == true { "is to be removed" } else { "stays" };
        return Facts {
            subject: format!("{package}: version {number} {done}"),
            id: Some(fence),
            ..Facts::default()
        };
    }
    let file = body["basename"].as_str().map(|name| format!("{name}, sha256 {}", shown(&body["sha"])));
    Facts {
        subject: format!("{package}: add version {number}"),
        reason: file,
        by: text(&body["added_by"]),
        id: text(&body["add_id"]),
        at: text(&body["added_at"]),
        ..Facts::default()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn newest(package: &str, body: &Value) -> String {
    if body["removed"] == true {
        return format!("{package}: there is no newest version");
    }
    format!("{package}: the newest version is {}", shown(&body["version"]))
}

fn pointer(package: &str, tag: &str, body: &Value) -> Facts {
    let event = &body["event"];
    let fence = text(&body["fence"]);
    if event.is_object() && fence.is_none() {
        let subject = format!("{package}: {}", done(tag, event));
        return of_event(subject, event);
    }
    let subject = match (event.is_object(), body["removed"] == true) {
        (true, _) => format!("{package}: renew '{tag}'"),
        (false, true) => format!("{package}: reserve '{tag}'"),
        (false, false) => format!("{package}: '{tag}' is at {}", shown(&body["version"])),
    };
    Facts { subject, id: fence, ..Facts::default() }
}

/// What an event did to its tag.
fn done(tag: &str, event: &Value) -> String {
    let version = |key: &str| event[key].as_i64();
    match (event["kind"].as_str().unwrap_or_default(), version("from"), version("to")) {
        ("move", Some(from), Some(to)) => format!("move '{tag}' from {from} to {to}"),
        ("move", None, Some(to)) => format!("set '{tag}' to {to}"),
        ("untag", Some(from), _) => format!("remove '{tag}' from {from}"),
        (kind @ ("hold" | "release" | "adopt" | "disown"), _, _) => format!("{kind} '{tag}'"),
        (kind, _, _) => format!("change '{tag}': {kind}"),
    }
}

fn archived(package: &str, row: &str, event: &Value) -> Facts {
    let (tag, number) = row.rsplit_once('/').unwrap_or((row, "0"));
    let number = number.trim_start_matches('0');
    of_event(format!("{package}: event {number} of '{tag}': {}", done(tag, event)), event)
}

fn of_event(subject: String, event: &Value) -> Facts {
    Facts {
        subject,
        reason: text(&event["reason"]),
        by: text(&event["by"]),
        source: text(&event["source"]),
        id: text(&event["id"]),
        at: text(&event["at"]),
    }
}

/// One line of plain text: what could end a line, or drive a terminal, is a space.
fn line(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).take(LINE).collect::<String>().trim().to_owned()
}

fn written(facts: Facts) -> Message {
    let mut text = line(&facts.subject) + "\n";
    if let Some(reason) = facts.reason.map(|reason| line(&reason)).filter(|reason| !reason.is_empty()) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "\n{reason}\n");
    }
    let trailers = [("By", &facts.by), ("Source", &facts.source), ("Id", &facts.id)];
    let trailers = trailers.into_iter().filter_map(|(name, value)| Some((name, line(value.as_deref()?))));
    for (place, (name, value)) in trailers.filter(|(_, value)| !value.is_empty()).enumerate() {
        let before = if place == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{before}Sacker-{name}: {value}");
    }
    let by = facts.by.unwrap_or_default();
    let name = line(&by.replace(['<', '>'], " "));
    let name = if name.is_empty() { "sacker".to_owned() } else { name };
    let at = facts.at.and_then(|at| at.parse().ok());
    Message { mail: mail(&by), name, at, text }
}

/// `user@host` where that is who it was, else an address that can be nobody's.
fn mail(by: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-+".contains(letter);
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    match by.split_once('@') {
        Some((user, host)) if is_part(user) && is_part(host) => by.to_owned(),
        _ => {
            let user: String = by.chars().map(|letter| if is_plain(letter) { letter } else { '-' }).collect();
            let user = user.trim_matches('-');
            let user = if user.is_empty() { "sacker" } else { user };
            format!("{}@sacker.invalid", user.chars().take(100).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject(key: &str, body: &Value) -> String {
        let message = of(key, Some(body.to_string().as_bytes()));
        message.text.lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_move_reads_as_one() {
        let event = json!({
            "kind": "move", "from": 1, "to": 3, "by": "ann@build-7", "source": "cli", "reason": "works\nwell",
            "at": "2026-11-21T14:50:34.247Z", "id": "18ab", "seq": 2,
        });
        let body = json!({ "version": 3, "event": event }).to_string();
        let message = of("frontend-server/tags/live", Some(body.as_bytes()));
        let expected = "frontend-server: move 'live' from 1 to 3\n\nworks well\n\n\
                        Sacker-By: ann@build-7\nSacker-Source: cli\nSacker-Id: 18ab\n";
        assert_eq!(message.text, expected);
        assert_eq!((message.name.as_str(), message.mail.as_str()), ("ann@build-7", "ann@build-7"));
        assert_eq!(message.at.map(Timestamp::as_second), Some(1_795_272_634));
    }

    #[test]
    fn every_record_has_a_subject() {
        let event = |kind: &str| json!({ "version": 1, "event": { "kind": kind, "from": 1, "to": 1 } });
        let version = json!({ "sha": "ab", "basename": "app.jar", "add_id": "x" });
        let fenced = json!({ "version": 1, "event": { "kind": "move", "to": 1 }, "fence": "f" });
        for (key, body, expected) in [
            ("a/b/versions/3", version, "a/b: add version 3"),
            ("p/versions/3", json!({ "removal": { "by": "x" } }), "p: remove version 3"),
            ("p/versions/3", json!({ "removing": true, "fence": "f" }), "p: version 3 is to be removed"),
            ("p/versions/3", json!({ "fence": "f" }), "p: version 3 stays"),
            ("p/tags/latest", json!({ "version": 4 }), "p: the newest version is 4"),
            ("p/tags/latest", json!({ "version": 0, "removed": true }), "p: there is no newest version"),
            (
                "p/tags/live",
                json!({ "event": { "kind": "untag", "from": 2 }, "removed": true }),
                "p: remove 'live' from 2",
            ),
            ("p/tags/live", json!({ "event": { "kind": "move", "to": 2 } }), "p: set 'live' to 2"),
            ("p/tags/live", event("hold"), "p: hold 'live'"),
            ("p/tags/live", event("release"), "p: release 'live'"),
            ("p/tags/live", event("disown"), "p: disown 'live'"),
            ("p/tags/live", fenced, "p: renew 'live'"),
            ("p/tags/live", json!({ "version": 0, "removed": true, "fence": "f" }), "p: reserve 'live'"),
            ("p/tags/live", json!({ "version": 7, "fence": "f" }), "p: 'live' is at 7"),
            (
                "p/history/live/000000000012",
                json!({ "kind": "move", "from": 1, "to": 2 }),
                "p: event 12 of 'live': move 'live' from 1 to 2",
            ),
            (
                "_sacker/ledger.json",
                json!({ "versions": "sequence" }),
                "ledger: versions are numbered by sequence",
            ),
            ("_sacker/probe/1-x/0", json!(1), "write _sacker/probe/1-x/0"),
            ("README.md", json!(null), "write README.md"),
        ] {
            assert_eq!(subject(key, &body), expected, "{key}");
        }
        assert_eq!(of("_sacker/probe/1-x/0", None).text, "remove _sacker/probe/1-x/0\n");
        assert_eq!(of("p/versions/3", Some(b"{no json")).text, "p: add version 3\n");
    }

    #[test]
    fn nobody_forges_a_line_or_an_author() {
        let body = json!({
            "basename": "x", "added_by": "eve <root@host>\nSacker-Id: forged", "add_id": "real\nSacker-Id: forged",
        });
        let message = of("p/versions/1", Some(body.to_string().as_bytes()));
        assert!(!message.name.contains(['<', '>', '\n']), "{message:?}");
        assert!(!message.mail.contains(['<', '>', ' ', '\n']), "{message:?}");
        let ids: Vec<&str> = message.text.lines().filter(|line| line.starts_with("Sacker-Id:")).collect();
        assert_eq!(ids, ["Sacker-Id: real Sacker-Id: forged"]);
        let robot = mail("k8s:prod/web/live");
        assert_eq!(robot, "k8s-prod-web-live@sacker.invalid");
        assert_eq!(mail("<>"), "sacker@sacker.invalid");
    }
}
