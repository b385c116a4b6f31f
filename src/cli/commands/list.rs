//! `sacker list`: all packages.

use futures::StreamExt as _;

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::items::PackageItem;
use crate::cli::session::Session;
use crate::model::{Glob, PackageName};

#[derive(Debug, clap::Args)]
#[command(before_help = "Example:\n  sacker list\n  sacker list 'web/**' -o json")]
pub(in crate::cli) struct Args {
    /// Only packages that begin with this, or fit it if it has a '*' ('*' is within one component, '**' across)
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    #[command(flatten)]
    output: FormatArgs,
}

/// Whether a package is one of those that PATTERN asks for.
pub(in crate::cli) fn fits(package: &PackageName, pattern: Option<&str>) -> bool {
    match pattern {
        None => true,
        Some(glob) if glob.contains('*') => Glob::new(glob).matches(package.as_str()),
        Some(prefix) => package.as_str().starts_with(prefix),
    }
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let format = args.output.format;
    let plain = session.printer.is_plain(format);
    let ledger = session.ledger().await?;
    let mut packages = ledger.packages();
    let mut items = Vec::new();
    let mut nothing = true;
    while let Some(package) = packages.next().await {
        let package = match package {
            Ok(package) if fits(&package, args.pattern.as_deref()) => package,
            Ok(_) => continue,
            // The built-in default has no directory before the first `add`: an empty ledger, not a broken one.
            Err(error) if error.is_not_found() && session.local_default().is_some() => break,
            Err(error) => return Err(error.into()),
        };
        let item = PackageItem { package };
        nothing = false;
        // A script gets each name when it is known, so that `sacker list | head -1` ends early.
        if plain {
            session.printer.item(format, &item)?;
        } else {
            items.push(item);
        }
    }
    match args.pattern.as_deref().filter(|_| nothing) {
        Some(pattern) => session.printer.note(format_args!("no package fits '{pattern}'")),
        None if nothing => session.printer.note(format_args!("the ledger has no packages yet")),
        None => {}
    }
    items.sort_by(|left, right| left.package.cmp(&right.package));
    if plain { Ok(()) } else { session.printer.list(format, &items) }
}
