//! `sacker diff`: what changes for whoever goes from one version of a package to another.

use serde::Serialize;

use crate::cli::arguments::FormatArgs;
use crate::cli::failure::Outcome;
use crate::cli::input;
use crate::cli::items::{VersionItem, or_nothing};
use crate::cli::output::Item;
use crate::cli::session::Session;
use crate::model::{PackageName, Spec, Version, VersionRecord};

#[derive(Debug, clap::Args)]
#[command(
    before_help = "Example:\n  sacker diff frontend-server live canary    # what a promotion of canary to live would change\n  sacker diff frontend-server 22 latest -o json"
)]
pub(in crate::cli) struct Args {
    /// The package
    #[arg(value_name = "PACKAGE")]
    pub(in crate::cli) package: String,
    /// Where from: a version, a tag or 'latest'
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    output: FormatArgs,
}

pub(in crate::cli) async fn run(args: &Args, session: &Session<'_>) -> Outcome {
    let package = input::package(&args.package)?;
    let (from, to): (Spec, Spec) = (args.from.parse()?, args.to.parse()?);
    let ledger = session.ledger().await?;
    let from = ledger.resolve(&package, &from).await?.record;
    let to = ledger.resolve(&package, &to).await?.record;
    let (records, tags) = (ledger.versions(&package).await?, ledger.tags(&package).await?);
    let step = Step::between(from.version, to.version, &records);
    session.printer.note(format_args!("{}", step.words(args)));
    let (from, to) = (VersionItem::new(from, &tags), VersionItem::new(to, &tags));
    let fields = fields(&from, &to);
    let document = Document { package: &package, step, changed: &fields, from: &from, to: &to };
    session.printer.rows_or(args.output.format, &document, &fields)
}

/// What lies between two versions.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    direction: Direction,
    /// Those that the step takes in (or back), oldest first: the newer of the two is among them, the older is not. Removed
    /// ones do not count.
    versions: Vec<Version>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Forward,
    Back,
    None,
}

impl Step {
    fn between(from: Version, to: Version, records: &[VersionRecord]) -> Self {
        let direction = match from.cmp(&to) {
            std::cmp::Ordering::Less => Direction::Forward,
            std::cmp::Ordering::Greater => Direction::Back,
            std::cmp::Ordering::Equal => Direction::None,
        };
        let (older, newer) = (from.min(to), from.max(to));
        let there = records.iter().filter(|record| !record.is_removed()).map(|record| record.version);
        Self { direction, versions: there.filter(|version| *version > older && *version <= newer).collect() }
    }

    fn words(&self, args: &Args) -> String {
        let (count, from, to) = (self.versions.len(), &args.from, &args.to);
        let versions = if count == 1 { "1 version".to_owned() } else { format!("{count} versions") };
        match self.direction {
            Direction::Forward => format!("from {from} to {to} is {versions} forward"),
            Direction::Back => format!("from {from} to {to} is {versions} back"),
            Direction::None => format!("{from} and {to} are the same version"),
        }
    }
}

/// The documented shape of `-o json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    package: &'a PackageName,
    #[serde(flatten)]
    step: Step,
    changed: &'a [Field],
    from: &'a VersionItem,
    to: &'a VersionItem,
}

/// A field of `info` that is not the same in both.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Field {
    #[serde(rename = "field")]
    name: String,
    /// Null where that version has no such field.
    from: Option<String>,
    to: Option<String>,
}

impl Item for Field {
    const HEADERS: &'static [&'static str] = &["FIELD", "FROM", "TO"];
    const WRAPPED: &'static [&'static str] = &["FROM", "TO"];

    fn cells(&self) -> Vec<String> {
        self.plain()
    }

    fn plain(&self) -> Vec<String> {
        vec![self.name.clone(), or_nothing(self.from.as_ref()), or_nothing(self.to.as_ref())]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// The fields that differ, in the order of `info`; those that only the second version has come last.
fn fields(from: &VersionItem, to: &VersionItem) -> Vec<Field> {
    let (from, to) = (from.fields(false), to.fields(false));
    let value = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let new = to.iter().filter(|(key, _)| value(&from, key).is_none());
    from.iter()
        .chain(new)
        .map(|(key, _)| Field { name: key.clone(), from: value(&from, key), to: value(&to, key) })
        // It only says again what version and digest say.
        .filter(|field| field.from != field.to && field.name != "pinned")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: i64, commit: Option<&str>) -> VersionRecord {
        let mut record = VersionRecord::example("web", version, &version.to_be_bytes());
        record.metadata.extend(commit.map(|commit| ("commit".to_owned(), commit.to_owned())));
        record
    }

    #[test]
    fn only_what_differs_is_told() {
        let item = |record| VersionItem::new(record, &[]);
        let names = |from, to| -> Vec<String> {
            fields(&item(from), &item(to)).into_iter().map(|field| field.name).collect()
        };
        assert_eq!(names(record(1, None), record(2, Some("abc"))), ["version", "sha256", "metadata.commit"]);
        assert_eq!(names(record(1, Some("abc")), record(2, None)), ["version", "sha256", "metadata.commit"]);
        assert_eq!(names(record(1, Some("abc")), record(2, Some("abc"))), ["version", "sha256"]);
        assert!(names(record(1, Some("abc")), record(1, Some("abc"))).is_empty());
    }

    #[test]
    fn a_step_counts_what_is_there() {
        let records: Vec<_> = (1..=5).map(|version| record(version, None)).collect();
        let step = |from, to| {
            let version = |number| Version::new(number).expect("positive");
            let step = Step::between(version(from), version(to), &records);
            (step.direction, step.versions.into_iter().map(|version| version.to_string()).collect::<String>())
        };
        assert_eq!(step(2, 4), (Direction::Forward, "34".to_owned()));
        assert_eq!(step(4, 2), (Direction::Back, "34".to_owned()));
        assert_eq!(step(3, 3), (Direction::None, String::new()));
    }
}
