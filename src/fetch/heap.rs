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
