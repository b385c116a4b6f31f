//! A blob put together from parts that arrive side by side, hashed in order: what is kept, and what is read again. Pure but
//! for its [`Output`].
//!
//! One hash follows the head, the end of what was hashed so far. Bytes at the head are hashed as they arrive, while they are
//! in the core's cache. Others wait in a small window, and where that is full, and the output keeps what it was given, in
//! the output alone. Not responsible for where bytes come from.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use super::budget::{Budget, Share};
use crate::model::{Hasher, Sha256};
use crate::page_buffer::PageBuffer;

/// Bytes that are read again at a time: they should still be in the core's cache when they are hashed.
const REREAD: usize = 256 << 10;

/// Where a blob's bytes go.
pub(super) trait Output: Send + 'static {
    /// Whether what arrived can be read again.
    const KEEPS: bool;

    /// Bytes were hashed; in order.
    fn hashed(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// What is done with bytes before they are hashed, in another thread; nothing for an output that waits for the hash.
    /// `here` says how many bytes of each part are there already.
    fn writer(&self, here: &[u64]) -> Option<Writer>;

    /// Reads what arrived at `offset`. Never asked for where that is not kept.
    fn reread(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Takes bytes and their offset, in any order of parts; in order within one.
pub(super) type Writer = Box<dyn FnMut(u64, &[u8]) -> io::Result<()> + Send>;

/// A blob on its way in.
pub(super) struct Assembly<O> {
    size: u64,
    part_size: u64,
    /// Bytes that are here, by part.
    here: Vec<u64>,
    hasher: Hasher,
    /// The head: bytes that were hashed.
    hashed: u64,
    /// What waits to be hashed, by offset.
    window: BTreeMap<u64, (Bytes, Share)>,
    budget: Budget,
    output: O,
    /// Once something is read again.
    buffer: Option<PageBuffer>,
}

/// What there is to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Bytes in the window.
    Held,
    /// Bytes that have to be read again.
    Kept,
    /// Nothing before more bytes arrive.
    Nothing,
}

impl<O: Output> Assembly<O> {
    /// `here` says how many bytes of each part of `part_size` bytes the output has already.
    pub(super) fn new(size: u64, part_size: u64, here: Vec<u64>, budget: Budget, output: O) -> Self {
        Self {
            size,
            part_size,
            here,
            hasher: Hasher::default(),
            hashed: 0,
            window: BTreeMap::new(),
            budget,
            output,
            buffer: None,
        }
    }

    /// Bytes of the whole blob.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What is done with bytes before they are taken in.
    pub(super) fn writer(&self) -> Option<Writer> {
        self.output.writer(&self.here)
    }

    /// The head, in bytes from the beginning.
    pub(super) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Whether the head is in another part than the byte at `offset`.
    pub(super) fn is_in_another_part_than(&self, offset: u64) -> bool {
        self.part_of(self.hashed) != self.part_of(offset)
    }

    /// Takes bytes in, after they went through [`Assembly::writer`]. Those of one part come in order.
    ///
    /// # Errors
    /// The output's own.
    pub(super) fn take(&mut self, offset: u64, bytes: Bytes) -> io::Result<()> {
        let index = self.part_of(offset);
        self.here[index] += bytes.len() as u64;
        if offset == self.hashed {
            self.advance(&bytes)?;
        } else {
            let share = self.budget.share(bytes.len());
            if let Some(share) = share.or_else(|| (!O::KEEPS).then(Share::none)) {
                self.window.insert(offset, (bytes, share));
            }
        }
        Ok(())
    }

    /// What can be hashed now.
    pub(super) fn next(&self) -> Next {
        match self.window.first_key_value() {
            Some((offset, _)) if *offset == self.hashed => Next::Held,
            _ if self.hashed < self.size && self.kept_until() > self.hashed => Next::Kept,
            _ => Next::Nothing,
        }
    }

    /// Hashes a little of what [`Assembly::next`] says.
    ///
    /// # Errors
    /// The output's own.
    pub(super) fn step(&mut self) -> io::Result<()> {
        match self.next() {
            Next::Held => {
                let Some((_, (bytes, _share))) = self.window.pop_first() else { return Ok(()) };
                self.advance(&bytes)
            }
            Next::Kept => {
                // What is in the window need not be read.
                let held = self.window.first_key_value().map_or(self.size, |(offset, _)| *offset);
                let left = self.kept_until().min(held) - self.hashed;
                let mut buffer = self.buffer.take().unwrap_or_else(|| PageBuffer::new(REREAD));
                let bytes = buffer.first(usize::try_from(left).unwrap_or(REREAD).min(REREAD));
                self.output.reread(self.hashed, bytes)?;
                self.advance(bytes)?;
                self.buffer = Some(buffer);
                Ok(())
            }
            Next::Nothing => Ok(()),
        }
    }

    /// The digest and the output, once everything was hashed; nothing before.
    pub(super) fn finish(self) -> Option<(Sha256, O)> {
        (self.hashed == self.size).then(|| (self.hasher.finish(), self.output))
    }

    fn advance(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
        self.output.hashed(bytes)
    }

    /// Up to where the head's part is here.
    fn kept_until(&self) -> u64 {
        let index = self.part_of(self.hashed);
        index as u64 * self.part_size + self.here.get(index).copied().unwrap_or(0)
    }

    fn part_of(&self, offset: u64) -> usize {
        usize::try_from(offset / self.part_size).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blob in memory, which can be read again, or not.
    #[derive(Default)]
    struct Memory<const KEEPS: bool> {
        bytes: Vec<u8>,
        in_order: Vec<u8>,
        reread: usize,
    }

    impl<const KEEPS: bool> Memory<KEEPS> {
        fn holding(bytes: Vec<u8>) -> Self {
            Self { bytes, ..Self::default() }
        }
    }

    impl<const IS_KEPT: bool> Output for Memory<IS_KEPT> {
        const KEEPS: bool = IS_KEPT;

        fn writer(&self, _here: &[u64]) -> Option<Writer> {
            None
        }

        fn hashed(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.in_order.extend_from_slice(bytes);
            Ok(())
        }

        fn reread(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            assert!(IS_KEPT, "asked for what is not there");
            let offset = at(offset);
            buffer.copy_from_slice(&self.bytes[offset..offset + buffer.len()]);
            self.reread += buffer.len();
            Ok(())
        }
    }

    fn at(offset: u64) -> usize {
        usize::try_from(offset).expect("small")
    }

    fn blob(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from(at * 7 % 251).expect("a byte")).collect()
    }

    /// Gives pieces of three parts of 10 bytes in an order that a seed makes up, in pieces of up to 4 bytes.
    fn assemble<const KEEPS: bool>(seed: u64, window: usize) -> Memory<KEEPS> {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = blob(27);
        let output = Memory::holding(bytes.clone());
        let mut assembly = Assembly::new(27, 10, vec![0; 3], Budget::new(window), output);
        let mut reached = [0, 10, 20];
        let ends = [10, 20, 27];
        while reached != ends {
            let part = random.usize(0..3);
            let length = random.usize(1..=4).min(ends[part] - reached[part]);
            if length > 0 {
                let piece = Bytes::copy_from_slice(&bytes[reached[part]..reached[part] + length]);
                assembly.take(reached[part] as u64, piece).expect("taken");
                reached[part] += length;
            }
            while random.bool() && assembly.next() != Next::Nothing {
                assembly.step().expect("a step");
            }
        }
        while assembly.next() != Next::Nothing {
            assembly.step().expect("a step");
        }
        let (sha256, output) = assembly.finish().expect("complete");
        assert_eq!(sha256, Sha256::of(&bytes), "seed {seed}");
        assert_eq!(output.in_order, bytes, "seed {seed}");
        output
    }

    #[test]
    fn any_order_of_parts_gives_the_same_digest() {
        for seed in 0..2_000 {
            assemble::<true>(seed, 8);
            assemble::<false>(seed, 8);
            assert_eq!(
                assemble::<true>(seed, 64).reread,
                0,
                "a window that is large enough: nothing is read again"
            );
        }
    }

    #[test]
    fn what_was_there_before_is_hashed_from_the_output() {
        let bytes = blob(27);
        let output = Memory::<true>::holding(bytes.clone());
        let mut assembly = Assembly::new(27, 10, vec![10, 0, 7], Budget::new(64), output);
        while assembly.next() != Next::Nothing {
            assembly.step().expect("a step");
        }
        assert_eq!(assembly.hashed(), 10);
        assembly.take(10, Bytes::copy_from_slice(&bytes[10..20])).expect("taken");
        while assembly.next() != Next::Nothing {
            assembly.step().expect("a step");
        }
        let (sha256, output) = assembly.finish().expect("complete");
        assert_eq!((sha256, output.reread), (Sha256::of(&bytes), 17));
    }

    #[test]
    fn a_hole_is_no_digest() {
        let output = Memory::<true>::holding(vec![0; 27]);
        let mut assembly = Assembly::new(27, 10, vec![0; 3], Budget::new(64), output);
        assembly.take(0, Bytes::from_static(b"abc")).expect("taken");
        assembly.take(20, Bytes::from_static(b"abcdefg")).expect("taken");
        assert_eq!((assembly.next(), assembly.hashed()), (Next::Nothing, 3));
        assert!(assembly.finish().is_none());
    }
}
