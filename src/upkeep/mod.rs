//! Upkeep: what goes away, and when. Policy and deletion are apart: [`prune`] decides which versions are no longer wanted
//! and removes them from the ledger; [`gc`] deletes the blobs that no version refers to, and decides nothing.
//!
//! Each is a pure plan and a driver that carries it out.

pub mod gc;

pub mod prune;
