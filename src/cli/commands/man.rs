//! `sacker man`: manual pages, made from the same tree of commands as the help.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::arguments::Arguments;
use crate::cli::failure::Outcome;
use crate::cli::output::Printer;
use crate::error::{Error, Result};

use super::help::not_among;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker man | man -l -\n  sacker man add | man -l -\n  sacker man --directory ~/.local/share/man/man1"
)]
pub(in crate::cli) struct Args {
    /// The page of this command; without one that of sacker itself
    #[arg(value_name = "COMMAND", conflicts_with = "directory")]
    command: Option<String>,
    /// Write all pages into this directory instead, and print their paths
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, printer: &Printer) -> Outcome {
    let pages = pages();
    if let Some(directory) = &args.directory {
        std::fs::create_dir_all(directory).map_err(|error| Error::local("create", directory, error))?;
        return pages.iter().try_for_each(|(name, page)| {
            let path = directory.join(format!("{name}.1"));
            write(&path, page)?;
            printer.line(&path.to_string_lossy())
        });
    }
    let wanted = match &args.command {
        None => "sacker".to_owned(),
        Some(command) => format!("sacker-{command}"),
    };
    match pages.iter().find(|(name, _)| *name == wanted) {
        Some((_, page)) => printer.text(&String::from_utf8_lossy(page)),
        None => Err(unknown(args.command.as_deref().unwrap_or_default(), &pages).into()),
    }
}

/// The name of each page, and what is in it.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = Arguments::command();
    command.build();
    let first = ("sacker".to_owned(), &command);
    let commands =
        command.get_subcommands().map(|command| (format!("sacker-{}", command.get_name()), command));
    std::iter::once(first)
        .chain(commands)
        .map(|(name, command)| (name.clone(), rendered(name, command)))
        .collect()
}

fn rendered(name: String, command: &clap::Command) -> Vec<u8> {
    let mut page = Vec::new();
    // Writing to memory cannot fail.
    let _ = Man::new(command.clone()).title(name).render(&mut page);
    page
}

fn write(path: &Path, page: &[u8]) -> Result<()> {
    std::fs::write(path, page).map_err(|error: io::Error| Error::local("write", path, error))
}

fn unknown(command: &str, pages: &[(String, Vec<u8>)]) -> Error {
    let names = pages.iter().filter_map(|(name, _)| name.strip_prefix("sacker-"));
    not_among(format!("no command '{command}'"), command, names)
}
