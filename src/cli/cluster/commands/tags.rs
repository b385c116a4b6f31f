//! `kubectl sacker tags`: the tags of a package, and the SackerTags that keep them.

use crate::cli::arguments::FormatArgs;
use crate::cli::cluster::session::Session;
use crate::cli::failure::Outcome;
use crate::cli::input;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  kubectl sacker tags frontend-server\n  kubectl sacker tags frontend-server -n web -o json"
)]
pub(in crate::cli::cluster) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    package: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli::cluster) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = session.package(&input::package(&args.package)?).await?;
    let items = package.tags();
    if items.is_empty() {
        session.printer.note(format_args!("{} shows no tag of package '{}'", package.place, package.name));
    } else if package.mirrored().is_none() {
        session.printer.note(format_args!("no SackerPackage shows the package: it may have more tags"));
    }
    session.printer.list(args.output.format, &items)
}
