//! `sacker untag`: removes a tag. Asks first, since a pod that starts meanwhile would find nothing.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::cli::failure::Outcome;
use crate::cli::input::{self, on_own_thread};
use crate::cli::session::Session;
use crate::error::{Error, Result};
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
    let tag = input::tag(&args.tag)?;
    if tag.as_str() == "latest" {
        return Err(Error::invalid("'latest' is not a stored tag: it always is the newest version").into());
    }
    let ask = !args.yes;
    if ask && !can_ask() {
        let rule = "untag asks first, and here is no terminal to ask on";
        return Err(Error::invalid(rule).with_hint("add --yes if the tag shall go").into());
    }
    let ledger = session.ledger().await?;
    let state = ledger.tag(&package, &tag).await?;
    // Without an event, a 2015 client wrote it: there, even if it points to nothing.
    let there = |state: &TagState| state.version.is_some() || state.event.is_none();
    let Some(state) = state.filter(there) else {
        return Err(session.no_tag(&package, &tag).await.into());
    };
    if ask && !confirm(question(&package, &tag, &state)).await? {
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
    format!("remove tag '{tag}' of package '{package}'{at}? [y/N] ")
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal; anything but `y` or `yes` is no.
async fn confirm(question: String) -> Result<bool> {
    crate::cli::output::prompt(&question);
    on_own_thread(|| {
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    })
    .await
}
