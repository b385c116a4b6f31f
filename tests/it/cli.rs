//! `sacker` as a process: every verb, every form of its answer, every exit code, in a home of its own.

mod answers;
mod backends;
mod bars;
mod compare;
mod doctor;
mod dump;
mod failures;
mod git;
mod hdfs;
mod help;
pub(crate) mod home;
mod killed;
mod past;
mod presign;
mod progress;
mod promotion;
mod refusals;
mod release_day;
mod rollback;
mod settings;
mod snippet;
mod transfers;
mod upkeep;
mod verify;
mod zookeeper;
