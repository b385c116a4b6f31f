//! Looks up what exists, once something was not found, so that the message can name it.
//!
//! Spent on the way to an error only, and bounded: an explanation must not take longer than the failure it explains.

use std::time::Duration;

use futures::StreamExt as _;

use super::message::{Known, Subject};
use super::session::Session;
use crate::error::{Error, Meaning, Missing};
use crate::model::{Hold, PackageName, TagName};

/// The longest that an explanation may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many packages are looked at for a similar name.
const PACKAGES: usize = 2000;

/// How many versions a message names.
const VERSIONS: usize = 3;

/// What exists where `error` says that something does not, and what else stands in the way of what `subject` names.
pub(super) async fn look_up(error: &Error, subject: &Subject, session: &Session<'_>) -> Known {
    let known = async {
        match error.meaning() {
            Meaning::NotFound(missing) => known(missing, session).await,
            Meaning::Owned { .. } => Known { hold: hold(subject, session).await, ..Known::default() },
            _ => Known::default(),
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap_or_default()
}

async fn known(missing: &Missing, session: &Session<'_>) -> Known {
    match missing {
        Missing::Package(_) => packages(session).await,
        Missing::Version(package, _) | Missing::Removed(package, _) => {
            Known { versions: versions(session, package).await, ..Known::default() }
        }
        Missing::Tag(package, _) => Known { tags: tags(session, package).await, ..Known::default() },
        Missing::Earlier(..) | Missing::Blob(_) | Missing::Backend(_) | Missing::Shown { .. } => {
            Known::default()
        }
    }
}

async fn packages(session: &Session<'_>) -> Known {
    let Ok(ledger) = session.ledger().await else { return Known::default() };
    let mut names: Vec<String> = Vec::new();
    let mut packages = ledger.packages().take(PACKAGES);
    while let Some(package) = packages.next().await {
        match package {
            Ok(package) => names.push(package.as_str().to_owned()),
            // A built-in default that nobody added to yet does not even have a directory.
            Err(error) if error.is_not_found() && session.local_default().is_some() => break,
            Err(error) => match error.meaning() {
                // A file ledger whose directory is gone looks like one that does not have the package.
                Meaning::NotFound(Missing::Backend(what)) => {
                    return Known { missing_backend: Some(what.clone()), ..Known::default() };
                }
                _ => return Known::default(),
            },
        }
    }
    names.sort_unstable();
    Known { packages: Some(names), ..Known::default() }
}

async fn versions(session: &Session<'_>, package: &PackageName) -> Option<Vec<crate::model::Version>> {
    let newest = session.ledger().await.ok()?.newest(package, VERSIONS).await.ok()?;
    Some(newest.records.iter().map(|record| record.version).collect())
}

async fn hold(subject: &Subject, session: &Session<'_>) -> Option<Hold> {
    let (package, tag) = (subject.package.as_deref()?, subject.tag.as_deref()?);
    let (package, tag) = (PackageName::existing(package), TagName::existing(tag));
    session.ledger().await.ok()?.tag(&package, &tag).await.ok()??.hold().cloned()
}

async fn tags(session: &Session<'_>, package: &PackageName) -> Option<Vec<String>> {
    let tags = session.ledger().await.ok()?.tags(package).await.ok()?;
    Some(tags.iter().map(|state| state.tag.as_str().to_owned()).collect())
}
