//! `sacker release`: ends a hold.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::session::Session;
use crate::model::Change;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker release frontend-server live\n  sacker release frontend-server live --reason 'incident 4711 is over'"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tag = input::stored_tag(&args.tag)?;
    let change = session.tag_change(Change::Release, args.reason.as_ref());
    let outcome = session.change_tag(&package, &tag, &change).await?;
    if outcome.event.is_some() {
        session.printer.note(format_args!("tag '{tag}' of package '{package}' is not held any more"));
    } else if outcome.state.version.is_some() {
        session.printer.note(format_args!("tag '{tag}' of package '{package}' was not held"));
    } else {
        // Nothing was held because nothing is there.
        return Err(session.no_tag(&package, &tag).await.into());
    }
    session.printer.document_only(args.output.format, &TagItem::new(&package, &outcome.state))
}
