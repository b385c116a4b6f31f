//! `sacker-init`: puts verified blobs into a pod's volume before its containers start.
//!
//! Settings come from flags and environment, failures explain themselves on standard error and in the termination
//! message. Not responsible for the transfer itself (see [`crate::fetch`]); holds no Kubernetes client: a pod's
//! ServiceAccount needs no rights for it.

mod arguments;
mod report;
mod request;
mod resolve;
mod run;
mod settings;

use std::ffi::OsString;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use self::arguments::{Arguments, Command};
use self::run::{Counters, Placed};
use self::settings::{Settings, TerminationLog};
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::exit::Exit;
use crate::telemetry;

/// How often progress is logged.
const PROGRESS: Duration = Duration::from_secs(10);

/// What blocking file operations get to finish when a run was interrupted. Temporary files are removed before that.
const GRACE: Duration = Duration::from_millis(200);

/// Runs `sacker-init` with the arguments of a process (its name first), and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Exit {
    let command = match Arguments::read(arguments) {
        Ok(Command::Help) => {
            report::print(&report::help());
            return Exit::Ok;
        }
        Ok(Command::Version) => {
            report::print(concat!("sacker-init ", env!("CARGO_PKG_VERSION"), "\n"));
            return Exit::Ok;
        }
        Ok(Command::Fetch(arguments)) => Ok(arguments),
        Err(error) => Err(error),
    };
    let log = TerminationLog::of(command.as_deref().ok(), environment);
    match command.and_then(|arguments| fetch(&arguments, environment)) {
        Ok(placed) => {
            report::print_placed(&placed);
            Exit::Ok
        }
        Err(error) => {
            report::tell(&error, &log);
            Exit::from(&error)
        }
    }
}

fn fetch(arguments: &Arguments, environment: &Environment) -> Result<Vec<Placed>> {
    let settings = Settings::resolve(arguments, environment)?;
    start_log(arguments.quiet, environment)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Meaning::Other, "start the runtime").with_source(error))?;
    let counters = Counters::default();
    let ended = runtime.block_on(async {
        let run = run::run(&settings, environment, &counters);
        // Dropping the run is what removes its temporary files.
        tokio::select! {
            ended = tokio::time::timeout(settings.timeout, run) => match ended {
                Ok(ended) => ended,
                Err(_) => Err(report::out_of_time(settings.timeout, counters.arrived.load(Ordering::Relaxed))),
            },
            signal = interruption()? => Err(signal),
            () = log_progress(&counters) => Err(Error::new(Meaning::Other, "log the progress")),
        }
    });
    runtime.shutdown_timeout(GRACE);
    ended
}

/// Unlike a person at a terminal, the reader of a pod's log wants to know what a run did.
fn start_log(quiet: bool, environment: &Environment) -> Result<()> {
    let built_in = if quiet { "error,sacker=warn" } else { "error,sacker=info" };
    let filter = environment.get(telemetry::FILTER_VARIABLE).unwrap_or(built_in);
    telemetry::install(telemetry::Format::Text, filter)
}

/// Resolves when a signal asks the process to end. Handlers are set at once: as process 1 of a container, it would
/// otherwise be deaf to them.
fn interruption() -> Result<impl Future<Output = Error>> {
    let listen = |kind| {
        signal(kind).map_err(|error| Error::new(Meaning::Other, "listen for signals").with_source(error))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Error::new(Meaning::Interrupted, "fetch")
    })
}

/// Logs how far it is, for ever.
async fn log_progress(counters: &Counters) {
    let mut tick = tokio::time::interval(PROGRESS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    tick.tick().await;
    loop {
        tick.tick().await;
        let arrived = report::megabytes(counters.arrived.load(Ordering::Relaxed));
        if counters.open_ended.load(Ordering::Relaxed) {
            tracing::info!("fetched {arrived}");
        } else {
            let expected = report::megabytes(counters.expected.load(Ordering::Relaxed));
            tracing::info!("fetched {arrived} of {expected}");
        }
    }
}
