//! What a user reads when a command fails: what failed, on which package and backend, then hints that can be typed.
//!
//! Pure: an error, what the command was about and what exists become text. Looking up what exists is
//! [`super::explain`]'s work.

use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::time::Duration;

use super::suggest::closest;
use crate::error::{Error, Meaning, Missing};
use crate::model::{Hold, Version};

/// The package and tag that a command was about, as typed.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) package: Option<String>,
    pub(super) tag: Option<String>,
}

/// The surroundings of a failed command.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    pub(super) subject: Subject,
    pub(super) ledger: Option<String>,
    pub(super) store: Option<String>,
    /// The longest that one operation of a backend may take.
    pub(super) deadline: Duration,
    /// Since the command began.
    pub(super) elapsed: Duration,
    /// The command line that creates what these settings name.
    pub(super) init: String,
    /// Whether to tell what lies under the error.
    pub(super) verbose: bool,
}

/// What exists where something was not found. Nothing where it could not be looked up.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) packages: Option<Vec<String>>,
    pub(super) tags: Option<Vec<String>>,
    /// Newest first.
    pub(super) versions: Option<Vec<Version>>,
    /// The table, bucket or directory that is not there.
    pub(super) missing_backend: Option<String>,
    /// The hold of a tag that is refused for its owner.
    pub(super) hold: Option<Hold>,
}

/// A failure in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) error: String,
    pub(super) hints: Vec<String>,
    pub(super) causes: Vec<String>,
}

/// A word as it can be typed into a shell.
pub(super) fn typed(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@+=,%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `1 version`, `2 versions`: so many of what is counted, in words.
pub(super) fn counted<N: Copy + fmt::Display + PartialEq + From<u8>>(count: N, thing: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// At most `limit` of `words`, the rest as a number.
pub(super) fn listed(words: &[String], limit: usize) -> String {
    let mut text = words.iter().take(limit).map(|word| typed(word)).collect::<Vec<_>>().join(", ");
    if words.len() > limit {
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, " and {} more", words.len() - limit);
    }
    text
}

/// The message for a failure.
pub(super) fn report(error: &Error, context: &Context, known: &Known) -> Report {
    let mut report = Report { error: error.to_string(), ..Report::default() };
    match error.meaning() {
        // It says already why what is there does not count, such as at a time in the past.
        Meaning::NotFound(
            Missing::Package(_) | Missing::Tag(..) | Missing::Version(..) | Missing::Removed(..),
        ) if error.hint().is_some() => {}
        Meaning::NotFound(Missing::Backend(what)) if error.hint().is_some_and(|hint| !is_to_create(hint)) => {
            // It is not for `sacker init` to make, and its backend knows whose it is.
            report.error = Missing::Backend(what.clone()).to_string();
        }
        Meaning::NotFound(missing) => not_found(&mut report, missing, context, known),
        Meaning::Conflict { expected, found } => conflict(&mut report, expected, found, error, context),
        Meaning::Held(hold) => {
            report.error = format!("{} is held by {hold}", tag_of(context));
            report.hints.push(format!("end the hold with: sacker release {}", arguments(context)));
        }
        Meaning::Owned { owner } => owned(&mut report, owner, context, known),
        Meaning::Denied { .. } if error.key().is_some_and(|key| key.starts_with('/')) => {
            report.hints.push("check who owns the directory, and that it is not mounted read-only".into());
        }
        Meaning::Denied { .. } if error.hint().is_none() => {
            report.hints.push("check which credentials are in use and what they may do".into());
        }
        Meaning::Denied { .. } if error.hint().is_some_and(|hint| hint.starts_with("no AWS credentials")) => {
            report.hints.push("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into());
        }
        Meaning::Throttled | Meaning::Unavailable => unavailable(&mut report, error, context),
        Meaning::Other => report.hints.push("run it again with --verbose to see what lies under it".into()),
        Meaning::AlreadyExists { .. }
        | Meaning::Denied { .. }
        | Meaning::Invalid { .. }
        | Meaning::Corrupt { .. }
        | Meaning::Local { .. }
        | Meaning::Interrupted => {}
    }
    // The backend's own hint knows most, so it comes first. Only how to create what is missing is known better here.
    let is_missing = matches!(error.meaning(), Meaning::NotFound(Missing::Backend(_)));
    if let Some(hint) = error.hint().filter(|hint| !(is_missing && is_to_create(hint))) {
        report.hints.insert(0, hint.to_owned());
    }
    if let Some(id) = error.unsettled() {
        report.hints.push(unsettled(id, context));
    }
    if context.verbose {
        report.causes = causes(error);
    }
    report
}

/// Whether a backend's hint says to create what is missing.
fn is_to_create(hint: &str) -> bool {
    hint.contains("create it with")
}

/// The deadline is per operation and attempts may end before it, so the only time that is true is the command's own.
fn unavailable(report: &mut Report, error: &Error, context: &Context) {
    let seconds = context.elapsed.as_secs_f64();
    let _ = write!(report.error, ", given up {seconds:.1} s after the start");
    if error.hint().is_none() {
        let longer = "try again, or wait longer with --timeout 2m";
        let hint = if context.elapsed < context.deadline {
            "try again; -v shows what lies under it"
        } else {
            longer
        };
        report.hints.push(hint.into());
    }
}

fn package_of(context: &Context) -> String {
    context.subject.package.as_deref().unwrap_or_default().to_owned()
}

fn tag_of(context: &Context) -> String {
    match &context.subject.tag {
        Some(tag) => format!("tag '{tag}' of package '{}'", package_of(context)),
        None => format!("package '{}'", package_of(context)),
    }
}

/// Package and tag, to be typed.
fn arguments(context: &Context) -> String {
    let package = context.subject.package.as_deref().unwrap_or("PACKAGE");
    let tag = context.subject.tag.as_deref().unwrap_or("TAG");
    format!("{} {}", typed(package), typed(tag))
}

fn not_found(report: &mut Report, missing: &Missing, context: &Context, known: &Known) {
    match missing {
        Missing::Package(_) if known.missing_backend.is_some() => {
            let what = known.missing_backend.as_deref().unwrap_or_default();
            missing_backend(report, what, context);
        }
        Missing::Package(package) => {
            if let Some(ledger) = &context.ledger {
                let _ = write!(report.error, " in {ledger}");
            }
            match known.packages.as_deref() {
                Some([]) => report.hints.push(format!(
                    "the ledger has no packages yet; add one with: sacker add {} FILE",
                    typed(package.as_str())
                )),
                Some(packages) => {
                    if let Some(close) = closest(package.as_str(), packages.iter().map(String::as_str)) {
                        report.hints.push(format!("did you mean '{close}'?"));
                    } else {
                        report.hints.push(format!("its packages: {}; see: sacker list", listed(packages, 5)));
                    }
                }
                None => report.hints.push("see what there is with: sacker list".into()),
            }
        }
        Missing::Version(package, _) | Missing::Removed(package, _) => {
            let package = typed(package.as_str());
            match known.versions.as_deref() {
                None | Some([]) => {
                    report.hints.push(format!("see what there is with: sacker versions {package}"));
                }
                Some(versions) => {
                    let newest: Vec<_> = versions.iter().map(Version::to_string).collect();
                    report.hints.push(format!(
                        "its newest versions: {}; see: sacker versions {package}",
                        newest.join(", ")
                    ));
                }
            }
        }
        Missing::Tag(package, tag) => {
            let package = typed(package.as_str());
            match known.tags.as_deref() {
                None => report.hints.push(format!("see what there is with: sacker tags {package}")),
                Some([]) => report.hints.push(format!(
                    "it has no tags; set one with: sacker tag {package} latest {}",
                    typed(tag.as_str())
                )),
                Some(tags) => match closest(tag.as_str(), tags.iter().map(String::as_str)) {
                    Some(close) => report.hints.push(format!("did you mean '{close}'?")),
                    None => {
                        report
                            .hints
                            .push(format!("its tags: {}; see: sacker tags {package}", listed(tags, 10)));
                    }
                },
            }
        }
        // Its hint knows the way out.
        Missing::Earlier(..) | Missing::Shown { .. } => report.error = missing.to_string(),
        Missing::Blob(sha256) => {
            let store = context.store.as_deref().unwrap_or("the store");
            report.error = format!("{store} has no blob {sha256}");
            report.hints.push(
                "is this the store it was added to? --store URI names another; adding the same file again restores it"
                    .into(),
            );
        }
        Missing::Backend(what) => missing_backend(report, what, context),
    }
}

fn missing_backend(report: &mut Report, what: &str, context: &Context) {
    report.error = Missing::Backend(what.to_owned()).to_string();
    report.hints.push(format!("if that is its right name, create it with: {}", context.init));
}

fn conflict(report: &mut Report, expected: &str, found: &str, error: &Error, context: &Context) {
    if context.subject.package.is_none() {
        return;
    }
    if error.hint().is_some() {
        // It names what it is about, and its hint knows the way out.
        report.error = format!("expected {expected}, found {found}");
        return;
    }
    report.error = format!("{}: expected {expected}, found {found}", tag_of(context));
    report.hints.push(match &context.subject.tag {
        Some(_) => format!("see who moved it with: sacker history {}", arguments(context)),
        None => format!("see what there is with: sacker versions {}", typed(&package_of(context))),
    });
}

fn owned(report: &mut Report, owner: &str, context: &Context, known: &Known) {
    report.error = format!("{} is owned by '{owner}'", tag_of(context));
    if let Some(hold) = &known.hold {
        // Nothing else helps before that: neither the owner nor a rollback moves it.
        let release = format!("end the hold with: sacker release {}", arguments(context));
        report.hints.push(format!("it is also held by {hold}; {release}"));
        return;
    }
    // `k8s:<cluster>/<namespace>/<name>`: the SackerTag that moves this tag.
    let object = owner.strip_prefix("k8s:").map(|object| object.split('/').collect::<Vec<_>>());
    if let Some([_cluster, namespace, name]) = object.as_deref() {
        report.hints.push(format!(
            "change the SackerTag that owns it: kubectl -n {} edit sackertag {}",
            typed(namespace),
            typed(name)
        ));
        report.hints.push(format!(
            "or, to go back and let nobody move it forward again: sacker rollback {}",
            arguments(context)
        ));
    }
    report.hints.push("or add --take-over: the owner then leaves the tag to you".into());
}

fn unsettled(id: &str, context: &Context) -> String {
    let package = typed(context.subject.package.as_deref().unwrap_or("PACKAGE"));
    let look = match &context.subject.tag {
        Some(tag) => format!("sacker history {package} {} -o json", typed(tag)),
        None => format!("sacker info {package} latest -o json"),
    };
    format!("the write may have happened all the same; it did if its id {id} is in: {look}")
}

/// The errors underneath, outermost first, without repeating what the error itself says.
fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests;
