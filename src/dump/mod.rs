//! Export and import: a ledger as one text file, and back, with the same numbers and the same histories.
//!
//! An export is byte-stable: equal ledgers of any kind give equal files. The last line has the digest of all lines before
//! it, and an import reads the whole file before it writes anything. Not responsible for blobs (copy the store), nor for how
//! a ledger writes what it gets back ([`Ledger::restore_version`](crate::ledger::Ledger::restore_version)).

mod export;
mod import;
mod line;
mod package;
mod read;

pub use export::{Progress, export};
pub use import::{Import, PackagePlan};
pub use line::{LINE_MAX, Line, decode_line, encode_line};
pub use package::PackageDump;
pub use read::{Entry, Reader, Totals};
