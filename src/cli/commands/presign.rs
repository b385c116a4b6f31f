//! `sacker presign`: a URL that gives one version's bytes to somebody without credentials, for a while.

use std::time::Duration;

use crate::cli::arguments::parse_age;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::session::Session;
use crate::error::{Error, Missing};
use crate::model::Spec;

/// As long as the AWS CLI's `presign` by default.
const EXPIRES: &str = "1h";

/// The longest that a signature of version 4 is valid.
const LONGEST: Duration = Duration::from_hours(7 * 24);

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker presign frontend-server live\n  curl -fLo app.jar \"$(sacker presign frontend-server 23 --expires 10m)\""
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// A version, a tag or 'latest'
    #[arg(value_name = "SPEC")]
    spec: String,
    /// How long the URL is valid, such as 10m or 7d (the longest); it ends earlier with temporary credentials
    #[arg(long, value_name = "TIME", default_value = EXPIRES, value_parser = parse_expires)]
    expires: Duration,
}

fn parse_expires(text: &str) -> Result<Duration, String> {
    let expires = parse_age(text)?;
    if expires > LONGEST {
        return Err(format!("'{text}' is more than 7d, the longest that a signature is valid"));
    }
    Ok(expires)
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let spec: Spec = args.spec.parse()?;
    session.configuration.store()?;
    let record = session.ledger().await?.resolve(&package, &spec).await?.record;
    let store = session.store().await?;
    // A URL to nothing would fail at somebody who can do nothing about it.
    if store.head(&record.sha256).await?.is_none() {
        return Err(Error::not_found(Missing::Blob(record.sha256)).into());
    }
    let url = store.presign(&record.sha256, args.expires, &record.basename).await?;
    session.printer.note(format_args!(
        "anybody with this URL can fetch version {} of '{package}'; nothing verifies it but sha256 {}",
        record.version, record.sha256
    ));
    session.printer.line(&url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_days_are_the_most() {
        assert_eq!(parse_expires("7d"), Ok(LONGEST));
        assert!(parse_expires("8d").expect_err("too long").contains("7d"));
        assert_eq!(parse_expires(EXPIRES), Ok(Duration::from_hours(1)));
    }
}
