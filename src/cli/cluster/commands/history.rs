//! `kubectl sacker history`: the events that SackerTags keep of their tags, newest last.

use crate::cli::arguments::FormatArgs;
use crate::cli::cluster::package::Package;
use crate::cli::cluster::session::Session;
use crate::cli::commands::history::in_order;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::{counted, listed};
use crate::error::Result;
use crate::model::TagName;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  kubectl sacker history frontend-server live\n  kubectl sacker history frontend-server -n web -o json"
)]
pub(in crate::cli::cluster) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// Only this tag
    #[arg(value_name = "TAG")]
    tag: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

/// How many tags a note names.
const NAMES: usize = 10;

pub(in crate::cli::cluster) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let name = input::package(&args.package)?;
    let tag = args.tag.as_deref().map(input::stored_tag).transpose()?;
    let package = session.package(&name).await?;
    let (mut histories, mut notes) = (Vec::new(), Vec::new());
    for tag in tags(&package, tag.as_ref())? {
        let Some(history) = package.history(tag) else { continue };
        if history.missing > 0 {
            let events = counted(history.missing, "earlier event");
            let command = package.in_ledger("history", tag);
            notes.push(format!("only in the ledger: {events} of tag '{tag}'; see: {command}"));
        }
        histories.push(history.events);
    }
    notes.extend(tag.is_none().then(|| without_history(&package)).flatten());
    for note in notes {
        session.printer.note(format_args!("{note}"));
    }
    session.printer.list(args.output.format, &in_order(histories))
}

/// The tags whose histories are asked for.
fn tags<'a>(package: &'a Package, tag: Option<&'a TagName>) -> Result<Vec<&'a TagName>> {
    match tag {
        None => Ok(package.keepers().map(|(tag, _)| tag).collect()),
        Some(tag) if package.keeper(tag).is_some() => Ok(vec![tag]),
        Some(tag) => Err(package.no_history(tag)),
    }
}

/// What is not told, since no SackerTag keeps it.
fn without_history(package: &Package) -> Option<String> {
    let tags = package.tags().into_iter().map(|kept| kept.tag.tag);
    let without: Vec<_> =
        tags.filter(|tag| package.keeper(tag).is_none()).map(|tag| tag.to_string()).collect();
    (!without.is_empty())
        .then(|| format!("no SackerTag keeps the history of these tags: {}", listed(&without, NAMES)))
}
