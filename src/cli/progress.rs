//! How far a transfer is: a bar on a terminal, a line every ten seconds in a log, nothing with `-q`.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Printer;
use crate::clock::Clock;
use crate::model::shown_in_full;

/// How often a log gets a line.
const INTERVAL: Duration = Duration::from_secs(10);

/// The bar. It fits into 80 columns; the name of the file comes last and gets what is left.
const TEMPLATE: &str =
    "{prefix} [{bar:15}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";

/// The same where nobody knows how much there is.
const ENDLESS_TEMPLATE: &str = "{prefix} {binary_bytes} {binary_bytes_per_sec} {wide_msg}";

/// The bar of something that is counted.
const COUNTING_TEMPLATE: &str = "{prefix} {pos} {wide_msg}";

/// The progress of one transfer. Ends, and leaves no trace on a terminal, when dropped.
#[derive(Debug)]
pub(super) struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Hidden,
    Bar(ProgressBar),
    Lines { clock: Arc<dyn Clock>, what: String, unit: Unit, state: Mutex<Lines> },
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Bytes, out of so many.
    Bytes(Option<u64>),
    /// Things of this name.
    Things(&'static str),
}

#[derive(Debug)]
struct Lines {
    started: Duration,
    printed: Duration,
    done: u64,
}

impl Progress {
    /// Begins to show how `verb` (`hashing`, `uploading`, ...) of `name` goes on; `total` is in bytes.
    pub(super) fn new(
        printer: &Printer,
        clock: &Arc<dyn Clock>,
        verb: &'static str,
        name: &str,
        total: Option<u64>,
    ) -> Self {
        // A template that does not parse leaves the default style: progress must not fail a transfer.
        let template = if total.is_some() { TEMPLATE } else { ENDLESS_TEMPLATE };
        let name = shown_in_full(name);
        let line = format!("{verb} '{name}'");
        Self::start(printer, clock, verb, (&name, line), Unit::Bytes(total), template)
    }

    /// Begins to show how many `things` (`packages`, ...) are done.
    pub(super) fn counting(
        printer: &Printer,
        clock: &Arc<dyn Clock>,
        verb: &'static str,
        things: &'static str,
    ) -> Self {
        Self::start(printer, clock, verb, (things, verb.to_owned()), Unit::Things(things), COUNTING_TEMPLATE)
    }

    fn start(
        printer: &Printer,
        clock: &Arc<dyn Clock>,
        verb: &'static str,
        (message, what): (&str, String),
        unit: Unit,
        template: &str,
    ) -> Self {
        if printer.is_quiet() {
            return Self(Kind::Hidden);
        }
        if !io::stderr().is_terminal() {
            let now = clock.monotonic();
            let state = Mutex::new(Lines { started: now, printed: now, done: 0 });
            return Self(Kind::Lines { clock: clock.clone(), what, unit, state });
        }
        let total = match unit {
            Unit::Bytes(total) => total,
            Unit::Things(_) => None,
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(verb);
        bar.set_message(message.to_owned());
        Self(Kind::Bar(bar))
    }

    /// Writes something while the bar is out of the way.
    pub(super) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.0 {
            Kind::Bar(bar) => bar.suspend(write),
            Kind::Hidden | Kind::Lines { .. } => write(),
        }
    }

    /// Counts so many more (bytes, unless it is [`Progress::counting`]) as done.
    pub(super) fn advance(&self, bytes: u64) {
        match &self.0 {
            Kind::Hidden => {}
            Kind::Bar(bar) => bar.inc(bytes),
            Kind::Lines { clock, what, unit, state } => {
                let now = clock.monotonic();
                let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                state.done += bytes;
                if now.saturating_sub(state.printed) >= INTERVAL {
                    state.printed = now;
                    super::output::stderr_line(&line(
                        what,
                        state.done,
                        *unit,
                        now.saturating_sub(state.started),
                    ));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Kind::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// The line for a log, such as `uploading 'app.jar': 120.00 MiB of 1.20 GiB, 80.10 MiB/s, 14 s left`.
fn line(what: &str, done: u64, unit: Unit, elapsed: Duration) -> String {
    let total = match unit {
        Unit::Bytes(total) => total,
        Unit::Things(things) => return format!("{what}: {done} {things}"),
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    let rate = (done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let of = total.map_or_else(String::new, |total| format!(" of {}", BinaryBytes(total)));
    let left = match total {
        Some(total) if rate > 0 => format!(", {} s left", total.saturating_sub(done) / rate),
        _ => String::new(),
    };
    format!("{what}: {}{of}, {}/s{left}", BinaryBytes(done), BinaryBytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_parse() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        assert!(ProgressStyle::with_template(ENDLESS_TEMPLATE).is_ok());
        assert!(ProgressStyle::with_template(COUNTING_TEMPLATE).is_ok());
    }

    #[test]
    fn lines_for_a_log() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            line("uploading 'app.jar'", 100 << 20, Unit::Bytes(Some(1 << 30)), ten),
            "uploading 'app.jar': 100.00 MiB of 1.00 GiB, 10.00 MiB/s, 92 s left"
        );
        assert_eq!(line("reading '-'", 0, Unit::Bytes(None), ten), "reading '-': 0 B, 0 B/s");
        assert_eq!(line("verifying", 7, Unit::Things("packages"), ten), "verifying: 7 packages");
    }
}
