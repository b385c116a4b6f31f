//! Integration tests: one binary, linked once, a module per area. They run against the real servers of the test bed.

#![expect(clippy::panic, reason = "a helper that fails ends its test, which is what it is for")]
#![expect(clippy::disallowed_methods, reason = "tests start servers and run the programs as processes")]

mod chart;
mod cli;
mod costs;
mod crashes;
mod crds;
mod credentials;
mod dump;
mod dynamo;
mod evidence;
mod faultgate;
mod fetch;
mod histories;
mod images;
mod init;
mod ledgers;
mod legacy;
mod many;
mod models;
mod objects;
mod operator;
mod pods;
mod probe;
mod secrets;
mod skew;
mod stores;
mod supply_chain;
mod support;
mod threats;
mod tls;
mod transcripts;
mod upkeep;
mod write_only;
mod zookeeper;
