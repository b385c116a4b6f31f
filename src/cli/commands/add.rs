//! `sacker add`: a file becomes the newest version. The blob is durable in the store before the ledger hears of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input::{self, Source};
use crate::cli::items::VersionItem;
use crate::cli::message::typed;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Result};
use crate::model::{NewVersion, PackageName, Sha256, Version};
use crate::publish::{Ensured, Publisher};
use crate::store::{PutOutcome, Store};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker add frontend-server build/frontend-server.jar\n  sacker add frontend-server app.jar --meta commit=$(git rev-parse HEAD)\n  tar -cf - dist | sacker add frontend-static - --name dist.tar"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// The file; '-' is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Record this file name instead of the file's own
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Record this, as often as given
    #[arg(long = "meta", value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    /// Only if the newest version is this one
    #[arg(long, value_name = "VERSION")]
    if_version: Option<String>,
    /// Only if the file has this digest
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Add although this machine's clock is plainly wrong; the server's clock numbers the version
    #[arg(long)]
    pub(in crate::cli) allow_skew: bool,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = PackageName::new(&args.package)?;
    let metadata = input::metadata(&args.metadata)?;
    let if_latest = input::version_of("--if-version", args.if_version.as_ref())?;
    let expected = args.sha256.as_deref().map(str::parse::<Sha256>).transpose()?;
    // Both must be configured before a byte is read.
    session.configuration.ledger()?;
    session.configuration.store()?;

    let mut source = open(args, session).await?;
    // Of standard input the digest is known by now: nothing is made for what is refused.
    check_digest(&source, expected)?;
    if args.dry_run {
        let sha256 = hash(&mut source, session).await?;
        check_digest(&source, expected)?;
        return dry_run(session, &package, &source, sha256, if_latest).await;
    }

    session.prepare_local_default().await?;
    let store = session.store().await?;
    let ledger = session.ledger().await?;
    // A known digest saves this pass: the store checks it while it sends.
    let mut sha256 = match expected {
        Some(expected) if source.scan.is_none() => expected,
        _ => read(&mut source, &**store, session).await?,
    };
    let publisher = Publisher { ledger: &**ledger, store: &**store, clock: &session.connect.clock };
    let ensured = match upload(&source, sha256, &publisher, session).await {
        Err(error) if expected.is_some() && matches!(error.meaning(), Meaning::Corrupt { .. }) => {
            // The store saw other bytes than asked for. Whether the file ever had the digest, one more pass tells.
            hash(&mut source, session).await?;
            check_digest(&source, expected)?;
            return Err(error.into());
        }
        outcome => outcome?,
    };
    if source.scan.is_none() && ensured.outcome == PutOutcome::AlreadyThere {
        // Nothing was sent, so nobody has compared the file with its digest yet.
        sha256 = hash(&mut source, session).await?;
        check_digest(&source, expected)?;
    }
    let new = NewVersion {
        sha256,
        size: source.size,
        basename: source.basename.clone(),
        mode: source.mode,
        metadata,
        added_by: session.actor.clone(),
        if_latest,
        add_id: uuid::Uuid::new_v4().to_string(),
    };
    let published = publisher.record(&package, &new, source.blob(sha256), ensured).await?;
    if published.restored {
        session.printer.note(format_args!("the blob was deleted meanwhile and was stored again"));
    }
    let version = published.record.version.to_string();
    session.printer.line_or(args.output.format, &VersionItem::new(published.record, &[]), &version)
}

async fn open(args: &Args, session: &Session<'_>) -> Result<Source> {
    if args.file.as_os_str() != "-" {
        return Source::of_file(&args.package, &args.file, args.name.as_deref())
            .map_err(|error| swapped(error, args));
    }
    let shown = args.name.as_deref().unwrap_or("-");
    let progress = Progress::new(session.printer, &session.connect.clock, "reading", shown, None);
    Source::of_stdin(args.name.as_deref(), move |bytes| progress.advance(bytes)).await
}

/// `sacker add FILE PACKAGE` is a common slip.
fn swapped(error: Error, args: &Args) -> Error {
    if !args.file.exists() && Path::new(&args.package).is_file() {
        let (package, file) = (typed(&args.file.to_string_lossy()), typed(&args.package));
        return error.with_hint(format!("the package comes first: sacker add {package} {file}"));
    }
    error
}

async fn hash(source: &mut Source, session: &Session<'_>) -> Result<Sha256> {
    if let Some(sha256) = source.sha256() {
        return Ok(sha256);
    }
    let size = Some(source.size);
    let progress =
        Arc::new(Progress::new(session.printer, &session.connect.clock, "hashing", &source.basename, size));
    let hashing = Arc::clone(&progress);
    source.hash(move |bytes| hashing.advance(bytes)).await
}

/// The digest, from a pass that sends the bytes as well where the store can.
async fn read(source: &mut Source, store: &dyn Store, session: &Session<'_>) -> Result<Sha256> {
    if source.scan.is_none() {
        let progress = Progress::new(
            session.printer,
            &session.connect.clock,
            "uploading",
            &source.basename,
            Some(source.size),
        );
        source.draft(store, &|bytes| progress.advance(bytes)).await?;
    }
    hash(source, session).await
}

async fn upload(
    source: &Source,
    sha256: Sha256,
    publisher: &Publisher<'_>,
    session: &Session<'_>,
) -> Result<Ensured> {
    let size = Some(source.size);
    let progress =
        Progress::new(session.printer, &session.connect.clock, "uploading", &source.basename, size);
    publisher.ensure(source.blob(sha256), &|bytes| progress.advance(bytes)).await
}

/// Compares what was asked for with what was read, where it was read.
fn check_digest(source: &Source, expected: Option<Sha256>) -> Result<()> {
    match (expected, source.sha256()) {
        (Some(expected), Some(found)) if expected != found => {
            let why = format!("the file has sha256 {found}, not {expected}");
            let error = Error::new(Meaning::Corrupt { why }, "add the file");
            Err(error
                .with_key(source.basename.as_str())
                .with_hint("nothing was added; is it the right file?"))
        }
        _ => Ok(()),
    }
}

async fn dry_run(
    session: &Session<'_>,
    package: &PackageName,
    source: &Source,
    sha256: Sha256,
    if_latest: Option<Version>,
) -> Outcome {
    let newest = match session.ledger().await?.latest(package).await {
        Ok(record) => Some(record.version),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let found = newest.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
    let now = match newest {
        Some(version) => format!("whose newest version is {version}"),
        None => "which is new".to_owned(),
    };
    if let Some(expected) = if_latest.filter(|expected| newest != Some(*expected)) {
        let expected = format!("version {expected} as the newest");
        return Err(Error::new(Meaning::Conflict { expected, found }, "add a version").into());
    }
    session.printer.note(format_args!(
        "would add '{}' ({} bytes, sha256 {sha256}) to package '{package}', {now}",
        source.basename, source.size
    ));
    Ok(())
}
