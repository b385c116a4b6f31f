//! Integration tests: one binary, linked once, a module per area. They run against the real servers of the test bed.

#![expect(clippy::panic, reason = "a helper that fails ends its test, which is what it is for")]

mod cli;
mod crds;
mod credentials;
mod dynamo;
mod fetch;
mod init;
mod ledgers;
mod models;
mod objects;
mod operator;
mod stores;
mod support;
mod tls;
