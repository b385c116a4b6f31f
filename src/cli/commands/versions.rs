//! `sacker versions`: the versions of a package, oldest first.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::VersionItem;
use crate::cli::session::Session;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker versions frontend-server\n  sacker versions frontend-server -o json"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// Show removed versions too
    #[arg(long)]
    removed: bool,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let ledger = session.ledger().await?;
    let records = ledger.versions(&package).await?;
    // The plain line has no tags, so it does not pay for them.
    let plain = session.printer.is_plain(args.output.format);
    let tags = if plain { Vec::new() } else { ledger.tags(&package).await? };
    let items: Vec<_> = records
        .into_iter()
        .filter(|record| args.removed || !record.is_removed())
        .map(|record| VersionItem::new(record, &tags))
        .collect();
    session.printer.list(args.output.format, &items)
}
