//! The operator: watches, controllers and what they share.

pub mod backoff;
mod crds;
pub mod error;
pub mod http;
pub mod index;
pub mod lease;
pub mod pool;
pub mod queue;
pub mod shutdown;
pub mod views;
pub mod watch;

pub use crds::crd_files;
