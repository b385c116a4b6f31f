//! `sacker info`: everything about one version.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::VersionItem;
use crate::cli::session::Session;
use crate::model::Spec;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker info frontend-server live\n  sacker info frontend-server 23 -o json\n  sacker info frontend-server latest -o name    # the pinned spec"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// A version, a tag or 'latest'
    #[arg(value_name = "SPEC")]
    spec: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let spec: Spec = args.spec.parse()?;
    let ledger = session.ledger().await?;
    let resolved = ledger.resolve(&package, &spec).await?;
    let tags = ledger.tags(&package).await?;
    let item = VersionItem::new(resolved.record, &tags);
    let for_people = !session.printer.is_plain(args.output.format);
    session.printer.fields(args.output.format, &item, &item.fields(for_people), &item.pinned())
}
