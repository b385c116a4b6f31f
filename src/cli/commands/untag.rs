//! `sacker untag`: removes a tag. Asks first, since a pod that starts meanwhile would find nothing.

use crate::cli::confirm::{can_ask_or, confirm};
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::session::Session;
use crate::model::{Change, Claim, PackageName, TagName, TagState};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker untag frontend-server canary\n  sacker untag frontend-server canary --yes --reason 'not used any more'"
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
    /// Remove it although somebody else owns it
    #[arg(long)]
    take_over: bool,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tag = input::stored_tag(&args.tag)?;
    can_ask_or(args.yes, session, &["untag", &args.package, &args.tag])?;
    let ledger = session.ledger().await?;
    let state = ledger.tag(&package, &tag).await?;
    let Some(state) = state.filter(TagState::is_there) else {
        return Err(session.no_tag(&package, &tag).await.into());
    };
    if !args.yes && !confirm(question(&package, &tag, &state)).await? {
        session.printer.note(format_args!("nothing was removed"));
        return Ok(());
    }
    let mut change = session.tag_change(Change::Untag, args.reason.as_ref());
    if args.take_over {
        change = change.claiming(Claim::TakeOver(session.owner()));
    }
    ledger.change_tag(&package, &tag, &change).await?;
    session.printer.note(format_args!("tag '{tag}' of package '{package}' was removed"));
    Ok(())
}

fn question(package: &PackageName, tag: &TagName, state: &TagState) -> String {
    let at = state.version.map_or_else(String::new, |version| format!(", which points to version {version}"));
    format!("remove tag '{tag}' of package '{package}'{at}")
}
