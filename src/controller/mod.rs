//! The operator: watches, controllers and what they share.

pub mod backoff;
mod caches;
pub mod cluster;
mod command;
pub mod context;
mod crds;
mod driver;
mod duration;
pub mod error;
pub mod events;
pub mod guarded;
pub mod http;
pub mod index;
pub mod lease;
pub mod ledger;
pub mod metrics;
pub mod operator;
pub mod poll;
pub mod pool;
pub mod queue;
mod resolver;
mod rollout;
mod route;
pub mod shutdown;
mod sights;
pub mod status;
mod tag;
pub mod views;
pub mod watch;

pub use command::main;
pub use crds::crd_files;

/// Passes of one controller at a time. Twice the turns at one ledger ([`pool`]), so that a ledger that hangs cannot take
/// them all; enough for a thousand objects to settle within seconds when each pass is a few reads of 10 ms.
pub const CONCURRENCY: u16 = 16;

/// How often to look again for what no watch and no poll shows: a mended credential, a repaired record.
const SLOW: std::time::Duration = std::time::Duration::from_mins(5);
