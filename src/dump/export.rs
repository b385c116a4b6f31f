//! Writing an export.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::line::{EndLine, Header, Line, TagLine, encode_line, to_json};
use super::package::PackageDump;
use super::read::Totals;
use crate::error::{Error, Meaning, Missing, Result, io_reason};
use crate::ledger::Ledger;
use crate::model::{Hasher, PackageName};

/// Packages that are read at a time, and kept in memory.
const READS: usize = 8;

/// Called with the number of bytes since the last call.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Counts and hashes what it writes.
struct Writer<W> {
    out: W,
    hasher: Hasher,
    totals: Totals,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn line(&mut self, mut text: String, progress: Progress<'_>) -> Result<()> {
        text.push('\n');
        self.hasher.update(text.as_bytes());
        self.out.write_all(text.as_bytes()).await.map_err(failed)?;
        progress(text.len() as u64);
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    let why = format!("cannot write the export: {}", io_reason(&error));
    Error::new(Meaning::Local { why }, "write the export").with_source(error)
}

/// Writes these packages, or all, in the order of their names. `out` is flushed, not synced.
///
/// # Errors
/// `NotFound(Package)` for a named package that is not there; `Local` with its `std::io::Error` as source when `out` fails;
/// what the ledger says. What was written then has no last line, and no import takes it.
pub async fn export(
    ledger: &dyn Ledger,
    packages: Option<&[PackageName]>,
    out: impl AsyncWrite + Unpin,
    progress: Progress<'_>,
) -> Result<Totals> {
    let numbering = ledger.numbering().await?;
    let mut names: Vec<PackageName> = match packages {
        Some(packages) => packages.to_vec(),
        None => ledger.all_packages().try_collect().await?,
    };
    // By bytes, which is how Rust compares text.
    names.sort();
    names.dedup();
    let mut writer = Writer { out, hasher: Hasher::default(), totals: Totals::default() };
    writer.line(to_json(&Header::new(numbering)), progress).await?;
    let is_named = packages.is_some();
    let read = |package: PackageName| async move {
        match PackageDump::read(ledger, &package).await {
            // What only looks like a package, such as the history of a tag called `versions`.
            Err(error) if !is_named && matches!(error.meaning(), Meaning::NotFound(Missing::Package(_))) => {
                Ok::<_, Error>(None)
            }
            dump => dump.map(|dump| Some((package, dump))),
        }
    };
    let mut dumps = stream::iter(names).map(read).buffered(READS);
    while let Some(dump) = dumps.try_next().await? {
        let Some((package, dump)) = dump else { continue };
        writer.totals.packages += 1;
        for record in dump.versions {
            writer.totals.versions += 1;
            writer.line(encode_line(&Line::Version(record.into())), progress).await?;
        }
        for tag in dump.tags {
            writer.totals.tags += 1;
            let line = Line::Tag(TagLine::new(package.clone(), &tag));
            writer.line(encode_line(&line), progress).await?;
            for event in tag.events {
                writer.totals.events += 1;
                writer.line(encode_line(&Line::Event(event)), progress).await?;
            }
        }
    }
    let Totals { packages, versions, tags, events } = writer.totals;
    let sha256 = std::mem::take(&mut writer.hasher).finish();
    let end = Line::End(EndLine { packages, versions, tags, events, sha256 });
    writer.line(encode_line(&end), progress).await?;
    writer.out.flush().await.map_err(failed)?;
    Ok(writer.totals)
}
