//! `sacker tags`: the tags of a package. `latest` is no stored tag and not among them.

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::TagItem;
use crate::cli::session::Session;

#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  sacker tags frontend-server\n  sacker tags frontend-server -o json")]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let tags = session.ledger().await?.tags(&package).await?;
    let items: Vec<_> = tags.iter().map(|state| TagItem::new(&package, state)).collect();
    if items.is_empty() {
        session.printer.note(format_args!("package '{package}' has no tags"));
    }
    session.printer.list(args.output.format, &items)
}
