//! `sacker resolve`: the pinned spec that a spec stands for, now or at a time in the past.

use jiff::Timestamp;

use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::message::typed;
use crate::cli::output::print_warning;
use crate::cli::session::Session;
use crate::error::{Error, Meaning, Missing, Result};
use crate::ledger::Ledger;
use crate::model::{
    NewestAt, PackageName, Spec, TagAt, TagName, Version, VersionRecord, newest_at, tag_at, time,
};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker resolve frontend-server@live\n  sacker resolve frontend-server@live --at 2026-11-21T10:00:00Z\n  sacker resolve frontend-server --at 3d    # the newest version of three days ago"
)]
pub(in crate::cli) struct Args {
    /// The package, and a version, a tag or 'latest'
    #[arg(value_name = "PACKAGE[@SPEC]")]
    pub(in crate::cli) what: String,
    /// What it was then: RFC 3339, a date (its begin in UTC), or how long ago, such as 90m or 3d
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let (package, spec) = split(&args.what);
    let package = input::package(package)?;
    let spec: Spec = spec.unwrap_or("latest").parse()?;
    let at = args.at.as_deref().map(|at| time::parse_past(at, session.connect.clock.now())).transpose()?;
    let ledger = session.ledger().await?.as_ref();
    let record = match (at, &spec) {
        (None, spec) => ledger.resolve(&package, spec).await?.record,
        (Some(_), Spec::Version(_)) => {
            return Err(Error::invalid("a version names the same bytes at all times")
                .with_hint(format!("leave out --at: sacker resolve {}", typed(&args.what)))
                .into());
        }
        (Some(at), Spec::Latest) => newest(ledger, &package, at).await?,
        (Some(at), Spec::Tag(tag)) => tagged(ledger, &package, tag, at).await?,
    };
    session.printer.line(&record.pinned().to_string())
}

/// The package and the spec, at the last `@`. A package may have one in its name, a spec no `/`.
pub(in crate::cli) fn split(what: &str) -> (&str, Option<&str>) {
    match what.rsplit_once('@') {
        Some((package, spec)) if !package.is_empty() && !spec.contains('/') => (package, Some(spec)),
        _ => (what, None),
    }
}

async fn newest(ledger: &dyn Ledger, package: &PackageName, at: Timestamp) -> Result<VersionRecord> {
    let records = ledger.versions(package).await?;
    let shown = time::format(at);
    match newest_at(&records, at) {
        NewestAt::Version(record) if record.is_removed() => Err(removed_since(record)),
        NewestAt::Version(record) => Ok(record.clone()),
        NewestAt::None => Err(nothing(Missing::Package(package.clone()))
            .with_hint(format!("at {shown} it had no version; see: sacker versions {}", name(package)))),
        NewestAt::Unknown(record) => Err(nothing(Missing::Version(package.clone(), record.version)).with_hint(
            format!(
                "a 2015 client added version {}, and when was not recorded: nobody knows the newest at {shown}",
                record.version
            ),
        )),
    }
}

async fn tagged(
    ledger: &dyn Ledger,
    package: &PackageName,
    tag: &TagName,
    at: Timestamp,
) -> Result<VersionRecord> {
    tag.check_stored()?;
    let shown = time::format(at);
    let missing = || Missing::Tag(package.clone(), tag.clone());
    let events = match ledger.history(package, tag).await {
        Err(error) if error.is_not_found() => {
            // Which of the two is missing.
            ledger.tags(package).await?;
            return Err(error);
        }
        events => events?,
    };
    let now = format!("sacker resolve {}@{}", name(package), typed(tag.as_str()));
    match tag_at(&events, at) {
        TagAt::Version(version, event) => {
            let is_last = events.last().is_some_and(|last| last.seq == event.seq);
            let state = if is_last { ledger.tag(package, tag).await? } else { None };
            if is_last && state.is_none_or(|state| state.event.is_none()) {
                print_warning(format_args!(
                    "a 2015 client changed tag '{tag}' after event {}, and when was not recorded; what it is now: {now}",
                    event.seq
                ));
            }
            at_version(ledger, package, version).await
        }
        TagAt::Removed(event) => Err(nothing(missing()).with_hint(format!(
            "at {shown} it was not set: '{}' removed it at {}; see: sacker history {} {}",
            event.by,
            time::format(event.at),
            name(package),
            typed(tag.as_str())
        ))),
        TagAt::NotYet(Some(first)) => Err(nothing(missing()).with_hint(format!(
            "at {shown} it had no history yet: its first event is of {}",
            time::format(first.at)
        ))),
        TagAt::NotYet(None) => Err(nothing(missing()).with_hint(format!(
            "only 2015 clients wrote it, and when was not recorded; what it is now: {now}"
        ))),
    }
}

async fn at_version(ledger: &dyn Ledger, package: &PackageName, version: Version) -> Result<VersionRecord> {
    ledger.version(package, version).await.map_err(|error| match error.meaning() {
        Meaning::NotFound(Missing::Removed(..)) => {
            error.with_hint("that is where the tag pointed then; the version was removed since")
        }
        _ => error,
    })
}

fn removed_since(record: &VersionRecord) -> Error {
    nothing(Missing::Removed(record.package.clone(), record.version))
        .with_hint("it was the newest then, and was removed since")
}

fn nothing(missing: Missing) -> Error {
    Error::not_found(missing)
}

fn name(package: &PackageName) -> String {
    typed(package.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_and_spec_are_parted_at_the_last_sign() {
        for (what, package, spec) in [
            ("web", "web", None),
            ("web@live", "web", Some("live")),
            ("web@23", "web", Some("23")),
            ("@scope/web", "@scope/web", None),
            ("@scope/web@live", "@scope/web", Some("live")),
            ("a@b/c", "a@b/c", None),
            ("web@", "web", Some("")),
        ] {
            assert_eq!(split(what), (package, spec), "{what}");
        }
    }
}
