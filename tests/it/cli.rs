//! `sacker` as a process: every verb, every form of its answer, every exit code, in a home of its own.

mod answers;
mod backends;
mod dump;
mod failures;
mod help;
mod home;
mod past;
mod promotion;
mod transfers;
mod verify;
