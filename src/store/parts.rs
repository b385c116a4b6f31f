//! How a blob is divided where a store takes it in parts.
//!
//! Pure. Not responsible for reading the bytes or sending them.

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
}
