//! What clients did and were told, as they saw it: one JSON line per call and one per answer.
//!
//! All times are nanoseconds of the one monotonic clock of the host, so that calls of different processes can be compared.
//! Not responsible for judging what is in a history (the checkers beside this), nor for making one (`worker`).

use std::collections::{BTreeMap, HashMap};

use sacker::error::{Error, Meaning, Missing};
use sacker::exit::Exit;
use sacker::model::{Event, VersionRecord};
use serde::{Deserialize, Serialize};

/// What a tag change demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expectation {
    Any,
    Version(i64),
    Seq(u64),
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// `id` is the `add_id`; empty where the client made one itself. Each call has a sha of its own.
    Add {
        package: String,
        sha: String,
        id: String,
    },
    Latest {
        package: String,
    },
    /// `id` is the event's id, or its reason where the client made the id itself. `to` nothing: remove the tag.
    Tag {
        package: String,
        tag: String,
        to: Option<i64>,
        expected: Expectation,
        id: String,
    },
    Read {
        package: String,
        tag: String,
    },
    Info {
        package: String,
        version: i64,
    },
}

impl Call {
    pub(crate) fn package(&self) -> &str {
        match self {
            Self::Add { package, .. }
            | Self::Latest { package }
            | Self::Tag { package, .. }
            | Self::Read { package, .. }
            | Self::Info { package, .. } => package,
        }
    }

    /// Whether it is about this tag.
    pub(crate) fn is_about(&self, package: &str, tag: &str) -> bool {
        match self {
            Self::Tag { package: of, tag: named, .. } | Self::Read { package: of, tag: named } => {
                of == package && named == tag
            }
            _ => false,
        }
    }
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Of `add` and `latest`; nothing where the package has no version.
    Version(Option<i64>),
    /// Of `info`.
    Record { version: i64, sha: String },
    /// The tag was changed by this very call.
    Changed { seq: Option<u64>, from: Option<i64>, to: Option<i64> },
    /// The tag as it was found: by a read, or by a change that had nothing to do. A client that cannot tell says it of a
    /// change that it made, too.
    Tag { seq: Option<u64>, version: Option<i64> },
    /// The change was refused: this was found instead of what it demanded.
    Conflict { seq: Option<u64>, version: Option<i64> },
    /// It failed. `is_open` says that it may have happened all the same, which only a write can say.
    Failed { code: u8, is_open: bool, why: String },
}

impl Answer {
    /// An error of the library as the client sees it. A conflict tells what was found, which is a read.
    pub(crate) fn of_error(error: &Error) -> Self {
        if let Meaning::Conflict { found, .. } = error.meaning()
            && let Some(found) = parse_found(found)
        {
            return found;
        }
        match error.meaning() {
            Meaning::NotFound(Missing::Package(_)) => Self::Version(None),
            Meaning::NotFound(Missing::Tag(..)) => Self::Tag { seq: None, version: None },
            _ => Self::Failed {
                code: Exit::from(error).code(),
                is_open: error.unsettled().is_some(),
                why: format!("{error}; id {:?}; {:?}", error.unsettled(), std::error::Error::source(error)),
            },
        }
    }
}

/// Reads `version 7`, `no version` and `event 3 (version 7)`: what a refused change says that it found.
pub(crate) fn parse_found(text: &str) -> Option<Answer> {
    let version = |text: &str| match text {
        "no version" => Some(None),
        text => text.strip_prefix("version ").and_then(|number| number.parse().ok()).map(Some),
    };
    match text.strip_prefix("event ") {
        None => version(text).map(|version| Answer::Conflict { seq: None, version }),
        Some(rest) => {
            let (seq, shown) = rest.strip_suffix(')')?.split_once(" (")?;
            Some(Answer::Conflict { seq: Some(seq.parse().ok()?), version: version(shown)? })
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) client: usize,
    pub(crate) number: u64,
    pub(crate) at: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Call(Call),
    Answer(Answer),
    /// Every client stands still, and nothing is under way any more: nothing that was called before can happen after.
    Barrier,
}

/// A call with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) number: u64,
    pub(crate) call: Call,
    pub(crate) called: u64,
    /// Nothing where the client never got one.
    pub(crate) answer: Option<Answer>,
    /// When it was answered; without an answer, or with one that leaves the outcome open, the end of its window.
    pub(crate) returned: u64,
    /// How many barriers came before.
    pub(crate) window: usize,
}

impl Operation {
    /// Whether the client was told what became of it.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(self.answer, None | Some(Answer::Failed { is_open: true, .. }))
    }
}

/// What the ledger says about one package after the last barrier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) versions: Vec<Visible>,
    pub(crate) events: BTreeMap<String, Vec<Event>>,
}

/// A version that readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) version: i64,
    pub(crate) sha: String,
    pub(crate) id: String,
}

impl From<VersionRecord> for Visible {
    fn from(record: VersionRecord) -> Self {
        Self {
            version: record.version.get(),
            sha: record.sha256.to_string(),
            id: record.add_id.unwrap_or_default(),
        }
    }
}

/// The lines as text.
pub(crate) fn write(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line).expect("a line is plain data"));
        text.push('\n');
    }
    text
}

/// Reads text that [`write`] wrote. A last line without its end was cut off when its writer died, and says nothing.
pub(crate) fn read(text: &str) -> Vec<Line> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}")))
        .collect()
}

/// Pairs calls with answers, in the order of the calls.
///
/// # Errors
/// An answer without a call, two answers to one call, an answer before its call.
pub(crate) fn pair(mut lines: Vec<Line>) -> Result<Vec<Operation>, String> {
    // An answer that has the same time as a call may not have come before it: calls first.
    lines.sort_by_key(|line| (line.at, matches!(line.what, What::Answer(_))));
    let mut operations: Vec<Operation> = Vec::new();
    let mut places: HashMap<(usize, u64), usize> = HashMap::new();
    let mut window = 0;
    let mut window_start = 0;
    for line in lines {
        let of = (line.client, line.number);
        match line.what {
            What::Call(call) => {
                if places.insert(of, operations.len()).is_some() {
                    return Err(format!("client {} called {} twice", line.client, line.number));
                }
                let Line { client, number, at: called, .. } = line;
                let operation =
                    Operation { client, number, call, called, answer: None, returned: u64::MAX, window };
                operations.push(operation);
            }
            What::Answer(answer) => {
                let place = places.get(&of).ok_or_else(|| {
                    format!("client {} was answered {} before it called", line.client, line.number)
                })?;
                let operation = &mut operations[*place];
                if operation.answer.is_some() {
                    return Err(format!("client {} was answered {} twice", line.client, line.number));
                }
                operation.answer = Some(answer);
                if operation.is_settled() {
                    operation.returned = line.at;
                }
            }
            What::Barrier => {
                for operation in &mut operations[window_start..] {
                    operation.returned = operation.returned.min(line.at);
                }
                window_start = operations.len();
                window += 1;
            }
        }
    }
    Ok(operations)
}

/// A violation names the operation it shows at.
pub(crate) fn shown(operation: &Operation) -> String {
    let Operation { client, number, call, called, answer, returned, .. } = operation;
    format!("client {client} #{number} {call:?} -> {answer:?} [{called}..{returned}]")
}

mod tests {
    use super::*;

    fn line(client: usize, at: u64, what: What) -> Line {
        Line { client, number: 1, at, what }
    }

    fn latest() -> What {
        What::Call(Call::Latest { package: "p".into() })
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let expected = Expectation::Seq(3);
        let (package, tag) = ("p".to_owned(), "live".to_owned());
        let lines = vec![
            line(1, 5, What::Call(Call::Tag { package, tag, to: Some(2), expected, id: "i".into() })),
            line(1, 9, What::Answer(Answer::Changed { seq: Some(4), from: None, to: Some(2) })),
            line(0, 10, What::Barrier),
        ];
        let text = write(&lines);
        assert_eq!(read(&text), lines);
        assert_eq!(read(&text[..text.len() - 5]), lines[..2], "the last line was cut");
    }

    #[test]
    fn answers_come_after_their_calls_and_once() {
        let answer = || What::Answer(Answer::Version(Some(1)));
        let paired = pair(vec![line(1, 5, latest()), line(1, 9, answer())]).expect("a history");
        assert_eq!((paired[0].called, paired[0].returned, paired[0].is_settled()), (5, 9, true));
        pair(vec![line(1, 5, latest()), line(1, 4, answer())]).expect_err("before");
        pair(vec![line(1, 5, latest()), line(1, 6, answer()), line(1, 7, answer())]).expect_err("twice");
        pair(vec![line(1, 5, latest()), line(2, 6, answer())]).expect_err("somebody else");
    }

    #[test]
    fn what_is_open_ends_with_its_window() {
        let failed = Answer::Failed { code: 7, is_open: true, why: String::new() };
        let lines = vec![
            line(1, 5, latest()),
            line(2, 6, latest()),
            line(2, 7, What::Answer(failed)),
            line(0, 10, What::Barrier),
            line(3, 11, latest()),
        ];
        let paired = pair(lines).expect("a history");
        let ends: Vec<_> = paired.iter().map(|operation| (operation.window, operation.returned)).collect();
        assert_eq!(ends, [(0, 10), (0, 10), (1, u64::MAX)]);
    }

    #[test]
    fn what_a_conflict_found_is_understood() {
        let found = |seq, version| Some(Answer::Conflict { seq, version });
        assert_eq!(parse_found("version 7"), found(None, Some(7)));
        assert_eq!(parse_found("no version"), found(None, None));
        assert_eq!(parse_found("event 3 (version 7)"), found(Some(3), Some(7)));
        assert_eq!(parse_found("event 4 (no version)"), found(Some(4), None));
        assert_eq!(parse_found("tags live"), None);
    }
}
