//! The operator: watches, controllers and what they share.

pub mod backoff;
pub mod cluster;
pub mod context;
mod crds;
mod driver;
mod duration;
pub mod error;
pub mod events;
pub mod http;
pub mod index;
pub mod lease;
pub mod metrics;
pub mod poll;
pub mod pool;
pub mod queue;
mod route;
pub mod shutdown;
pub mod status;
mod tag;
pub mod views;
pub mod watch;

pub use crds::crd_files;

/// Passes of one controller at a time. Twice the turns at one ledger ([`pool`]), so that a ledger that hangs cannot take
/// them all; enough for a thousand objects to settle within seconds when each pass is a few reads of 10 ms.
pub const CONCURRENCY: u16 = 16;
