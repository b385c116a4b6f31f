//! `kubectl sacker info`: what is shown of one version.

use crate::cli::arguments::FormatArgs;
use crate::cli::cluster::session::Session;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::model::Spec;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  kubectl sacker info frontend-server live\n  kubectl sacker info frontend-server latest -n web -o json"
)]
pub(in crate::cli::cluster) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// A version, a tag or 'latest'
    #[arg(value_name = "SPEC")]
    spec: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli::cluster) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let name = input::package(&args.package)?;
    let spec: Spec = args.spec.parse()?;
    let item = session.package(&name).await?.find(&spec)?;
    let for_people = !session.printer.is_plain(args.output.format);
    session.printer.fields(args.output.format, &item, &item.fields(for_people), &item.pinned())
}
