//! `sacker rollback`: points a tag to where it pointed before, and holds it there in the same write, so that no robot
//! moves it forward again.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::message::typed;
use crate::cli::session::{Session, warn_of_pending_archive};
use crate::error::{Error, Meaning, Missing, Result};
use crate::model::{
    Change, Claim, Expected, Next, PackageName, TagChange, TagName, TagState, Version, earlier,
};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker rollback frontend-server live --reason 'incident 4711'\n  sacker rollback frontend-server live --to 21\n  sacker release frontend-server live    # once the fix is wished for"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: String,
    /// Back to this version instead of the one before
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Only if the tag points to this version now
    #[arg(long, value_name = "VERSION")]
    if_version: Option<String>,
    /// Why: everybody whom the hold stops is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not hold the tag; a SackerTag then moves it forward again
    #[arg(long)]
    no_hold: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tag = input::stored_tag(&args.tag)?;
    let to = input::version_of("--to", args.to.as_ref())?;
    let if_version = input::version_of("--if-version", args.if_version.as_ref())?;
    let Some(state) = session.ledger().await?.tag(&package, &tag).await?.filter(TagState::is_there) else {
        return Err(session.no_tag(&package, &tag).await.into());
    };
    let to = match to {
        Some(to) => to,
        None => before(session, &package, &tag, &state).await?,
    };
    let change = change(args, session, &state, to).expecting(match (if_version, state.version) {
        (Some(version), _) | (None, Some(version)) => Expected::Version(version),
        // A 2015 client wrote a word where a number belongs: there is nothing to compare.
        (None, None) => Expected::Any,
    });
    let from = state.version.map_or_else(String::new, |version| format!(" from version {version}"));
    let is_there = state.version == Some(to);
    if args.dry_run {
        session.ledger().await?.version(&package, to).await?;
        let held = if args.no_hold { "" } else { ", and hold it" };
        let plan = match session.decide(Some(&state), &change)? {
            Next::Commit(_) if !is_there => {
                format!("would roll tag '{tag}' of package '{package}' back{from} to {to}{held}")
            }
            Next::Commit(_) => format!("would hold tag '{tag}' of package '{package}' at version {to}"),
            Next::Unchanged => format!("tag '{tag}' of package '{package}' already points to version {to}"),
        };
        session.printer.note(format_args!("{plan}"));
        return Ok(());
    }
    let outcome = session.change_tag(&package, &tag, &change).await?;
    let done = if outcome.event.is_some() && !is_there {
        format!("was rolled back{from} to {to}")
    } else {
        format!("already points to version {to}")
    };
    session.printer.note(format_args!("tag '{tag}' of package '{package}' {done}"));
    if let Some(hold) = outcome.state.hold() {
        session.printer.note(format_args!(
            "it is held there by {hold}; to let it move again: sacker release {} {}",
            typed(&args.package),
            typed(&args.tag)
        ));
    }
    warn_of_pending_archive(&outcome);
    session.printer.document_only(args.output.format, &TagItem::new(&package, &outcome.state))
}

/// The nearest earlier version that can still be fetched.
async fn before(
    session: &Session<'_>,
    package: &PackageName,
    tag: &TagName,
    state: &TagState,
) -> Result<Version> {
    let ledger = session.ledger().await?;
    let events = match ledger.history(package, tag).await {
        // Only 2015 clients wrote it, and they keep no history.
        Err(error) if error.is_not_found() => Vec::new(),
        events => events?,
    };
    for version in earlier(&events, state.version) {
        match ledger.version(package, version).await {
            Ok(record) if !record.is_removed() => return Ok(version),
            Err(error) if !matches!(error.meaning(), Meaning::NotFound(_)) => return Err(error),
            _ => session.printer.note(format_args!("version {version} was removed, so further back")),
        }
    }
    Err(Error::not_found(Missing::Earlier(package.clone(), tag.clone())).with_hint(format!(
        "name a version: sacker rollback {} {} --to VERSION; see: sacker versions {0}",
        typed(package.as_str()),
        typed(tag.as_str())
    )))
}

/// A rollback with a hold leaves the tag to its owner, as a hold alone does: the owner goes on after the release. One
/// without is a move as any other, and the owner would undo it.
fn change(args: &Args, session: &Session<'_>, state: &TagState, to: Version) -> TagChange {
    if args.no_hold {
        return session.tag_change(Change::Move { to, hold: None }, args.reason.as_ref());
    }
    let reason = args.reason.clone().filter(|reason| !reason.trim().is_empty());
    let hold = reason.clone().unwrap_or_else(|| match state.version {
        Some(from) => format!("rolled back from version {from} to {to}"),
        None => format!("rolled back to version {to}"),
    });
    let change = session.tag_change(Change::Move { to, hold: Some(hold) }, reason.as_ref());
    match state.owner() {
        Some(owner) => change.claiming(Claim::Owner(owner.to_owned())),
        None => change,
    }
}
