//! Logs: `tracing` to standard error, as text for people or as JSON for collectors.
//!
//! Not responsible for what a command answers or why it failed (that is [`crate::cli`]'s printer), nor for metrics. The
//! built-in filters keep the SDK's request dumps out: they may hold credentials.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment::Environment;
use crate::error::{Error, Result};

/// The variable that replaces the built-in filter: levels, each for a module or for all, as in `warn,sacker=debug`.
pub const FILTER_VARIABLE: &str = "SACKER_LOG";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person who waits for one command: level and message only.
    Terse,
    /// For people who read a log: with time and module.
    Text,
    /// One JSON object per line.
    #[cfg(feature = "operator")]
    Json,
}

/// The filter for a verbosity: 0 is warnings only, 1 says what sacker does, 2 and more also how the SDKs decide (never
/// what they send). `SACKER_LOG` replaces it.
pub fn filter(verbosity: u8, environment: &Environment) -> String {
    let built_in = match verbosity {
        0 => "error,sacker=warn",
        1 => "warn,sacker=debug",
        _ => "info,sacker=trace,aws_config=debug",
    };
    environment.get(FILTER_VARIABLE).unwrap_or(built_in).to_owned()
}

/// Installs the process's logger. To be called once; a second call changes nothing.
///
/// # Errors
/// `Invalid` for a filter that cannot be parsed.
pub fn install(format: Format, filter: &str) -> Result<()> {
    let filter: Targets = filter.parse().map_err(|error| {
        let error = Error::invalid(format!("{FILTER_VARIABLE} is not a log filter: {error}"));
        error.with_hint("levels, each for a module or for all, as in warn,sacker=debug")
    })?;
    let lines = fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let lines = match format {
        Format::Terse => lines.without_time().with_target(false).boxed(),
        Format::Text => lines.boxed(),
        #[cfg(feature = "operator")]
        Format::Json => lines.json().boxed(),
    };
    let installed = tracing_subscriber::registry().with(filter).with(lines).try_init();
    // Only a test that runs two commands in one process meets a logger that is there already.
    drop(installed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_replaces_the_built_in_filter() {
        assert_eq!(filter(0, &Environment::default()), "error,sacker=warn");
        let environment = [(FILTER_VARIABLE.to_owned(), "sacker=trace".to_owned())].into_iter().collect();
        assert_eq!(filter(0, &environment), "sacker=trace");
    }

    #[test]
    fn the_built_in_filters_parse() {
        for verbosity in 0..4 {
            assert!(filter(verbosity, &Environment::default()).parse::<Targets>().is_ok());
        }
    }

    #[test]
    fn a_broken_filter_is_refused() {
        let error = install(Format::Terse, "sacker=loud,,=").expect_err("a refusal").to_string();
        assert!(error.starts_with("SACKER_LOG is not a log filter"), "{error}");
    }
}
