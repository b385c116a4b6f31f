//! What the C library does with memory that was freed. Not responsible for how much is in use (`budget.rs`, `pipeline.rs`).

use std::hint::black_box;
use std::sync::Once;

/// Bytes: as many as wait for the thread that hashes.
const BLOCK: usize = super::pipeline::QUEUE_BYTES as usize;

/// Has freed memory kept for the next piece, up to twice [`BLOCK`].
///
/// glibc gives the end of its heap back to the kernel as soon as 128 KiB of it are free, and a download whose pieces are
/// freed as they are hashed then touches new pages all the time: 50,000 page faults per GiB, a twelfth of the whole time.
/// The limit is twice the size of the largest block that was mapped by itself and freed (`mallopt(3)`, on
/// `M_MMAP_THRESHOLD`), so one such block is asked for and freed; nobody touches it. Who set the limit in the environment
/// keeps it, and other C libraries do not mind.
pub(super) fn keep_what_is_freed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(BLOCK))));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often this thread touched a page of memory that the process did not have.
    fn page_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the thread runs");
        // proc_pid_stat(5): `minflt` is the tenth field, the eighth after the name in parentheses.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        fields.split(' ').nth(7).and_then(|field| field.parse().ok()).expect("a number")
    }

    /// What a download does: a queue of pieces is filled, and emptied.
    fn fill_and_empty() {
        let pieces: Vec<Vec<u8>> = (0..40).map(|_| vec![1; 64 << 10]).collect();
        black_box(pieces);
    }

    #[test]
    fn memory_that_was_freed_is_not_touched_anew() {
        keep_what_is_freed();
        fill_and_empty();
        let before = page_faults();
        for _ in 0..20 {
            fill_and_empty();
        }
        let faults = page_faults() - before;
        // 640 pages, once more at most; 12,800 where freed memory is given back.
        assert!(faults < 1_280, "{faults} page faults");
    }
}
