//! The command line as clap parses it: global flags and the list of commands.
//!
//! Only shapes: names, versions and URIs stay text here and are checked by the command, so that every refusal has one
//! form (`error:` and `hint:`), whatever it is about.

use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::commands;
use super::message::Subject;

/// A cloud blob manager: packages, versions, tags, and verified bytes
#[derive(Debug, Parser)]
#[command(
    name = "sacker",
    version,
    before_help = "Example:\n  sacker add frontend-server build/frontend-server.jar\n  sacker tag frontend-server 23 live\n  sacker download frontend-server live",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    infer_long_args = false,
    max_term_width = 100
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Use this ledger for this command, such as dynamo://us-east-1/sacker
    #[arg(long, value_name = "URI", global = true)]
    pub(super) ledger: Option<String>,
    /// Use this store for this command, such as s3://bucket; several if given more than once
    #[arg(long, value_name = "URI", global = true)]
    pub(super) store: Vec<String>,
    /// Give up on one operation of a backend after this time, such as 90s or 2m
    #[arg(long, value_name = "TIME", global = true, value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) voice: Voice,
}

/// How much is said beside the answer, and how it looks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Voice {
    /// Print no notes and no progress, only the answer and errors
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Say what is done and what lies under an error; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// When to use colour; 'auto' is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", hide_default_value = true)]
    pub(super) color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes this the choice of every stream of the process.
    pub(super) fn write_global(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// The form of an answer. `sacker help output` says what each is; a text per value here would make every command's help
/// twice as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Yaml,
    Name,
}

/// For commands that answer in several forms.
#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// How to print the answer; by default a table on a terminal, plain lines when piped
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    pub(super) format: Option<Format>,
}

/// Reads `90s`, `2m`, `1m30s`; a bare number is seconds.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let refused = || format!("'{text}' is not a time such as 90s, 2m or 1m30s");
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .ok_or_else(refused)?,
    };
    if duration.is_zero() { Err(refused()) } else { Ok(duration) }
}

/// Reads what [`parse_timeout`] reads, and `30d`: a day is 24 hours.
pub(super) fn parse_age(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        Some(days) if days > 0 => Ok(Duration::from_hours(24) * days),
        _ => parse_timeout(text).map_err(|_| format!("'{text}' is not a time such as 30d or 12h")),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List all packages that the ledger knows
    List(commands::list::Args),
    /// List the versions of a package, oldest first
    Versions(commands::versions::Args),
    /// List the tags of a package and where they point
    Tags(commands::tags::Args),
    /// Show everything about one version
    Info(commands::info::Args),
    /// Store a file as the newest version of a package and print its number
    Add(commands::add::Args),
    /// Fetch a version, verify it and print where it is
    Download(commands::download::Args),
    /// Point a tag to a version
    Tag(commands::tag::Args),
    /// Remove a tag
    Untag(commands::untag::Args),
    /// Show who moved tags where, when and why, newest last
    History(commands::history::Args),
    /// Point a tag back to where it was before, and hold it there
    Rollback(commands::rollback::Args),
    /// Stop everybody from moving a tag until it is released
    Hold(commands::hold::Args),
    /// End the hold of a tag
    Release(commands::release::Args),
    /// Take a tag from its owner, such as back from --take-over
    Disown(commands::disown::Args),
    /// Print the pinned spec of what a spec names, now or in the past
    Resolve(commands::resolve::Args),
    /// Show what changes from one version or tag to another
    Diff(commands::diff::Args),
    /// Check histories, tags and records, and with --blobs every byte
    Verify(commands::verify::Args),
    /// Print a URL that gives somebody without credentials a version's bytes, for a while
    Presign(commands::presign::Args),
    /// Print what a pod needs to fetch a version before it starts
    InitContainer(commands::init_container::Args),
    /// Remove a version for good; its number is never used again
    Remove(commands::remove::Args),
    /// Write the ledger, or packages of it, as lines that 'import' takes back
    Export(commands::export::Args),
    /// Put back what 'export' wrote, with the same numbers and histories
    Import(commands::import::Args),
    /// Remove versions that no rule and no tag keeps
    Prune(commands::prune::Args),
    /// Delete blobs that no version refers to
    Gc(commands::gc::Args),
    /// Create the tables, buckets or directories of the ledger and the store
    Init(commands::init::Args),
    /// Check the ledger, the store, their server and this machine's clock
    Doctor(commands::doctor::Args),
    /// Show the settings that count here, and where they come from
    Config(commands::config::Args),
    /// Print the completion script of a shell
    Completions(commands::completions::Args),
    /// Print the manual page of a command, or write all of them
    Man(commands::man::Args),
    /// Explain a command or a topic
    Help(commands::help::Args),
}

impl Command {
    /// What the command is about, for messages.
    pub(super) fn subject(&self) -> Subject {
        let (package, tag) = match self {
            Self::List(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Prune(_)
            | Self::Gc(_)
            | Self::Init(_)
            | Self::Doctor(_)
            | Self::Config(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Help(_) => (None, None),
            Self::Resolve(commands::resolve::Args { what, .. })
            | Self::InitContainer(commands::init_container::Args { what, .. }) => {
                let (package, spec) = commands::resolve::split(what);
                return Subject { package: Some(package.to_owned()), tag: spec.map(str::to_owned) };
            }
            Self::Verify(args) => (args.package.as_ref(), args.tag.as_ref()),
            Self::Remove(args) => (Some(&args.package), None),
            Self::Diff(args) => (Some(&args.package), None),
            Self::Presign(args) => (Some(&args.package), None),
            Self::Versions(args) => (Some(&args.package), None),
            Self::Tags(args) => (Some(&args.package), None),
            Self::Info(args) => (Some(&args.package), None),
            Self::Add(args) => (Some(&args.package), None),
            Self::Download(args) => (Some(&args.package), None),
            Self::Tag(args) => (Some(&args.package), Some(&args.tag)),
            Self::Untag(args) => (Some(&args.package), Some(&args.tag)),
            Self::History(args) => (Some(&args.package), args.tag.as_ref()),
            Self::Rollback(args) => (Some(&args.package), Some(&args.tag)),
            Self::Hold(args) => (Some(&args.package), Some(&args.tag)),
            Self::Release(args) => (Some(&args.package), Some(&args.tag)),
            Self::Disown(args) => (Some(&args.package), Some(&args.tag)),
        };
        Subject { package: package.cloned(), tag: tag.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn ages() {
        for (text, hours) in [("30d", 720), ("12h", 12), ("1d", 24)] {
            assert_eq!(parse_age(text), Ok(Duration::from_hours(hours)), "{text}");
        }
        for text in ["", "0d", "-1d", "d", "a week"] {
            assert!(parse_age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timeouts() {
        for (text, expected) in [("90", 90_000), ("90s", 90_000), ("1m30s", 90_000), ("250ms", 250)] {
            assert_eq!(parse_timeout(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "0", "0s", "-5s", "soon", "1mo"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
