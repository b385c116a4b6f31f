//! One module per command: its arguments and what it does. What several commands share is in the modules above.

pub(super) mod add;
pub(super) mod completions;
pub(super) mod config;
pub(super) mod diff;
pub(super) mod disown;
pub(super) mod doctor;
pub(super) mod download;
pub(super) mod export;
pub(super) mod gc;
pub(super) mod help;
pub(super) mod history;
pub(super) mod hold;
pub(super) mod import;
pub(super) mod info;
pub(super) mod init;
pub(super) mod init_container;
pub(super) mod list;
pub(super) mod man;
pub(super) mod presign;
pub(super) mod prune;
pub(super) mod release;
pub(super) mod remove;
pub(super) mod resolve;
pub(super) mod rollback;
pub(super) mod tag;
pub(super) mod tags;
pub(super) mod untag;
pub(super) mod verify;
pub(super) mod versions;

use super::arguments::Command;
use super::failure::Outcome;
use super::session::Session;

/// Runs a command.
pub(super) async fn run(command: &Command, session: &Session<'_>) -> Outcome {
    match command {
        Command::List(args) => list::run(args, session).await,
        Command::Versions(args) => versions::run(args, session).await,
        Command::Tags(args) => tags::run(args, session).await,
        Command::Info(args) => info::run(args, session).await,
        Command::Add(args) => add::run(args, session).await,
        Command::Download(args) => download::run(args, session).await,
        Command::Tag(args) => tag::run(args, session).await,
        Command::Untag(args) => untag::run(args, session).await,
        Command::History(args) => history::run(args, session).await,
        Command::Rollback(args) => rollback::run(args, session).await,
        Command::Hold(args) => hold::run(args, session).await,
        Command::Release(args) => release::run(args, session).await,
        Command::Disown(args) => disown::run(args, session).await,
        Command::Resolve(args) => resolve::run(args, session).await,
        Command::Diff(args) => diff::run(args, session).await,
        Command::Presign(args) => presign::run(args, session).await,
        Command::InitContainer(args) => init_container::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
        Command::Remove(args) => remove::run(args, session).await,
        Command::Export(args) => export::run(args, session).await,
        Command::Import(args) => import::run(args, session).await,
        Command::Prune(args) => prune::run(args, session).await,
        Command::Gc(args) => gc::run(args, session).await,
        Command::Doctor(args) => doctor::run(args, session).await,
        Command::Init(args) => init::run(args, session).await,
        Command::Config(args) => config::run(args, session),
        Command::Man(args) => man::run(args, session.printer),
        Command::Completions(args) => completions::run(args, session.printer),
        Command::Help(args) => help::run(args, session.printer),
    }
}
