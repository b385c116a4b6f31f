//! Asks before what cannot be taken back silently: on a terminal only, else `--yes` is needed.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::input::on_own_thread;
use super::message::typed;
use super::session::Session;
use crate::error::{Error, Result};

/// Fails unless somebody can be asked, or `yes` makes that unnecessary. `command` is what was typed, as words.
pub(super) fn can_ask_or(yes: bool, session: &Session<'_>, command: &[&str]) -> Result<()> {
    let words: Vec<_> = command.iter().map(|word| typed(word)).collect();
    let again = format!("if you are sure: {} {} --yes", session.program(), words.join(" "));
    can_ask(yes, &words[0], again)
}

/// The same for a command with so many options that a hint that repeats them all helps nobody. One that leaves some out would
/// do something else.
pub(super) fn can_ask_or_again(yes: bool, command: &str) -> Result<()> {
    can_ask(yes, command, "if you are sure, run the same with --yes".to_owned())
}

fn can_ask(yes: bool, command: &str, hint: String) -> Result<()> {
    if yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(());
    }
    let rule = format!("{command} asks first, and here is no terminal to ask on");
    Err(Error::invalid(rule).with_hint(hint))
}

/// Asks on the terminal; anything but `y` or `yes` is no.
pub(super) async fn confirm(question: String) -> Result<bool> {
    super::output::prompt(&format!("{question}? [y/N] "));
    let answer = on_own_thread(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await?.unwrap_or_default();
    if !answer.ends_with('\n') {
        // The end of the input leaves the cursor behind the question.
        super::output::stderr_line("");
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
