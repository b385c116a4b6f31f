//! `sacker verify`: whether the ledger, and with `--blobs` the store, is what it was made to be.

use futures::{StreamExt as _, TryStreamExt as _};

use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::counted;
use crate::cli::output::print_warning;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::error::Result;
use crate::ledger::Ledger;
use crate::model::{PackageName, shown_in_full};
use crate::verify::{Blobs, Checked, Finding, summary, verify_package};

/// Packages whose records are read at a time.
const READS: usize = 8;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker verify                          # every package\n  sacker verify frontend-server live\n  sacker verify frontend-server --blobs  # reads every byte"
)]
pub(in crate::cli) struct Args {
    /// Only this package; without it, all
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: Option<String>,
    /// Only this tag
    #[arg(value_name = "TAG", requires = "package")]
    pub(in crate::cli) tag: Option<String>,
    /// Read every blob from the store and compare its digest and size
    #[arg(long, conflicts_with = "tag")]
    blobs: bool,
}

/// What was looked at, and how much of it is wrong.
#[derive(Default)]
struct Sum {
    packages: u64,
    versions: u64,
    tags: u64,
    events: u64,
    wrong: usize,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let tag = args.tag.as_deref().map(input::stored_tag).transpose()?;
    if args.blobs {
        session.configuration.store()?;
    }
    let ledger = session.ledger().await?.as_ref();
    let mut sum = Sum::default();
    let mut blobs = Blobs::default();
    if let Some(package) = &args.package {
        let package = input::package(package)?;
        let checked = match (verify_package(ledger, &package, tag.as_ref()).await, &tag) {
            (Err(error), Some(tag)) if error.is_not_found() => {
                return Err(session.no_tag(&package, tag).await.into());
            }
            (checked, _) => checked?,
        };
        take(checked, args, session, &mut sum, &mut blobs, None).await?;
    } else {
        let packages = Progress::counting(session.printer, &session.connect.clock, "verifying", "packages");
        let mut checked = all(ledger, session).boxed_local();
        while let Some(checked) = checked.try_next().await? {
            take(checked, args, session, &mut sum, &mut blobs, Some(&packages)).await?;
            packages.advance(1);
        }
    }
    let Sum { packages, versions, tags, events, wrong } = sum;
    let read = if args.blobs { format!(", {}", counted(blobs.count(), "blob")) } else { String::new() };
    session.printer.note(format_args!(
        "verified: {}, {}, {}, {}{read}",
        counted(packages, "package"),
        counted(versions, "version"),
        counted(tags, "tag"),
        counted(events, "event")
    ));
    // What was found was shown; that it was found is the news.
    if wrong == 0 { Ok(()) } else { Err(summary(wrong).into()) }
}

fn all<'a>(
    ledger: &'a dyn Ledger,
    session: &'a Session<'_>,
) -> impl futures::Stream<Item = Result<Checked>> + 'a {
    let one = move |package: Result<PackageName>| async move {
        match package {
            Ok(package) => match verify_package(ledger, &package, None).await {
                // What only looks like a package, such as the history of a tag called `versions`.
                Err(error) if error.is_not_found() => Ok(None),
                checked => checked.map(Some),
            },
            // The built-in default has no directory before the first `add`: an empty ledger, not a broken one.
            Err(error) if error.is_not_found() && session.local_default().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    };
    ledger.all_packages().map(one).buffered(READS).try_filter_map(|checked| async move { Ok(checked) })
}

/// Reports what was found in one package, and reads its blobs if that was asked for.
async fn take(
    checked: Checked,
    args: &Args,
    session: &Session<'_>,
    sum: &mut Sum,
    blobs: &mut Blobs,
    bar: Option<&Progress>,
) -> Outcome {
    sum.packages += 1;
    sum.versions += checked.versions.len() as u64;
    sum.tags += checked.tags;
    sum.events += checked.events;
    for finding in &checked.findings {
        report(finding, session, sum, bar)?;
    }
    if !args.blobs {
        return Ok(());
    }
    let store = session.store().await?.as_ref();
    for record in &checked.versions {
        let name = format!("{}@{}", record.package, record.version);
        let progress =
            Progress::new(session.printer, &session.connect.clock, "verifying", &name, record.size);
        let finding = blobs.verify(store, record, &|bytes| progress.advance(bytes)).await?;
        drop(progress);
        if let Some(finding) = finding {
            report(&finding, session, sum, bar)?;
        }
    }
    Ok(())
}

/// `bar` is what is on the line of the terminal meanwhile.
fn report(finding: &Finding, session: &Session<'_>, sum: &mut Sum, bar: Option<&Progress>) -> Outcome {
    let print = || line(finding, session);
    sum.wrong += usize::from(finding.is_wrong);
    match bar {
        Some(bar) => bar.beside(print),
        None => print(),
    }
}

fn line(finding: &Finding, session: &Session<'_>) -> Outcome {
    let Finding { package, key, why, is_wrong } = finding;
    if !is_wrong {
        print_warning(format_args!("package '{package}', {key}: {why}"));
        return Ok(());
    }
    let cells = [package.as_str(), key, why].map(|cell| shown_in_full(cell).into_owned());
    session.printer.text(&format!("{}\n", cells.join("\t")))
}
