//! `sacker disown`: leaves a tag without owner, so that the SackerTag that lost it may take it again.

use crate::cli::arguments::FormatArgs;
use crate::cli::confirm::{can_ask_or, confirm};
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::session::Session;
use crate::model::{Change, Claim, Expected, TagState};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker disown frontend-server live\n  sacker disown frontend-server live --yes --reason 'incident 4711 is over'"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The tag
    #[arg(value_name = "TAG")]
    pub(in crate::cli) tag: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tag = input::stored_tag(&args.tag)?;
    can_ask_or(args.yes, session, &["disown", &args.package, &args.tag])?;
    let printer = session.printer;
    let state = session.ledger().await?.tag(&package, &tag).await?;
    let Some(state) = state.filter(TagState::is_there) else {
        return Err(session.no_tag(&package, &tag).await.into());
    };
    let Some(owner) = state.owner() else {
        printer.note(format_args!("tag '{tag}' of package '{package}' has no owner"));
        return printer.document_only(args.output.format, &TagItem::new(&package, &state));
    };
    let question = format!("take tag '{tag}' of package '{package}' from its owner '{owner}'");
    if !args.yes && !confirm(question).await? {
        printer.note(format_args!("nothing was changed"));
        return Ok(());
    }
    // The owner that was shown loses it, not one that took it meanwhile.
    let change = session
        .tag_change(Change::Disown, args.reason.as_ref())
        .claiming(Claim::TakeOver(session.owner()))
        .expecting(Expected::Seq(state.seq()));
    let outcome = session.change_tag(&package, &tag, &change).await?;
    printer.note(format_args!("tag '{tag}' of package '{package}' has no owner any more; '{owner}' had it"));
    printer.document_only(args.output.format, &TagItem::new(&package, &outcome.state))
}
