//! `sacker import`: what `sacker export` wrote, back into a ledger: same numbers, same histories.

use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use crate::cli::confirm::{can_ask_or, confirm};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::input::on_own_thread;
use crate::cli::message::{self, typed};
use crate::cli::output::Printer;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::dump::{Import, PackagePlan, Totals};
use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker import ledger.jsonl --dry-run\n  gunzip < ledger.jsonl.gz | sacker --ledger s3://bucket/copy import -"
)]
pub(in crate::cli) struct Args {
    /// What 'sacker export' wrote; '-' is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check and compare everything, say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before adding to packages that are there already
    #[arg(short, long)]
    yes: bool,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    session.configuration.ledger()?;
    let (file, name) = open(&args.file).await?;
    let size = file.metadata().ok().map(|metadata| metadata.len());
    let mut import = Import::new(tokio::fs::File::from_std(file), &name);
    let progress = |verb| Progress::new(session.printer, &session.connect.clock, verb, &name, size);

    if !args.dry_run {
        session.prepare_local_default().await?;
    }
    let ledger = session.ledger().await?.as_ref();
    let numbering = ledger.numbering().await?;
    let checking = progress("checking");
    let whole = import.check(numbering, &|bytes| checking.advance(bytes)).await?;
    drop(checking);
    let comparing = progress("comparing");
    let plans = import.plan(ledger, &|bytes| comparing.advance(bytes)).await?;
    drop(comparing);
    let missing = plans.iter().fold(Totals::default(), |sum, plan| sum + plan.missing);
    if args.dry_run {
        plans.iter().try_for_each(|plan| line(session.printer, plan))?;
        session.printer.note(format_args!("would write {}", counted(missing, whole)));
        return Ok(());
    }

    let there: Vec<&PackagePlan> = plans.iter().filter(|plan| plan.is_there).collect();
    if let Some(first) = there.first() {
        let more = there.len() - 1;
        let and = if more == 0 {
            String::new()
        } else {
            format!(" and {}", message::counted(more, "more package"))
        };
        let about = format!("add to package '{}'{and}, which the ledger has already", first.package);
        let shown = args.file.to_string_lossy();
        // Standard input is the file: nobody can answer there.
        let can_ask = if shown == "-" {
            not_piped(args.yes, session, &about)
        } else {
            can_ask_or(args.yes, session, &["import", &shown])
        };
        can_ask.map_err(|error| with_reason(&error, &about))?;
        if !args.yes && !confirm(about).await? {
            session.printer.note(format_args!("nothing was written"));
            return Ok(());
        }
    }
    let importing = progress("importing");
    import
        .write::<Failure>(ledger, &plans, &|bytes| importing.advance(bytes), |plan| {
            importing.beside(|| line(session.printer, plan))
        })
        .await
        .map_err(|failure| match failure {
            Failure::Error(error) if error.hint().is_none() => {
                let again = format!("what is written stays; to go on: sacker import {} --yes", typed(&name));
                Failure::Error(error.with_hint(again))
            }
            other => other,
        })?;
    drop(importing);
    session.printer.note(format_args!("wrote {}", counted(missing, whole)));
    Ok(())
}

/// The plain line of a package: what was written of it, or would be.
fn line(printer: &Printer, plan: &PackagePlan) -> Outcome {
    let Totals { versions, tags, events, .. } = plan.missing;
    printer.text(&format!(
        "{}\t{versions}\t{tags}\t{events}\n",
        crate::model::shown_in_full(plan.package.as_str())
    ))
}

fn counted(part: Totals, whole: Totals) -> String {
    format!(
        "{} of {} and {} of {}, in {} of {}",
        part.versions,
        message::counted(whole.versions, "version"),
        part.tags,
        message::counted(whole.tags, "tag"),
        part.packages,
        message::counted(whole.packages, "package")
    )
}

fn not_piped(yes: bool, session: &Session<'_>, about: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    Err(Error::invalid(format!("import would {about}"))
        .with_hint(format!("if you are sure: {} import - --yes", session.program())))
}

/// Says also what it would have asked.
fn with_reason(error: &Error, about: &str) -> Error {
    let hint = error.hint().unwrap_or_default().to_owned();
    Error::invalid(format!("import would {about}; it asks first, and here is no terminal to ask on"))
        .with_hint(hint)
}

/// The file, or a copy of standard input: it is read more than once.
async fn open(path: &Path) -> Result<(std::fs::File, String)> {
    let name = path.to_string_lossy().into_owned();
    if name != "-" {
        let file = std::fs::File::open(path).map_err(|error| Error::local("read", path, error))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Error::invalid(format!("'{name}' is not a regular file"))
                .with_hint("pipe it in: sacker import - < FILE"));
        }
        return Ok((file, name));
    }
    let copied = on_own_thread(|| {
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut copy)?;
        copy.rewind()?;
        Ok::<_, io::Error>(copy)
    });
    let copy = copied.await?.map_err(|error| {
        Error::local("copy standard input to", &std::env::temp_dir(), error)
            .with_hint("set TMPDIR to a directory with room for all of it")
    })?;
    Ok((copy, name))
}
