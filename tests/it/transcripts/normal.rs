//! What is not the same in every run, made the same: places, times, ids. What depends on nothing but the input, such as the
//! digest of a file, stays.
//!
//! Everything keeps its width, so that columns stay aligned.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sacker::clock::{Clock as _, SystemClock};

/// The hour in which every document runs.
const HOUR: &str = "2026-11-21T10:00:00Z";

/// Of the versions that are times: the first of a document.
const FIRST_VERSION: i64 = 1_795_255_200_001;

/// How far from the document's own time something counts as of this run: `gc` tells when the grace of a day ends.
const THIS_RUN: SignedDuration = SignedDuration::from_hours(72);

/// Shapes of text: `d` is a digit, `h` a digit of lower-case hex, `x` a letter or digit, all else is itself.
const MILLISECONDS: &str = "dddd-dd-ddTdd:dd:dd.dddZ";
const SECONDS: &str = "dddd-dd-ddTdd:dd:ddZ";
const ID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
const VERSION: &str = "ddddddddddddd";
const TEMPORARY: &str = ".tmpxxxxxx";

/// What a document has seen so far, so that the same thing looks the same wherever it is printed.
#[derive(Debug)]
pub(super) struct Normal {
    started: Timestamp,
    /// Text and what stands for it, the longest first.
    places: Vec<(String, String)>,
    ids: BTreeMap<String, usize>,
    versions: BTreeMap<String, usize>,
}

impl Normal {
    /// Begins a document; `places` are texts and what stands for each.
    pub(super) fn new(mut places: Vec<(String, String)>) -> Self {
        places.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { started: SystemClock.now(), places, ids: BTreeMap::new(), versions: BTreeMap::new() }
    }

    /// `text` as the document shows it.
    pub(super) fn apply(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, shown) in &self.places {
            text = text.replace(place, shown);
        }
        let text = self.tokens(&text);
        text.split_inclusive('\n').map(line).collect()
    }

    /// Replaces times, ids, versions that are times, and names of temporary files.
    fn tokens(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut before = None;
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let is_start = !before.is_some_and(char::is_alphanumeric);
            let found = if is_start { self.token(rest) } else { None };
            let (length, token) = found.unwrap_or_else(|| (letter.len_utf8(), letter.to_string()));
            shown.push_str(&token);
            before = rest[..length].chars().next_back();
            rest = &rest[length..];
        }
        shown
    }

    /// What `text` begins with, if it is to be replaced: its length, and what stands for it.
    fn token(&mut self, text: &str) -> Option<(usize, String)> {
        for shape in [MILLISECONDS, SECONDS] {
            if let Some(time) = begin(text, shape) {
                return Some((shape.len(), self.time(time, shape == MILLISECONDS)));
            }
        }
        if let Some(id) = begin(text, ID) {
            let number = numbered(&mut self.ids, id);
            return Some((ID.len(), format!("00000000-0000-4000-8000-{number:012}")));
        }
        if let Some(version) = begin(text, VERSION).filter(|version| self.is_of_this_run(version)) {
            let number = numbered(&mut self.versions, version);
            let shown = FIRST_VERSION + i64::try_from(number).ok()? - 1;
            return Some((VERSION.len(), shown.to_string()));
        }
        begin(text, TEMPORARY).map(|_| (TEMPORARY.len(), ".tmpXXXXXX".to_owned()))
    }

    /// A time of this run by whole hours since its begin; any other as it is.
    fn time(&self, text: &str, has_milliseconds: bool) -> String {
        let Some(passed) = text.parse().ok().map(|time: Timestamp| time.duration_since(self.started)) else {
            return text.to_owned();
        };
        if passed.abs() > THIS_RUN {
            return text.to_owned();
        }
        // To the nearest: something that happened "an hour later" may be a second short of it.
        let hours = (passed.as_secs() + 1800).div_euclid(3600);
        let hour: Timestamp = HOUR.parse().expect("a time");
        let time = hour + SignedDuration::from_hours(hours);
        if has_milliseconds { format!("{time:.3}") } else { time.to_string() }
    }

    fn is_of_this_run(&self, version: &str) -> bool {
        let time = version.parse().ok().and_then(|number| Timestamp::from_millisecond(number).ok());
        time.is_some_and(|time| time.duration_since(self.started).abs() < THIS_RUN)
    }
}

/// The number of `name`, from 1, in the order in which names were first seen.
fn numbered(names: &mut BTreeMap<String, usize>, name: &str) -> usize {
    let next = names.len() + 1;
    *names.entry(name.to_owned()).or_insert(next)
}

/// The begin of `text` if it has this shape, and is no part of a longer word.
fn begin<'a>(text: &'a str, shape: &str) -> Option<&'a str> {
    let found = text.get(..shape.len())?;
    let fits = |(letter, shape): (char, char)| match shape {
        'd' => letter.is_ascii_digit(),
        'h' => letter.is_ascii_digit() || ('a'..='f').contains(&letter),
        'x' => letter.is_ascii_alphanumeric(),
        other => letter == other,
    };
    let ends = !text[shape.len()..].starts_with(|letter: char| letter.is_alphanumeric());
    (ends && found.chars().zip(shape.chars()).all(fits)).then_some(found)
}

/// What can only be told from its line: how long something took, and digests over times and ids.
fn line(line: &str) -> String {
    let line = before(line, " s after the start", |letter| letter.is_ascii_digit() || letter == '.', "0.1");
    let line = before(&line, " MiB are free for", |letter| letter.is_ascii_digit(), "20000");
    for key in ["\"prev\":\"", "\"prev\": \"", "prev: "] {
        if let Some(shown) = digest_after(&line, key) {
            return shown;
        }
    }
    if line.starts_with("{\"end\":") {
        return digest_after(&line, "\"sha256\":\"").unwrap_or(line);
    }
    line
}

/// Replaces what stands before `mark` and consists of letters that `is_part` takes.
fn before(line: &str, mark: &str, is_part: impl Fn(char) -> bool, shown: &str) -> String {
    let Some(position) = line.find(mark) else { return line.to_owned() };
    let (head, tail) = line.split_at(position);
    format!("{}{shown}{tail}", head.trim_end_matches(is_part))
}

/// Replaces the digest behind `key`, if there is one.
fn digest_after(line: &str, key: &str) -> Option<String> {
    let position = line.find(key)? + key.len();
    let digest = line.get(position..position + 64)?;
    digest.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| line.replacen(digest, &"e".repeat(64), 1))
}

mod tests {
    use super::*;

    #[test]
    fn times_of_this_run_become_one_hour_and_others_stay() {
        let mut normal = Normal::new(Vec::new());
        let now = normal.started;
        for (time, shown) in [
            (format!("at {now:.3},"), "at 2026-11-21T10:00:00.000Z,"),
            (format!("{now:.0}"), "2026-11-21T10:00:00Z"),
            (format!("{:.0}", now + SignedDuration::from_secs(24 * 3600 - 2)), "2026-11-22T10:00:00Z"),
            (format!("{:.0}", now - SignedDuration::from_secs(3599)), "2026-11-21T09:00:00Z"),
            ("2001-02-03T04:05:06Z".to_owned(), "2001-02-03T04:05:06Z"),
            (now.as_millisecond().to_string(), "1795255200001"),
            ("1001255200001".to_owned(), "1001255200001"),
        ] {
            assert_eq!(normal.apply(&time), shown);
        }
    }

    #[test]
    fn ids_are_numbered_and_digests_of_files_stay() {
        let mut normal = Normal::new(vec![("/h".into(), "~".into()), ("/h/longer".into(), "L".into())]);
        let [one, two] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let shown = normal.apply(&format!("{two} {one} {two}"));
        let numbers: Vec<_> = shown.split(' ').filter_map(|id| id.chars().next_back()).collect();
        assert_eq!(numbers, ['1', '2', '1']);
        let digest = "0123456789012345678901234567890123456789012345678901234567890123";
        assert_eq!(normal.apply(&format!("sha256 {digest}\n")), format!("sha256 {digest}\n"));
        assert_eq!(
            normal.apply(&format!("\"prev\": \"{digest}\",")),
            format!("\"prev\": \"{}\",", "e".repeat(64))
        );
        assert_eq!(normal.apply("/h/x /h/longer"), "~/x L");
        assert_eq!(normal.apply("given up 12.8 s after the start\n"), "given up 0.1 s after the start\n");
        assert_eq!(normal.apply("ok\tdisk\t7 MiB are free for 'x'"), "ok\tdisk\t20000 MiB are free for 'x'");
        assert_eq!(normal.apply("/tmp/.tmpaB3dEf/x .tmpabc"), "/tmp/.tmpXXXXXX/x .tmpabc");
    }
}
