//! How a blob is divided where a store takes it in parts, and the digests of the parts.
//!
//! Pure. Not responsible for reading the bytes or sending them.

use crate::model::{Hasher, Sha256};

/// Up to this size in bytes a blob is one request, and one piece of memory.
pub(super) const SINGLE_MAX: u64 = 64 << 20;

/// The size of a part in bytes, unless the blob would have too many.
const PART: u64 = 8 << 20;

/// S3 takes 10,000 parts; somewhat fewer leaves room for rounding.
const PARTS_MAX: u64 = 9_000;

/// Bytes of each part but the last, for a blob of `size` bytes.
pub(super) fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(PARTS_MAX))
}

/// Hashes bytes that come in order, part by part.
#[derive(Debug)]
pub(super) struct PartHasher {
    part_size: u64,
    hasher: Hasher,
    /// Bytes that the part that is being hashed lacks.
    left: u64,
    digests: Vec<Sha256>,
}

impl PartHasher {
    /// For parts of `part_size` bytes; more than 0.
    pub(super) fn new(part_size: u64) -> Self {
        Self { part_size, hasher: Hasher::default(), left: part_size, digests: Vec::new() }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(length);
            self.hasher.update(now);
            self.left -= length as u64;
            if self.left == 0 {
                self.digests.push(std::mem::take(&mut self.hasher).finish());
                self.left = self.part_size;
            }
            bytes = later;
        }
    }

    /// The digests of all parts in order. No bytes are no part.
    pub(super) fn finish(mut self) -> Vec<Sha256> {
        if self.left < self.part_size {
            self.digests.push(self.hasher.finish());
        }
        self.digests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_fits_into_the_number_of_parts() {
        for size in [1, PART, PART * PARTS_MAX, PART * PARTS_MAX + 1, 1 << 40, 5 << 40] {
            let part = part_size(size);
            assert!((PART..=5 << 30).contains(&part), "{size}: {part}");
            assert!(size.div_ceil(part) <= 10_000, "{size}: {part}");
        }
    }

    #[test]
    fn parts_are_hashed_apart_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for length in [0, 1, 99, 100, 101, 200, 999, 1000] {
            let expected: Vec<Sha256> = bytes[..length].chunks(100).map(Sha256::of).collect();
            for chunk in [1, 7, 100, 130, 1000] {
                let mut hasher = PartHasher::new(100);
                bytes[..length].chunks(chunk).for_each(|chunk| hasher.update(chunk));
                assert_eq!(hasher.finish(), expected, "{length} bytes, {chunk} at a time");
            }
        }
    }
}
