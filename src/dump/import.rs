//! Reading an export back into a ledger: check the whole file, compare it with the ledger, and only then write.
//!
//! Nothing is ever overwritten: what is there already must be the same, or an earlier state of the same tag. So an import
//! that was interrupted is simply run again. Not responsible for asking anybody ([`crate::cli`]).

use std::io::SeekFrom;

use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, BufReader};

use super::export::Progress;
use super::package::PackageDump;
use super::read::{Entry, Reader, Totals};
use crate::error::{Error, Meaning, Result, io_reason};
use crate::ledger::Ledger;
use crate::model::{Numbering, PackageName, Version, VersionRecord};

/// Unix milliseconds since 2001: numbers from here on are no count of versions.
const FIRST_TIMESTAMP: i64 = 1_000_000_000_000;

const BUFFER: usize = 256 << 10;

/// What of one package is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagePlan {
    /// The package.
    pub package: PackageName,
    /// Whether the ledger has something of it.
    pub is_there: bool,
    /// What is missing there. `packages` is 1.
    pub missing: Totals,
}

impl PackagePlan {
    fn is_empty(&self) -> bool {
        self.missing.versions == 0 && self.missing.tags == 0
    }
}

/// An export that is to be imported.
#[derive(Debug)]
pub struct Import {
    file: File,
    name: String,
}

impl Import {
    /// An import of `file`, which messages call `name`. It is read three times.
    pub fn new(file: File, name: &str) -> Self {
        Self { file, name: name.to_owned() }
    }

    async fn reader(&mut self) -> Result<Reader<BufReader<&mut File>>> {
        self.file.seek(SeekFrom::Start(0)).await.map_err(|error| {
            let why = format!("cannot read '{}': {}", self.name, io_reason(&error));
            Error::new(Meaning::Local { why }, "read the export").with_source(error)
        })?;
        Reader::open(BufReader::with_capacity(BUFFER, &mut self.file), &self.name).await
    }

    /// Checks the whole file, and that a ledger with this numbering can take its versions.
    ///
    /// # Errors
    /// `Invalid` for a file that is no export, and for versions that would break the sequence; `Corrupt` for one that was
    /// cut off or edited; `Local`.
    pub async fn check(&mut self, numbering: Numbering, progress: Progress<'_>) -> Result<Totals> {
        let mut reader = self.reader().await?;
        let mut before: Option<VersionRecord> = None;
        // What is wrong with the file counts more than that it does not fit.
        let mut misfit = None;
        let mut told = 0;
        while let Some(entry) = reader.next().await? {
            progress(reader.bytes() - told);
            told = reader.bytes();
            let Entry::Version(record) = entry else { continue };
            let last = before.as_ref().filter(|before| before.package == record.package);
            let expected = last.map_or(Some(Version::FIRST), |last| last.version.next());
            if numbering == Numbering::Sequence && expected != Some(record.version) {
                misfit.get_or_insert_with(|| no_sequence(&record, last.map(|last| last.version)));
            }
            before = Some(record);
        }
        misfit.map_or_else(|| Ok(reader.totals()), Err)
    }

    /// Compares the file with the ledger: the packages of which something is missing there.
    ///
    /// # Errors
    /// `Conflict` when the ledger has something else; as [`Import::check`]; what the ledger says.
    pub async fn plan(&mut self, ledger: &dyn Ledger, progress: Progress<'_>) -> Result<Vec<PackagePlan>> {
        let mut reader = self.reader().await?;
        let mut plans: Vec<PackagePlan> = Vec::new();
        let mut there = PackageDump::default();
        let mut told = 0;
        while let Some(entry) = reader.next().await? {
            progress(reader.bytes() - told);
            told = reader.bytes();
            let package = entry.package();
            if plans.last().is_none_or(|plan| plan.package != *package) {
                plans.pop_if(|plan| plan.is_empty());
                there = PackageDump::read_if_there(ledger, package).await?;
                let missing = Totals { packages: 1, ..Totals::default() };
                let is_there = there != PackageDump::default();
                plans.push(PackagePlan { package: package.clone(), is_there, missing });
            }
            let Some(plan) = plans.last_mut() else { continue };
            compare(&entry, &there, &mut plan.missing)?;
        }
        plans.pop_if(|plan| plan.is_empty());
        Ok(plans)
    }

    /// Writes what `plans` says is missing. Calls `written` after each package.
    ///
    /// # Errors
    /// `Conflict` when somebody else wrote meanwhile; what the ledger says. Comparing again and writing the rest goes on.
    pub async fn write<E: From<Error>>(
        &mut self,
        ledger: &dyn Ledger,
        plans: &[PackagePlan],
        progress: Progress<'_>,
        mut written: impl FnMut(&PackagePlan) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = self.reader().await?;
        let mut left = plans.iter().peekable();
        let mut current: Option<&PackagePlan> = None;
        let mut told = 0;
        loop {
            let entry = reader.next().await?;
            progress(reader.bytes() - told);
            told = reader.bytes();
            let package = entry.as_ref().map(Entry::package);
            if let Some(plan) = current.take_if(|plan| Some(&plan.package) != package) {
                ledger.finish_restore(&plan.package).await?;
                written(plan)?;
            }
            let Some(entry) = entry else { return Ok(()) };
            if current.is_none() {
                // Both are in the order of the names.
                current = left.next_if(|plan| plan.package == *entry.package());
            }
            if current.is_some() {
                match entry {
                    Entry::Version(record) => ledger.restore_version(&record).await?,
                    Entry::Tag(package, dump) => ledger.restore_tag(&package, &dump).await?,
                };
            }
        }
    }
}

/// Counts what is missing of `entry`.
fn compare(entry: &Entry, there: &PackageDump, missing: &mut Totals) -> Result<()> {
    let conflict = |key: String, expected: String, found: String| {
        Err(Error::new(Meaning::Conflict { expected, found }, "import over it")
            .with_key(key)
            .with_hint("an import never overwrites; import into an empty ledger, or export other packages"))
    };
    match entry {
        Entry::Version(record) => {
            match there.versions.binary_search_by_key(&record.version, |there| there.version) {
                Err(_) => missing.versions += 1,
                Ok(position) if there.versions[position].says_the_same(record) => {}
                Ok(_) => {
                    let expected = format!("version {} as in the file", record.version);
                    let key = format!("package '{}'", record.package);
                    return conflict(key, expected, "another record".to_owned());
                }
            }
        }
        Entry::Tag(package, dump) => {
            let there = there.tags.iter().find(|there| there.tag == dump.tag);
            match dump.missing_from(there) {
                Ok(parts) if parts.is_empty() => {}
                Ok(parts) => {
                    missing.tags += 1;
                    missing.events += parts.events.len() as u64;
                }
                Err(contradiction) => {
                    let key = format!("tag '{}' of package '{package}'", dump.tag);
                    return conflict(key, contradiction.expected, contradiction.found);
                }
            }
        }
    }
    Ok(())
}

/// Why a version cannot go into a ledger that numbers 1, 2, 3, ...
fn no_sequence(record: &VersionRecord, before: Option<Version>) -> Error {
    let (package, version) = (&record.package, record.version);
    if version.get() >= FIRST_TIMESTAMP {
        return Error::invalid(format!(
            "version {version} of package '{package}' is a time in milliseconds; this ledger numbers 1, 2, 3, ..., \
             and would go on from there for good"
        ))
        .with_hint("use an S3 ledger that numbers by time: sacker --ledger s3://BUCKET init, then import there");
    }
    let after = before.map_or_else(|| "nothing".to_owned(), |before| format!("version {before}"));
    Error::invalid(format!(
        "package '{package}' has version {version} after {after}; this ledger numbers 1, 2, 3, ... without a gap"
    ))
    .with_hint("an S3 ledger that numbers by time takes it: sacker --ledger s3://BUCKET init --versions timestamp")
}
