//! `kubectl sacker versions`: the versions of a package that are shown, oldest first.

use crate::cli::arguments::FormatArgs;
use crate::cli::cluster::package::Package;
use crate::cli::cluster::session::Session;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::typed;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  kubectl sacker versions frontend-server\n  kubectl sacker versions frontend-server -n web -o json"
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
    let items: Vec<_> = package.versions().into_values().collect();
    if let Some(rest) = rest(&package, items.len()) {
        let name = typed(package.name.as_str());
        session.printer.note(format_args!("{rest}; ask the ledger: sacker versions {name}"));
    }
    session.printer.list(args.output.format, &items)
}

/// What is not among the versions that are shown.
fn rest(package: &Package, shown: usize) -> Option<String> {
    let Some(status) = package.mirrored() else {
        return Some("no SackerPackage shows the package, only SackerTags do".to_owned());
    };
    let count = status.version_count.and_then(|count| usize::try_from(count).ok())?;
    (count > shown).then(|| format!("of {count} versions that were ever added {shown} are shown"))
}
