//! `sacker` as a process: every verb, every form of its answer, every exit code, in a home of its own.

mod answers;
mod backends;
mod failures;
mod help;
mod home;
mod killed;
mod promotion;
mod transfers;
mod upkeep;
