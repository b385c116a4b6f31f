//! Reading an export, line by line: what is handed out is in order, and the end says whether all of it was right.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::line::{Header, LINE_MAX, Line, decode_line};
use crate::error::{Error, Meaning, Result, io_reason};
use crate::ledger::TagDump;
use crate::model::{Hasher, Numbering, PackageName, Sha256, TagName, Version, VersionRecord};

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packages.
    pub packages: u64,
    /// Versions, removed ones included.
    pub versions: u64,
    /// Tags, removed ones included.
    pub tags: u64,
    /// Events of all tags.
    pub events: u64,
}

impl std::ops::Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            packages: self.packages + other.packages,
            versions: self.versions + other.versions,
            tags: self.tags + other.tags,
            events: self.events + other.events,
        }
    }
}

/// One thing of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A version.
    Version(VersionRecord),
    /// A tag of this package with its events.
    Tag(PackageName, TagDump),
}

impl Entry {
    /// The package that it belongs to.
    pub fn package(&self) -> &PackageName {
        match self {
            Self::Version(record) => &record.package,
            Self::Tag(package, _) => package,
        }
    }
}

/// Where in the file the reader is: every line comes after the one before it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Version(PackageName, Version),
    Tag(PackageName, TagName),
}

impl Place {
    fn package(&self) -> &PackageName {
        match self {
            Self::Version(package, _) | Self::Tag(package, _) => package,
        }
    }

    fn comes_after(&self, before: &Self) -> bool {
        // Within one package versions stand before tags, as they do in the enum.
        (self.package(), self) > (before.package(), before)
    }
}

/// An export being read. Holds one line, or one tag with its history, at a time.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    name: String,
    numbering: Numbering,
    line: u64,
    bytes: u64,
    hasher: Hasher,
    place: Option<Place>,
    totals: Totals,
}

impl<R: AsyncBufRead + Unpin> Reader<R> {
    /// Reads the first line. Messages call the file `name`.
    ///
    /// # Errors
    /// `Invalid` when it is no export, or of a later sacker; `Local` when it cannot be read.
    pub async fn open(input: R, name: &str) -> Result<Self> {
        let mut reader = Self {
            input,
            name: name.to_owned(),
            numbering: Numbering::Sequence,
            line: 0,
            bytes: 0,
            hasher: Hasher::default(),
            place: None,
            totals: Totals::default(),
        };
        let line = match reader.read_line().await {
            Err(error) if matches!(error.meaning(), Meaning::Corrupt { .. }) => Vec::new(),
            line => line?.unwrap_or_default(),
        };
        let header = Header::decode(&line).map_err(|error| error.with_key(name))?;
        reader.hash(&line);
        reader.numbering = header.versions;
        Ok(reader)
    }

    /// How the ledger that was exported numbers its versions.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was read so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The next thing; nothing after the last, and only if the whole file is as it was written.
    ///
    /// # Errors
    /// `Corrupt`, with the line; `Local` when the file cannot be read.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        let Some(text) = self.read_line().await? else {
            return Err(self.broken("the file ends before its last line: it was cut off"));
        };
        match self.decode(&text)? {
            Line::Version(line) => {
                self.hash(&text);
                let record = VersionRecord::from(line);
                self.go_on(Place::Version(record.package.clone(), record.version))?;
                self.totals.versions += 1;
                Ok(Some(Entry::Version(record)))
            }
            Line::Tag(line) => {
                self.hash(&text);
                self.go_on(Place::Tag(line.package.clone(), line.tag.clone()))?;
                let at = self.line;
                let mut events = Vec::new();
                for _ in 0..line.events {
                    let text = self.read_line().await?;
                    let text = text.ok_or_else(|| self.broken("the file ends within a history"))?;
                    let Line::Event(event) = self.decode(&text)? else {
                        return Err(self.broken("an event was expected here"));
                    };
                    self.hash(&text);
                    events.push(event);
                }
                self.totals.tags += 1;
                self.totals.events += line.events;
                let name = &self.name;
                let broken = |why| Error::corrupt(format!("{name}, line {at}"), format!("the tag: {why}"));
                let (package, tag) = line.with(events).map_err(broken)?;
                Ok(Some(Entry::Tag(package, tag)))
            }
            Line::Event(_) => Err(self.broken("an event belongs to a tag")),
            Line::End(end) => {
                let sha256: Sha256 = std::mem::take(&mut self.hasher).finish();
                let Totals { packages, versions, tags, events } = self.totals;
                if (end.packages, end.versions, end.tags, end.events) != (packages, versions, tags, events) {
                    return Err(self.broken("lines are missing, or were added"));
                }
                if end.sha256 != sha256 {
                    return Err(self.broken("the lines before are not what was written"));
                }
                if self.read_line().await?.is_some() {
                    return Err(self.broken("nothing may come after the last line"));
                }
                Ok(None)
            }
        }
    }

    fn go_on(&mut self, place: Place) -> Result<()> {
        if self.place.as_ref().is_some_and(|before| !place.comes_after(before)) {
            return Err(self.broken("it is not in order"));
        }
        if self.place.as_ref().is_none_or(|before| before.package() != place.package()) {
            self.totals.packages += 1;
        }
        self.place = Some(place);
        Ok(())
    }

    fn decode(&self, text: &[u8]) -> Result<Line> {
        decode_line(text).map_err(|error| error.with_key(self.here()))
    }

    fn hash(&mut self, text: &[u8]) {
        self.hasher.update(text);
        self.hasher.update(b"\n");
    }

    /// The next line without its end; nothing at the end of the file.
    async fn read_line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        let mut limited = (&mut self.input).take(LINE_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut text).await.map_err(|error| {
            let why = format!("cannot read '{}': {}", self.name, io_reason(&error));
            Error::new(Meaning::Local { why }, "read the export").with_source(error)
        })?;
        self.bytes += read as u64;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if text.pop() != Some(b'\n') {
            let long = text.len() >= LINE_MAX;
            return Err(self.broken(if long { "the line is too long" } else { "the line was cut off" }));
        }
        Ok(Some(text))
    }

    fn here(&self) -> String {
        format!("{}, line {}", self.name, self.line)
    }

    fn broken(&self, why: &str) -> Error {
        Error::corrupt(self.here(), why)
    }
}
