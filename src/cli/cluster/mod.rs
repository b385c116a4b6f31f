//! `kubectl sacker`: the questions of `sacker`, asked of a cluster instead of a ledger.
//!
//! What SackerPackages and SackerTags show in their statuses is all that is read: whoever may list those needs no rights in
//! the ledger. Nothing is written. Answers have the columns and the keys of `sacker`; what no status shows is null, and a
//! note says where it is. Not responsible for how answers look (`items`, `output`) nor for the words of failures
//! (`message`).

mod arguments;
mod commands;
mod condition;
mod items;
mod kubeconfig;
mod objects;
mod package;
mod refusal;
mod session;
mod tags;
mod unknown;
mod versions;

use std::ffi::OsString;
use std::path::Path;

use self::arguments::Arguments;
use self::session::Session;
use super::failure::{Failure, Outcome};
use super::message::{self, Context, Known};
use super::output::{self, Printer};
use super::{WIND_DOWN, conclude, parse, start_log, start_runtime};
use crate::environment::Environment;
use crate::error::{Error, Meaning};
use crate::exit::Exit;

/// The name by which kubectl finds the program.
const PLUGIN: &str = "kubectl-sacker";

/// What people type.
const PROGRAM: &str = "kubectl sacker";

/// Whether the command line is for this part of the program: by the name that it was started under.
pub(super) fn is_meant(words: &[OsString]) -> bool {
    words.first().and_then(|word| Path::new(word).file_name()).is_some_and(|name| name == PLUGIN)
}

/// Runs one command line; the first word is the program's name.
pub(super) fn run(words: &[OsString], environment: &Environment) -> Exit {
    let arguments: Arguments = match parse(words, PROGRAM) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let voice = &arguments.global.voice;
    voice.color.write_global();
    let printer = Printer::for_process(voice.quiet, environment);
    let outcome = ask(&arguments, environment, &printer);
    conclude(outcome, &printer, voice.verbose > 0)
}

fn ask(arguments: &Arguments, environment: &Environment, printer: &Printer) -> Outcome {
    let verbose = arguments.global.voice.verbose;
    start_log(verbose, environment)?;
    let session = Session::new(&arguments.global, environment, printer);
    let runtime = start_runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            () = super::session::interrupted() => Err(Error::new(Meaning::Interrupted, "run the command").into()),
            outcome = commands::run(&arguments.command, &session) => outcome,
        }
    });
    runtime.shutdown_timeout(WIND_DOWN);
    let Err(Failure::Error(error)) = outcome else { return outcome };
    // What was answered before the failure comes before the message about it.
    let _unwritten = printer.finish();
    let error = error.or_broken_rule();
    let context = Context { verbose: verbose > 0, ..session.context() };
    output::print_report(&message::report(&error, &context, &Known::default()));
    Err(Failure::Reported(Exit::from(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        let is = |name: &str| is_meant(&[OsString::from(name), "list".into()]);
        assert!(is("kubectl-sacker") && is("/usr/local/bin/kubectl-sacker"));
        assert!(!is("sacker") && !is("/opt/kubectl-sacker/sacker") && !is(""));
        assert!(!is_meant(&[]));
    }
}
