//! The printer: the one place from which a command writes.
//!
//! Standard output is the answer and nothing else; notes, warnings and errors go to standard error. An answer is a table
//! on a terminal, one plain tab-separated line per item when piped, or JSON, YAML or bare names when asked for. Whatever
//! comes out of a ledger is somebody's input, so control characters are escaped in every form.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use super::arguments::Format;
use super::failure::{Failure, Outcome};
use super::message::Report;
use crate::environment::Environment;
use crate::error::{Error, Meaning, io_reason};
use crate::model::shown_in_full;

const HEADER: Style = Style::new().bold();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The blanks between two columns of a table: the most that fit.
const PADDINGS: [u16; 2] = [3, 2];

/// The narrowest that a wrapped column gets, in letters. On a terminal too narrow even for that each item is a record.
const WRAPPED_MIN: u16 = 12;

/// One thing that a command answers with.
pub(super) trait Item: Serialize {
    /// The column names of the table.
    const HEADERS: &'static [&'static str];

    /// Those of them whose text may be wrapped on a narrow terminal; numbers, times and names stay in one piece.
    const WRAPPED: &'static [&'static str] = &[];

    /// The columns.
    fn cells(&self) -> Vec<String>;

    /// The columns of the plain line; documented in `docs/cli.md`, scripts depend on them.
    fn plain(&self) -> Vec<String>;

    /// What other commands take for it.
    fn name(&self) -> String;
}

/// Where and how everything is written.
pub(super) struct Printer {
    out: RefCell<Box<dyn Write>>,
    /// Whether a person reads the answer.
    terminal: bool,
    /// Whether the answer may have colour.
    color: bool,
    width: Option<u16>,
    quiet: bool,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

impl Printer {
    /// The printer of this process; a `quiet` one prints no notes and no progress.
    pub(super) fn for_process(quiet: bool, environment: &Environment) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let columns = || environment.get("COLUMNS").and_then(|columns| columns.parse().ok());
        let width =
            rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col).filter(|width| *width > 0);
        Self {
            color: anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
            out: RefCell::new(if terminal { Box::new(stdout) } else { Box::new(BufWriter::new(stdout)) }),
            terminal,
            width: if terminal { columns().or(width).or(Some(80)) } else { None },
            quiet,
        }
    }

    /// Whether notes and progress are wanted.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether the answer in `format` is plain lines or names: each can be printed when it is known, and needs nothing that
    /// only tables and documents show.
    pub(super) fn is_plain(&self, format: Option<Format>) -> bool {
        match format {
            None => !self.terminal,
            Some(format) => format == Format::Name,
        }
    }

    /// Answers with a list.
    pub(super) fn list<T: Item>(&self, format: Option<Format>, items: &[T]) -> Outcome {
        match format {
            Some(Format::Json) => self.json(items),
            Some(Format::Yaml) => self.yaml(&items),
            None if self.terminal => self.table(items),
            Some(Format::Table) => self.table(items),
            None | Some(Format::Name) => items.iter().try_for_each(|item| self.item(format, item)),
        }
    }

    /// Prints one item of a streamed list as its plain line or name.
    pub(super) fn item<T: Item>(&self, format: Option<Format>, item: &T) -> Outcome {
        if format == Some(Format::Name) {
            return self.line(&item.name());
        }
        let cells: Vec<_> = item.plain().iter().map(|cell| shown_in_full(cell).into_owned()).collect();
        self.raw(format_args!("{}\n", cells.join("\t")))
    }

    /// Answers with one thing: a field per line, or a document.
    pub(super) fn fields<T: Serialize>(
        &self,
        format: Option<Format>,
        value: &T,
        fields: &[(String, String)],
        name: &str,
    ) -> Outcome {
        match format {
            Some(Format::Json) => self.json(value),
            Some(Format::Yaml) => self.yaml(value),
            Some(Format::Name) => self.line(name),
            None | Some(Format::Table) => {
                let aligned = self.terminal || format.is_some();
                let width = fields.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
                for (key, value) in fields {
                    let value = shown_in_full(value);
                    if aligned {
                        let (bold, reset) = self.style(HEADER);
                        self.raw(format_args!("{bold}{key:width$}{reset}  {value}\n"))?;
                    } else {
                        self.raw(format_args!("{key}\t{value}\n"))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Answers with a document if one was asked for, and with these rows otherwise.
    pub(super) fn rows_or<T: Serialize, R: Item>(
        &self,
        format: Option<Format>,
        value: &T,
        rows: &[R],
    ) -> Outcome {
        match format {
            Some(Format::Json) => self.json(value),
            Some(Format::Yaml) => self.yaml(value),
            None | Some(Format::Table | Format::Name) => self.list(format, rows),
        }
    }

    /// Answers with a document if one was asked for, and with this line otherwise.
    pub(super) fn line_or<T: Serialize>(&self, format: Option<Format>, value: &T, line: &str) -> Outcome {
        match format {
            Some(Format::Json) => self.json(value),
            Some(Format::Yaml) => self.yaml(value),
            None | Some(Format::Table | Format::Name) => self.line(line),
        }
    }

    /// Answers with a document if one was asked for, and with nothing otherwise.
    pub(super) fn document_only<T: Item>(&self, format: Option<Format>, item: &T) -> Outcome {
        match format {
            None | Some(Format::Table) => Ok(()),
            Some(_) => self.line_or(format, item, &item.name()),
        }
    }

    /// Answers with one line.
    pub(super) fn line(&self, text: &str) -> Outcome {
        self.raw(format_args!("{}\n", shown_in_full(text)))
    }

    /// Answers with text of our own that has lines.
    pub(super) fn text(&self, text: &str) -> Outcome {
        self.raw(format_args!("{text}"))
    }

    fn json<T: Serialize + ?Sized>(&self, value: &T) -> Outcome {
        let text = serde_json::to_string_pretty(value).map_err(unprintable)?;
        // JSON leaves some controls as they are. They stand in strings only, where the escape means the same.
        let mut safe = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter != '\n' && obeyed(letter) {
                // Writing to a String cannot fail.
                let _ = fmt::Write::write_fmt(&mut safe, format_args!("\\u{:04x}", u32::from(letter)));
            } else {
                safe.push(letter);
            }
        }
        self.raw(format_args!("{safe}\n"))
    }

    fn yaml<T: Serialize>(&self, value: &T) -> Outcome {
        // A long value (a pinned spec) stays on its line, where people and `grep` look for it.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let text = serde_saphyr::to_string_with_options(value, options).map_err(unprintable)?;
        // The writer escapes what YAML wants escaped, which direction controls are not. JSON is YAML too.
        if text.chars().any(|letter| letter != '\n' && obeyed(letter)) {
            return self.json(value);
        }
        self.raw(format_args!("{}\n", text.trim_end_matches('\n')))
    }

    fn table<T: Item>(&self, items: &[T]) -> Outcome {
        if items.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(T::HEADERS.to_vec());
        if let Some(width) = self.width {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        for item in items {
            let cells: Vec<_> = item.cells().iter().map(|cell| shown_in_full(cell).into_owned()).collect();
            table.add_row(cells);
        }
        let last = T::HEADERS.len() - 1;
        let least = least_widths::<T>(&table);
        let Some(between) = self.padding(&least) else { return self.records(items) };
        for (column, (header, least)) in table.column_iter_mut().zip(T::HEADERS.iter().zip(least)) {
            let padding = if column.index == last { 0 } else { between };
            column.set_padding((0, padding));
            column.set_constraint(if T::WRAPPED.contains(header) {
                ColumnConstraint::LowerBoundary(Width::Fixed(least + padding))
            } else {
                ColumnConstraint::ContentWidth
            });
        }
        for (index, line) in table.lines().enumerate() {
            let line = line.trim_end();
            if index == 0 {
                let (bold, reset) = self.style(HEADER);
                self.raw(format_args!("{bold}{line}{reset}\n"))?;
            } else {
                self.raw(format_args!("{line}\n"))?;
            }
        }
        Ok(())
    }

    /// The blanks between columns that are as narrow as they can be; nothing where they do not fit.
    fn padding(&self, least: &[u16]) -> Option<u16> {
        let Some(width) = self.width else { return PADDINGS.first().copied() };
        let columns = u16::try_from(least.len()).unwrap_or(u16::MAX);
        let text: u16 = least.iter().fold(0, |sum, width| sum.saturating_add(*width));
        let needed = |padding: u16| text.saturating_add(padding.saturating_mul(columns.saturating_sub(1)));
        PADDINGS.into_iter().find(|padding| needed(*padding) <= width)
    }

    /// A line per column and an empty one between items: a table that a narrow terminal would break is not to be read.
    fn records<T: Item>(&self, items: &[T]) -> Outcome {
        let width = T::HEADERS.iter().map(|header| header.len()).max().unwrap_or(0);
        let (bold, reset) = self.style(HEADER);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.raw(format_args!("\n"))?;
            }
            for (header, cell) in T::HEADERS.iter().zip(item.cells()) {
                self.raw(format_args!("{bold}{header:width$}{reset}  {}\n", shown_in_full(&cell)))?;
            }
        }
        Ok(())
    }

    /// The escape codes that begin and end a style in the answer; empty without colour.
    fn style(&self, style: Style) -> (String, String) {
        if self.color {
            (style.render().to_string(), style.render_reset().to_string())
        } else {
            Default::default()
        }
    }

    fn raw(&self, text: fmt::Arguments<'_>) -> Outcome {
        self.out.borrow_mut().write_fmt(text).map_err(closed)
    }

    /// Makes sure that the answer has left the process.
    pub(super) fn finish(&self) -> Outcome {
        self.out.borrow_mut().flush().map_err(closed)
    }

    /// Says something that is not the answer, unless `-q` was given.
    pub(super) fn note(&self, text: fmt::Arguments<'_>) {
        if !self.quiet {
            stderr_line(&format!("note: {}", shown_in_full(&text.to_string())));
        }
    }
}

/// How narrow each column may get.
fn least_widths<T: Item>(table: &Table) -> Vec<u16> {
    let least = |(header, whole): (&&str, u16)| {
        if T::WRAPPED.contains(header) { whole.min(WRAPPED_MIN) } else { whole }
    };
    T::HEADERS.iter().zip(table.column_max_content_widths()).map(least).collect()
}

/// Says why the command failed and what to do.
pub(super) fn print_report(report: &Report) {
    stderr_line(&format!("{ERROR}error:{ERROR:#} {}", shown_in_full(&report.error)));
    for cause in &report.causes {
        stderr_line(&format!("  caused by: {}", shown_in_full(cause)));
    }
    report.hints.iter().for_each(|hint| print_hint(hint));
}

/// Says what to do.
pub(super) fn print_hint(hint: &str) {
    stderr_line(&format!("{HINT}hint:{HINT:#} {}", shown_in_full(hint)));
}

/// Says that something is wrong which did not stop the command.
pub(super) fn print_warning(text: fmt::Arguments<'_>) {
    stderr_line(&format!("{WARNING}warning:{WARNING:#} {}", shown_in_full(&text.to_string())));
}

/// Whether a terminal would act on the letter instead of showing it.
fn obeyed(letter: char) -> bool {
    shown_in_full(letter.encode_utf8(&mut [0; 4])).len() > letter.len_utf8()
}

/// Writes a line to standard error, in colour where that is wanted. Nobody can be told if that fails.
pub(super) fn stderr_line(line: &str) {
    let _unwritten = writeln!(anstream::stderr(), "{line}");
}

/// Asks on standard error, where also a piped answer does not hide the question.
pub(super) fn prompt(question: &str) {
    let mut stderr = anstream::stderr();
    let _unwritten = write!(stderr, "{question}").and_then(|()| stderr.flush());
}

/// A failed write of the answer: a closed pipe means that the reader has enough.
fn closed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::ClosedPipe;
    }
    let why = format!("cannot write to standard output: {}", io_reason(&error));
    Failure::Error(Error::new(Meaning::Local { why }, "print the answer").with_source(error))
}

fn unprintable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Meaning::Other, "print the answer").with_source(error)
}

#[cfg(test)]
mod tests;
