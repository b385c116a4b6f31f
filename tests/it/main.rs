//! Integration tests: one binary, a module per area. They run against the real servers of the test bed.

mod cli;
mod fetch;
mod ledgers;
mod support;
