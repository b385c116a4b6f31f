//! `sacker export`: the ledger as one file of lines, which `sacker import` takes back.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::cli::commands::download::{of_stream, standard_output};
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::counted;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::crash_point::crash_point;
use crate::dump::{self, Totals};
use crate::error::{Error, Result};
use crate::files;
use crate::model::PackageName;

/// What the name of an export that is not whole yet begins with.
const TEMPORARY: &str = ".sacker-export-";

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker export -o ledger.jsonl\n  sacker export frontend-server | gzip > frontend-server.jsonl.gz"
)]
pub(in crate::cli) struct Args {
    /// Only these packages
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Where to, replacing what is there in one step; by default, and with '-', standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let packages = args.packages.iter().map(|package| input::package(package)).collect::<Result<Vec<_>>>()?;
    let packages = (!packages.is_empty()).then_some(packages);
    let totals = match args.output.as_deref().filter(|path| path.as_os_str() != "-") {
        None => {
            let name = "standard output";
            write(session, packages.as_deref(), tokio::fs::File::from_std(standard_output()?), name)
                .await
                .map_err(of_stream)?
        }
        Some(path) => {
            let copy = temporary(path)?;
            let failed = |error| Error::local("write", path, error);
            let file = copy.as_file().try_clone().map_err(failed)?;
            let shown = path.to_string_lossy();
            let out = tokio::fs::File::from_std(file);
            let totals = write(session, packages.as_deref(), out, &shown).await?;
            crash_point("export.file.written");
            copy.as_file().flush().and_then(|()| copy.as_file().sync_all()).map_err(failed)?;
            crash_point("export.file.synced");
            copy.persist(path).map_err(|error| failed(error.error))?;
            crash_point("export.file.named");
            files::sync_directory(directory(path)).map_err(failed)?;
            crash_point("export.file.durable");
            totals
        }
    };
    let Totals { packages, versions, tags, events } = totals;
    session.printer.note(format_args!(
        "exported: {}, {}, {}, {}",
        counted(packages, "package"),
        counted(versions, "version"),
        counted(tags, "tag"),
        counted(events, "event")
    ));
    Ok(())
}

async fn write(
    session: &Session<'_>,
    packages: Option<&[PackageName]>,
    out: tokio::fs::File,
    name: &str,
) -> Result<Totals> {
    let ledger = session.ledger().await?;
    let progress = Progress::new(session.printer, &session.connect.clock, "exporting", name, None);
    let out = tokio::io::BufWriter::with_capacity(1 << 20, out);
    dump::export(ledger.as_ref(), packages, out, &|bytes| progress.advance(bytes)).await
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file beside the one that is wanted, which takes its name in the end: a failed export leaves the old one.
fn temporary(path: &Path) -> Result<tempfile::NamedTempFile> {
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        let rule = format!("'{}' is not a regular file", path.display());
        return Err(Error::invalid(rule).with_hint("name a file, or write to standard output"));
    }
    let directory = directory(path);
    if let Ok(handle) = std::fs::File::open(directory) {
        // What killed exports left here.
        files::sweep(&handle, |name| name.as_bytes().starts_with(TEMPORARY.as_bytes()));
    }
    files::temporary(directory, TEMPORARY, 0o644)
        .map_err(|error| Error::local("create a file in", directory, error))
}
