//! `sacker hold`: a stop sign on a tag.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::session::Session;
use crate::error::Error;
use crate::model::Change;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker hold frontend-server live --reason 'incident 4711'\n  sacker release frontend-server live"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: String,
    /// Why nothing may move it: everybody who tries is told
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tag = input::stored_tag(&args.tag)?;
    if args.reason.trim().is_empty() {
        return Err(Error::invalid("a hold needs a reason: whoever is stopped by it will read it").into());
    }
    let before = session.ledger().await?.tag(&package, &tag).await?;
    let change = session.tag_change(Change::Hold { reason: args.reason.clone() }, Some(&args.reason));
    let outcome = session.change_tag(&package, &tag, &change).await?;
    let at = outcome.state.version.map_or_else(String::new, |version| format!(" at version {version}"));
    session.printer.note(format_args!("tag '{tag}' of package '{package}' is held{at}"));
    if let Some(hold) = before.as_ref().and_then(|state| state.hold()) {
        session.printer.note(format_args!("this replaces the hold by {hold}"));
    }
    session.printer.document_only(args.output.format, &TagItem::new(&package, &outcome.state))
}
