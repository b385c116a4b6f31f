//! Buffers for what the kernel copies out of its page cache: they begin at a page, as that does.
//!
//! On AMD's Zen 3 processors `rep movsb`, by which Linux copies, takes four times as long where the destination lies 1 to 31
//! bytes further into its page than the source does into its own. That is where memory of 128 KiB or more from the C library
//! lies, since 16 bytes of its own come first. (Measured: 1 GiB in 0.14 s from a page on, in 0.5 to 0.7 s from those bytes on.)

use std::io::{self, ErrorKind, Read};

use bytes::Bytes;

/// Bytes of a page; a multiple of it is as good where pages are larger.
const PAGE: usize = 4096;

/// A buffer that is used again and again.
#[derive(Debug)]
pub(crate) struct PageBuffer {
    memory: Vec<u8>,
    begin: usize,
}

impl PageBuffer {
    /// A buffer of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let memory = vec![0; size + PAGE];
        let begin = to_a_page(&memory);
        Self { memory, begin }
    }

    /// Its first `length` bytes, which is no more than its size.
    pub(crate) fn first(&mut self, length: usize) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + length]
    }

    /// What one read brings, as many bytes as there is room for at most; none at the end.
    ///
    /// # Errors
    /// The reader's own.
    pub(crate) fn read(&mut self, from: &mut impl Read) -> io::Result<&[u8]> {
        let size = self.memory.len() - PAGE;
        let buffer = self.first(size);
        loop {
            match from.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return Ok(&buffer[..read?]),
            }
        }
    }
}

/// The next `most` bytes of a reader, in memory of their own; fewer only at its end.
///
/// # Errors
/// The reader's own.
pub(crate) fn read_bytes(from: impl Read, most: usize) -> io::Result<Bytes> {
    let mut memory = Vec::with_capacity(most + PAGE);
    let begin = to_a_page(&memory);
    memory.resize(begin, 0);
    from.take(most as u64).read_to_end(&mut memory)?;
    Ok(Bytes::from(memory).slice(begin..))
}

/// How many bytes of some memory come before a page begins.
fn to_a_page(memory: &[u8]) -> usize {
    // Where that cannot be told, it does not matter much.
    memory.as_ptr().align_offset(PAGE).min(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_a_page_and_have_their_size() {
        for size in [1, 1_000, PAGE, 256 << 10, 16 << 20] {
            let source = vec![7; size + 1];
            let mut buffer = PageBuffer::new(size);
            assert_eq!(buffer.first(size).as_ptr().align_offset(PAGE), 0, "{size}");
            let mut rest = &source[..];
            assert_eq!(buffer.read(&mut rest).expect("read"), &source[..size]);
            assert_eq!(buffer.read(&mut rest).expect("read"), [7], "from the beginning again");
            assert_eq!(buffer.read(&mut rest).expect("read"), b"", "the end");

            let bytes = read_bytes(&source[..], size).expect("read");
            assert_eq!((bytes.as_ptr().align_offset(PAGE), &bytes[..]), (0, &source[..size]));
            assert_eq!(read_bytes(&source[..], size + 9).expect("read"), source);
        }
    }
}
