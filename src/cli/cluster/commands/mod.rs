//! One module per command: its arguments and what it does.

pub(super) mod history;
pub(super) mod info;
pub(super) mod list;
pub(super) mod resolve;
pub(super) mod tags;
pub(super) mod versions;

use super::arguments::Command;
use super::session::Session;
use crate::cli::failure::Outcome;

/// Runs a command.
pub(super) async fn run(command: &Command, session: &Session<'_>) -> Outcome {
    match command {
        Command::List(args) => list::run(args, session).await,
        Command::Versions(args) => versions::run(args, session).await,
        Command::Tags(args) => tags::run(args, session).await,
        Command::Info(args) => info::run(args, session).await,
        Command::History(args) => history::run(args, session).await,
        Command::Resolve(args) => resolve::run(args, session).await,
    }
}
