//! Garbage collection: deletes blobs that no version refers to, beside writers who know nothing of it.
//!
//! The order is what makes it safe, and the reasoning is in `docs/adr/0009`: the store's time, then the list of blobs, then
//! a full read of every ledger, then a manifest of what is condemned; a period later the same again, and what is still
//! unreferenced and unchanged is deleted. Not responsible for which versions are wanted ([`super::prune`]).

mod manifest;
mod mark;
mod plan;
mod run;

pub use manifest::{Condemned, Manifest, State};
pub use mark::{Roots, mark};
pub use plan::{Decision, Plan, Rules, Situation, Verdict, plan};
pub use run::{Cycle, Outcome, Report, collect};
