//! What of a file is there and what is not, in the temporary file itself, so that another process can go on with it.
//!
//! Behind the blob's bytes stands one byte per part, set once the part was written, and a footer that says of which blob
//! they are. All of that is cut off before the file gets its name. Nothing of it is trusted: a part that counts as there is
//! hashed like one that arrives.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::assembly::{Output, Writer};
use super::plan;
use crate::files;
use crate::model::Sha256;

const MAGIC: [u8; 8] = *b"sackerP1";

/// Magic, size, part size, sha256.
const FOOTER: usize = 8 + 8 + 8 + 32;

/// More parts than any blob has: S3 objects end at 50 TB.
const MOST_PARTS: u64 = 1 << 24;

/// What a partial file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// The blob's size in bytes.
    pub(super) size: u64,
    /// Bytes of a part.
    pub(super) part: u64,
    /// How many bytes of each part are there.
    pub(super) here: Vec<u64>,
}

impl Left {
    /// Of a blob of which nothing is there.
    pub(super) fn nothing(size: u64, part: u64) -> Self {
        Self { size, part, here: vec![0; plan::count(size, part)] }
    }

    /// Bytes that are there.
    pub(super) fn bytes(&self) -> u64 {
        self.here.iter().sum()
    }

    /// What an earlier process left of this blob, if its file can be believed so far.
    pub(super) fn read(file: &File, sha256: &Sha256) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, length.checked_sub(FOOTER as u64)?).ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(footer[at..at + 8].try_into().ok()?));
        let (size, part) = (number(8)?, number(16)?);
        if footer[..8] != MAGIC || footer[24..] != sha256.as_bytes()[..] || part == 0 {
            return None;
        }
        let parts = size.div_ceil(part).max(1);
        if parts > MOST_PARTS || size.checked_add(parts)?.checked_add(FOOTER as u64)? != length {
            return None;
        }
        let mut flags = vec![0; usize::try_from(parts).ok()?];
        file.read_exact_at(&mut flags, size).ok()?;
        let here = flags.iter().zip(0..).map(|(flag, index): (&u8, u64)| {
            let length = (size - index * part).min(part);
            if *flag == 1 { length } else { 0 }
        });
        Some(Self { size, part, here: here.collect() })
    }
}

/// A file that is being written.
pub(super) struct PartialFile {
    file: Arc<File>,
    size: u64,
    part: u64,
    /// Bytes of whole parts that are there, for whoever has to decide whether the file is worth keeping. Nothing where the file
    /// says nothing of itself.
    kept: Option<Arc<AtomicU64>>,
}

impl PartialFile {
    /// Goes on with a file that says what is [`Left`].
    pub(super) fn resume(file: File, left: &Left, kept: Arc<AtomicU64>) -> Self {
        kept.store(left.bytes(), Ordering::Relaxed);
        Self { file: Arc::new(file), size: left.size, part: left.part, kept: Some(kept) }
    }

    /// An empty file for a blob of one part. There is nothing to go on with before all of it is there, so it says nothing of
    /// itself: of many small files that is a fair part of the work.
    pub(super) fn in_one_part(file: File, left: &Left) -> Self {
        Self { file: Arc::new(file), size: left.size, part: left.part, kept: None }
    }

    /// Makes an empty file one of a blob.
    pub(super) fn begin(file: File, left: &Left, sha256: &Sha256, kept: Arc<AtomicU64>) -> io::Result<Self> {
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(&MAGIC);
        footer.extend_from_slice(&left.size.to_le_bytes());
        footer.extend_from_slice(&left.part.to_le_bytes());
        footer.extend_from_slice(sha256.as_bytes());
        files::reserve(&file, left.size)?;
        file.write_all_at(&footer, left.size + left.here.len() as u64)?;
        Ok(Self::resume(file, left, kept))
    }

    /// The file, with nothing but the blob's bytes in it.
    pub(super) fn finished(&self) -> io::Result<&File> {
        if self.kept.is_some() {
            self.file.set_len(self.size)?;
        }
        Ok(&self.file)
    }
}

impl Output for PartialFile {
    const KEEPS: bool = true;

    fn hashed(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn writer(&self, here: &[u64]) -> Option<Writer> {
        let (file, mut here) = (Arc::clone(&self.file), here.to_vec());
        let (size, part) = (self.size, self.part);
        let Some(kept) = self.kept.clone() else {
            return Some(Box::new(move |offset, bytes| file.write_all_at(bytes, offset)));
        };
        Some(Box::new(move |offset, bytes| {
            file.write_all_at(bytes, offset)?;
            let index = offset / part;
            let Some(there) = usize::try_from(index).ok().and_then(|index| here.get_mut(index)) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            *there += bytes.len() as u64;
            if *there == part.min(size - index * part) {
                kept.fetch_add(*there, Ordering::Relaxed);
                file.write_all_at(&[1], size + index)?;
            }
            Ok(())
        }))
    }

    fn reread(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// A stream: what was hashed goes on, in order.
pub(super) struct Stream<W>(pub(super) W);

impl<W: io::Write + Send + 'static> Output for Stream<W> {
    const KEEPS: bool = false;

    fn hashed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn writer(&self, _here: &[u64]) -> Option<Writer> {
        None
    }

    fn reread(&mut self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_again() {
        let sha256 = Sha256::of(b"blob");
        let file = tempfile::tempfile().expect("a file");
        let left = Left::nothing(27, 10);
        let kept = Arc::default();
        let clone = file.try_clone().expect("cloned");
        let partial = PartialFile::begin(clone, &left, &sha256, Arc::clone(&kept)).expect("begun");
        assert_eq!(Left::read(&file, &sha256), Some(left.clone()));
        let mut write = partial.writer(&left.here).expect("a file has one");
        write(20, b"abcde").expect("written");
        assert_eq!(Left::read(&file, &sha256), Some(left.clone()), "not yet whole");
        write(25, b"fg").expect("written");
        assert_eq!(Left::read(&file, &sha256), Some(Left { here: vec![0, 0, 7], ..left }));
        assert_eq!(kept.load(Ordering::Relaxed), 7);
        assert_eq!(partial.finished().expect("cut").metadata().expect("looked").len(), 27);
        assert_eq!(Left::read(&file, &sha256), None);
    }

    #[test]
    fn a_file_of_one_part_has_nothing_but_the_bytes() {
        let file = tempfile::tempfile().expect("a file");
        let left = Left::nothing(7, 10);
        let clone = file.try_clone().expect("cloned");
        let partial = PartialFile::in_one_part(clone, &left);
        partial.writer(&left.here).expect("a file has one")(0, b"abcdefg").expect("written");
        assert_eq!(partial.finished().expect("nothing to cut").metadata().expect("looked").len(), 7);
    }

    #[test]
    fn what_is_no_partial_file_is_not_believed() {
        let sha256 = Sha256::of(b"blob");
        let file = tempfile::tempfile().expect("a file");
        let begin = || {
            let clone = file.try_clone().expect("cloned");
            PartialFile::begin(clone, &Left::nothing(27, 10), &sha256, Arc::default()).expect("begun")
        };
        assert_eq!(Left::read(&file, &sha256), None, "an empty file");
        drop(begin());
        assert_eq!(Left::read(&file, &Sha256::of(b"other")), None, "of another blob");
        // Sizes that do not fit the file, a part size of 0, and numbers beyond reason.
        let footer = 30;
        for (at, number) in [(8, 28_u64), (8, u64::MAX), (16, 0), (16, 8), (16, u64::MAX)] {
            drop(begin());
            file.write_all_at(&number.to_le_bytes(), footer + at).expect("written");
            let found = Left::read(&file, &sha256);
            assert!(found.is_none(), "{at} {number}: {found:?}");
        }
        drop(begin());
        file.set_len(footer + 55).expect("cut");
        assert_eq!(Left::read(&file, &sha256), None, "cut off");
    }
}
