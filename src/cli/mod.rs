//! The admin command line `sacker`: parses, resolves settings once, runs one command, explains what failed.
//!
//! One file per command in `commands`; commands answer through a `Printer` and nothing else prints. Not responsible
//! for what a change means (the ledger decides) nor for bytes (the store and `fetch` do). Help, completions and usage
//! errors come before any configuration is read and any runtime is started, so that they are instant.
//!
//! The same program under the name `kubectl-sacker` is a plugin of kubectl, with commands of its own (`cluster`).

mod actor;
mod arguments;
mod cluster;
mod commands;
mod confirm;
mod explain;
mod failure;
mod input;
mod items;
mod message;
mod output;
mod policy;
mod progress;
mod reference;
mod session;
mod suggest;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use self::arguments::{Arguments, Command};
use self::failure::{Failure, Outcome};
use self::output::Printer;
use self::session::Session;
use crate::environment::Environment;
use crate::error::{Error, Meaning, Result};
use crate::exit::Exit;
use crate::telemetry;

/// How long blocking work (a file being hashed or copied) gets to notice an interrupt and clean up.
const WIND_DOWN: Duration = Duration::from_secs(1);

/// How long an interrupted upload gets to be given up.
const SETTLE: Duration = Duration::from_secs(4);

/// The whole program: `sacker` with the arguments and environment of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os(), &Environment::of_process()).into()
}

/// Runs one command line; the first argument is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> Exit {
    let words: Vec<OsString> = arguments.into_iter().collect();
    if cluster::is_meant(&words) {
        cluster::run(&words, environment)
    } else {
        run_sacker(&words, environment)
    }
}

fn run_sacker(words: &[OsString], environment: &Environment) -> Exit {
    let arguments: Arguments = match parse(words, "sacker") {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let voice = &arguments.global.voice;
    voice.color.write_global();
    let printer = Printer::for_process(voice.quiet, environment);
    let outcome = match &arguments.command {
        Command::Completions(args) => commands::completions::run(args, &printer),
        Command::Man(args) => commands::man::run(args, &printer),
        Command::Help(args) => commands::help::run(args, &printer),
        _ => run_with_session(&arguments, environment, &printer),
    };
    conclude(outcome, &printer, voice.verbose > 0)
}

/// Parses a command line. What is wrong with it is said here, in words that call the program `program`.
fn parse<T: clap::Parser>(words: &[OsString], program: &str) -> Result<T, Exit> {
    T::try_parse_from(words).map_err(|error| {
        match usage::report(&error, words, program) {
            Some(report) => output::print_report(&report),
            // A closed pipe behind `--help` is no failure.
            None => drop(error.print()),
        }
        if error.use_stderr() { Exit::Usage } else { Exit::Ok }
    })
}

/// Makes sure that the answer has left, says why the command failed if nobody did yet, and gives the exit code.
fn conclude(outcome: Outcome, printer: &Printer, verbose: bool) -> Exit {
    match outcome.and_then(|()| printer.finish()) {
        Ok(()) | Err(Failure::ClosedPipe) => Exit::Ok,
        Err(Failure::Reported(exit)) => exit,
        Err(Failure::Error(error)) => {
            // What was answered before the failure stands; if even that cannot be written, the failure is the news.
            let _unwritten = printer.finish();
            let context = message::Context { verbose, ..message::Context::default() };
            output::print_report(&message::report(&error, &context, &message::Known::default()));
            Exit::from(&error)
        }
    }
}

/// Starts the log, as talkative as was asked for.
fn start_log(verbose: u8, environment: &Environment) -> Result<()> {
    let format = if verbose == 0 { telemetry::Format::Terse } else { telemetry::Format::Text };
    telemetry::install(format, &telemetry::filter(verbose, environment))
}

fn start_runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Error::new(Meaning::Other, "start the runtime").with_source(error))
}

/// Runs a command that needs a ledger or a store.
fn run_with_session(arguments: &Arguments, environment: &Environment, printer: &Printer) -> Outcome {
    let verbose = arguments.global.voice.verbose;
    start_log(verbose, environment)?;
    let mut session = Session::new(&arguments.global, environment, printer)?;
    session.connect.allow_skew = matches!(&arguments.command, Command::Add(args) if args.allow_skew);
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(async {
        let interrupted = session::interrupted();
        tokio::pin!(interrupted);
        let failed = tokio::select! {
            biased;
            () = &mut interrupted => Err(Failure::Error(Error::new(Meaning::Interrupted, "run the command"))),
            outcome = commands::run(&arguments.command, &session) => outcome,
        };
        let Err(Failure::Error(error)) = failed else { return failed };
        let error = error.or_broken_rule();
        // What was answered before the failure comes before the message about it.
        let _unwritten = printer.finish();
        let context =
            message::Context { verbose: verbose > 0, ..session.context(arguments.command.subject()) };
        // After an interrupt nothing more is asked, and the signal must not be polled again.
        let known = if *error.meaning() == Meaning::Interrupted {
            message::Known::default()
        } else {
            tokio::select! {
                biased;
                () = &mut interrupted => message::Known::default(),
                known = explain::look_up(&error, &context.subject, &session) => known,
            }
        };
        output::print_report(&message::report(&error, &context, &known));
        if *error.meaning() == Meaning::Interrupted {
            // Parts of a blob that a store would keep, and bill, for ever. A second signal ends that too.
            tokio::select! {
                biased;
                () = session::interrupted() => {}
                _ = tokio::time::timeout(SETTLE, session.settle()) => {}
            }
        }
        Err(Failure::Reported(Exit::from(&error)))
    });
    runtime.shutdown_timeout(WIND_DOWN);
    outcome
}
