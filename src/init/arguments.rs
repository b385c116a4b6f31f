//! The command line as it was typed: which options, which values, nothing about their meaning.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;

use crate::error::{Error, Result};

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Fetch.
    Fetch(Box<Arguments>),
}

/// The options and arguments of a fetch, as typed.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Arguments {
    /// `SPEC` or `SPEC=DEST`, in order.
    pub(super) specs: Vec<String>,
    pub(super) ledger: Option<String>,
    /// As often as given.
    pub(super) store: Vec<String>,
    pub(super) to: Option<PathBuf>,
    pub(super) pin: Option<String>,
    pub(super) pin_file: Option<PathBuf>,
    pub(super) mode: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) stall_timeout: Option<String>,
    pub(super) termination_log: Option<PathBuf>,
    pub(super) instance_metadata: bool,
    pub(super) fsync: bool,
    pub(super) extract: bool,
    pub(super) cache: Option<PathBuf>,
    pub(super) cache_size: Option<String>,
    pub(super) quiet: bool,
}

impl Arguments {
    /// Reads the arguments of a process, its name first.
    ///
    /// # Errors
    /// `Invalid` for an unknown option, a missing value, an option given twice and text that is not UTF-8.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
        Self::parse(&mut lexopt::Parser::from_iter(arguments)).map_err(|error| {
            Error::invalid(error.to_string()).with_hint("'sacker-init --help' lists the options")
        })
    }

    fn parse(parser: &mut lexopt::Parser) -> Result<Command, lexopt::Error> {
        let mut read = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
                Arg::Short('q') | Arg::Long("quiet") => read.quiet = true,
                Arg::Long("instance-metadata") => read.instance_metadata = true,
                Arg::Long("fsync") => read.fsync = true,
                Arg::Long("extract") => read.extract = true,
                Arg::Long("cache") => once(&mut read.cache, "--cache", parser.value()?.into())?,
                Arg::Long("cache-size") => once(&mut read.cache_size, "--cache-size", text(parser)?)?,
                Arg::Long("ledger") => once(&mut read.ledger, "--ledger", text(parser)?)?,
                Arg::Long("store") => read.store.push(text(parser)?),
                Arg::Long("to") => once(&mut read.to, "--to", parser.value()?.into())?,
                Arg::Long("pin") => once(&mut read.pin, "--pin", text(parser)?)?,
                Arg::Long("pin-file") => once(&mut read.pin_file, "--pin-file", parser.value()?.into())?,
                Arg::Long("mode") => once(&mut read.mode, "--mode", text(parser)?)?,
                Arg::Long("timeout") => once(&mut read.timeout, "--timeout", text(parser)?)?,
                Arg::Long("stall-timeout") => {
                    once(&mut read.stall_timeout, "--stall-timeout", text(parser)?)?;
                }
                Arg::Long("termination-log") => {
                    once(&mut read.termination_log, "--termination-log", parser.value()?.into())?;
                }
                Arg::Value(spec) => read.specs.push(utf8(spec)?),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Command::Fetch(Box::new(read)))
    }
}

fn text(parser: &mut lexopt::Parser) -> Result<String, lexopt::Error> {
    utf8(parser.value()?)
}

fn utf8(value: OsString) -> Result<String, lexopt::Error> {
    value.into_string().map_err(lexopt::Error::NonUnicodeValue)
}

fn once<T>(option: &mut Option<T>, name: &str, value: T) -> Result<(), lexopt::Error> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("option '{name}' is given twice").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Command> {
        Arguments::read(std::iter::once("sacker-init").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn options_and_arguments_mix() {
        let command = read(&["a@live", "--to=/x", "-q", "--store", "s3://bucket", "b@1=/y"]).expect("fine");
        let Command::Fetch(read) = command else { panic!("{command:?}") };
        assert_eq!(read.specs, ["a@live", "b@1=/y"]);
        assert_eq!(read.to, Some(PathBuf::from("/x")));
        assert_eq!(read.store, ["s3://bucket"]);
        assert!(read.quiet && !read.instance_metadata);
    }

    #[test]
    fn help_and_version_win() {
        assert!(matches!(read(&["a@live", "--help", "--wrong"]), Ok(Command::Help)));
        assert!(matches!(read(&["-V"]), Ok(Command::Version)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, message) in [
            (&["--wrong"][..], "invalid option '--wrong'"),
            (&["--to"], "missing argument for option '--to'"),
            (&["--to", "/a", "--to", "/b"], "option '--to' is given twice"),
            (&["--quiet=yes"], "unexpected argument for option '--quiet': \"yes\""),
        ] {
            assert_eq!(read(arguments).expect_err(message).to_string(), message);
        }
    }
}
