//! `kubectl sacker resolve`: the pinned spec that a spec stands for.

use crate::cli::cluster::session::Session;
use crate::cli::commands::resolve::split;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::model::Spec;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  kubectl sacker resolve frontend-server@live\n  kubectl sacker resolve frontend-server -n web    # the newest version"
)]
pub(in crate::cli::cluster) struct Args {
    /// The package, and a version, a tag or 'latest'
    #[arg(value_name = "PACKAGE[@SPEC]")]
    what: String,
}

pub(in crate::cli::cluster) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let (package, spec) = split(&args.what);
    let name = input::package(package)?;
    let spec: Spec = spec.unwrap_or("latest").parse()?;
    let item = session.package(&name).await?.find(&spec)?;
    session.printer.line(&item.pinned())
}
