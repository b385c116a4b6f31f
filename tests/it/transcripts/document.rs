//! A transcript as text: prose, and blocks of commands with what they print.
//!
//! A block begins with ` ```console ` and ends with ` ``` `. A line `$ ...` in it is a command, lines `> ...` right after go on
//! with it, all else is what it prints (both streams, as they come), and `[exit code N]` at the end is its exit code
//! where that is not 0. Pure: text becomes a [`Document`] and a document becomes the same text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the line `<!-- transcript: key=value ... -->` of a document says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// What the ledger is on: `default` (nothing is configured), `files`, `git`, `minio`, `dynamodb`, ...
    pub(super) ledger: String,
    /// What the store is on; without it, files.
    pub(super) store: String,
    /// Servers that the commands name by themselves.
    pub(super) servers: Vec<String>,
    /// Files beside the document that the work directory begins with.
    pub(super) files: Vec<String>,
}

/// How the commands of a block run: the words after ` ```console `.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    /// `width=40`: in a terminal that has so many columns. Without it, in a pipe.
    pub(super) width: Option<u16>,
    /// `color`: the terminal is one with colours. Without it `NO_COLOR` is set there.
    pub(super) color: bool,
    /// `answer=y`: what is typed at each question.
    pub(super) answer: Option<String>,
    /// `NAME=VALUE`, as often as given: variables.
    pub(super) variables: BTreeMap<String, String>,
}

/// A command with what it is said to print.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// One line, or several.
    pub(super) command: String,
    /// Whole lines; empty, or with a line end.
    pub(super) output: String,
}

/// A stretch of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Lines that are left alone.
    Prose(String),
    /// The line that opens a block, as it stands there, and its commands.
    Block { opening: String, attributes: Attributes, steps: Vec<Step> },
}

/// A whole transcript.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) settings: Settings,
    pub(super) pieces: Vec<Piece>,
}

const OPENING: &str = "```console";
const CLOSING: &str = "```";
const PROMPT: &str = "$ ";
const MORE: &str = "> ";

impl Document {
    /// Reads a document; in words, what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut settings = Settings { ledger: "default".to_owned(), ..Settings::default() };
        let mut prose = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(words) = opening(line) {
                let steps = steps(&mut lines)?;
                pieces.push(Piece::Prose(std::mem::take(&mut prose)));
                pieces.push(Piece::Block { opening: line.to_owned(), attributes: attributes(words)?, steps });
                continue;
            }
            if let Some(words) = line.strip_prefix("<!-- transcript:") {
                settings = self::settings(words.trim_end_matches("-->"))?;
            }
            prose.push_str(line);
            prose.push('\n');
        }
        pieces.push(Piece::Prose(prose));
        Ok(Self { settings, pieces })
    }

    /// The document as text. What a command printed and would be read back as something else is refused, in words.
    pub(super) fn text(&self) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Prose(prose) => text.push_str(prose),
                Piece::Block { opening, steps, .. } => {
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{opening}");
                    for step in steps {
                        write_step(&mut text, step);
                    }
                    let _ = writeln!(text, "{CLOSING}");
                }
            }
        }
        match Self::parse(&text) {
            Ok(again) if again.pieces == self.pieces => Ok(text),
            _ => Err("a command prints lines that look like commands or like the end of a block".to_owned()),
        }
    }

    /// All commands, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.pieces.iter().flat_map(|piece| match piece {
            Piece::Prose(_) => &[],
            Piece::Block { steps, .. } => steps.as_slice(),
        })
    }
}

impl Step {
    /// The exit code that the last line of the output tells.
    pub(super) fn exit_code(&self) -> u8 {
        let last = self.output.lines().last().unwrap_or_default();
        let code = last.strip_prefix("[exit code ").and_then(|rest| rest.strip_suffix(']'));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

/// The words behind ` ```console `, on a line that opens a block.
fn opening(line: &str) -> Option<&str> {
    line.strip_prefix(OPENING).filter(|words| words.is_empty() || words.starts_with(' '))
}

fn steps<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        if line == CLOSING {
            return Ok(steps);
        }
        if let Some(command) = line.strip_prefix(PROMPT) {
            steps.push(Step { command: command.to_owned(), output: String::new() });
            continue;
        }
        let step = steps.last_mut().ok_or_else(|| format!("a block begins with '{line}', not with '$ '"))?;
        match line.strip_prefix(MORE).filter(|_| step.output.is_empty()) {
            Some(more) => step.command = format!("{}\n{more}", step.command),
            None => step.output = format!("{}{line}\n", step.output),
        }
    }
    Err("a block does not end".to_owned())
}

fn write_step(text: &mut String, step: &Step) {
    for (number, line) in step.command.lines().enumerate() {
        let _ = writeln!(text, "{}{line}", if number == 0 { PROMPT } else { MORE });
    }
    text.push_str(&step.output);
}

fn attributes(words: &str) -> Result<Attributes, String> {
    let mut attributes = Attributes::default();
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("width", width)) => {
                attributes.width = Some(width.parse().map_err(|_| format!("'{word}' is no width"))?);
            }
            Some(("answer", answer)) => attributes.answer = Some(answer.to_owned()),
            Some((name, value)) if name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') => {
                attributes.variables.insert(name.to_owned(), value.to_owned());
            }
            None if word == "color" => attributes.color = true,
            _ => return Err(format!("a block has no attribute '{word}'")),
        }
    }
    Ok(attributes)
}

fn settings(words: &str) -> Result<Settings, String> {
    let mut settings = Settings { ledger: "default".to_owned(), ..Settings::default() };
    let list = |value: &str| value.split(',').map(str::to_owned).collect();
    for word in words.split_whitespace() {
        match word.split_once('=') {
            Some(("ledger", value)) => value.clone_into(&mut settings.ledger),
            Some(("store", value)) => value.clone_into(&mut settings.store),
            Some(("servers", value)) => settings.servers = list(value),
            Some(("files", value)) => settings.files = list(value),
            _ => return Err(format!("a document has no setting '{word}'")),
        }
    }
    Ok(settings)
}

mod tests {
    use super::*;

    const TEXT: &str = "# Title\n<!-- transcript: ledger=files servers=minio,dynamodb -->\n\nProse.\n\n```console width=40 A_B=c\n\
                        $ echo one\none\n\nmore\n$ cat <<.\n> text\n> .\n> not a line of the command\n[exit code 3]\n```\nEnd.\n\
                        ```json\n{}\n```\n";

    #[test]
    fn a_document_is_read_and_written_as_it_is() {
        // A line of output that looks like more of the command is taken for it: the text stays the same, so it shows.
        let document = Document::parse(TEXT).expect("a document");
        assert_eq!(document.text().as_deref(), Ok(TEXT));
        assert_eq!(document.settings.servers, ["minio", "dynamodb"]);
        let steps: Vec<&Step> = document.steps().collect();
        assert_eq!((steps[0].command.as_str(), steps[0].output.as_str()), ("echo one", "one\n\nmore\n"));
        assert_eq!((steps[0].exit_code(), steps[1].exit_code()), (0, 3));
        assert_eq!(steps[1].command, "cat <<.\ntext\n.\nnot a line of the command");
        let Piece::Block { attributes, .. } = &document.pieces[1] else { panic!("{document:?}") };
        assert_eq!((attributes.width, attributes.variables["A_B"].as_str()), (Some(40), "c"));
    }

    #[test]
    fn what_would_be_read_back_differently_is_refused() {
        let mut document = Document::parse("```console\n$ a\n```\n").expect("a document");
        for output in ["$ b\n", "```\n", "> b\n"] {
            let Piece::Block { steps, .. } = &mut document.pieces[1] else { panic!("{document:?}") };
            output.clone_into(&mut steps[0].output);
            document.text().expect_err(output);
        }
    }

    #[test]
    fn broken_documents_are_refused() {
        for text in [
            "```console\n$ a\n",
            "```console\nno command\n```\n",
            "```console colour\n$ a\n```\n",
            "```console width=wide\n$ a\n```\n",
            "<!-- transcript: leger=files -->\n",
        ] {
            Document::parse(text).expect_err(text);
        }
    }
}
