//! The integration tests: one binary, linked once, one module per area.

#![expect(clippy::panic, reason = "a helper that fails ends its test, which is what it is for")]

mod stores;
mod support;
