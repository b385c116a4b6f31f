//! `sacker download`: a version's bytes, verified, in one file.

use std::error::Error as _;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::input;
use crate::cli::message::typed;
use crate::cli::progress::Progress;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Result};
use crate::fetch::{self, Artifact, Target};
use crate::model::Spec;

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker download frontend-server live\n  sacker download frontend-server 23 -o /opt/app/app.jar\n  sacker download frontend-static latest -o - | tar -xf -"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// A version, a tag or 'latest'
    #[arg(value_name = "SPEC")]
    spec: String,
    /// Where to: a file, a directory, or '-' for standard output; by default its recorded name, here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let spec: Spec = args.spec.parse()?;
    session.configuration.store()?;
    let to_stdout = args.output.as_ref().is_some_and(|output| output.as_os_str() == "-");
    let target = match &args.output {
        Some(output) if !to_stdout => Target::at(output)?,
        _ => Target::directory("."),
    };

    let record = session.ledger().await?.resolve(&package, &spec).await?.record;
    let artifact = Artifact::from(&record);
    let store = session.store().await?.as_ref();
    let clock = &session.connect.clock;
    let progress = Progress::new(session.printer, clock, "downloading", &record.basename, record.size);
    let advance = |bytes| progress.advance(bytes);
    if to_stdout {
        // Nothing of ours stands in the answer but the bytes; the exit code tells whether they were right.
        return match fetch::copy(store, &artifact, standard_output()?, &advance).await {
            Ok(_) => Ok(()),
            Err(error) => Err(of_stream(with_advice(error, args, session))),
        };
    }
    let fetched = fetch::fetch(store, &artifact, &target, &advance)
        .await
        .map_err(|error| with_advice(error, args, session))?;
    drop(progress);
    let path = fetched.path.to_string_lossy();
    if fetched.already_there {
        session.printer.note(format_args!("'{path}' already is version {} of '{package}'", record.version));
    }
    session.printer.line(&path)
}

/// What to do about a blob that is not what was added: nobody repairs it by trying again.
fn with_advice(error: Error, args: &Args, session: &Session<'_>) -> Error {
    if error.hint().is_some() || !matches!(error.meaning(), Meaning::Corrupt { .. }) {
        return error;
    }
    let store =
        session.configuration.store().map_or_else(|_| "the store".into(), |store| store.value.to_string());
    error.with_hint(format!(
        "the blob in {store} is not what was added; another version may be whole: sacker versions {}",
        typed(&args.package)
    ))
}

/// Standard output as a file, which writes off the executor and without a buffer that would have to be flushed.
pub(in crate::cli) fn standard_output() -> Result<File> {
    let handle = io::stdout().as_fd().try_clone_to_owned();
    let handle = handle.map_err(|error| Error::local("open", Path::new("/dev/stdout"), error))?;
    Ok(File::from(handle))
}

/// A reader that closed the pipe has enough.
pub(in crate::cli) fn of_stream(error: Error) -> Failure {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe) => Failure::ClosedPipe,
        _ => error.into(),
    }
}
