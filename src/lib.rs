//! sacker: a cloud blob manager for Kubernetes.
//!
//! A *ledger* maps package names, versions and tags to digests; a *store* holds the blobs by sha256. Three binaries
//! are built from this library: `sacker` (the admin command line), `sacker-operator` (the controllers) and
//! `sacker-init` (the init container). Dependence runs one way; `docs/architecture.md` draws it:
//!
//! ```text
//! model <- ledger, store <- fetch, publish, upkeep, dump, verify <- cli
//! model <- api <- controller
//! ```

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(feature = "cli")]
pub mod config;
pub mod connect;
#[cfg(feature = "operator")]
pub mod controller;
pub mod core_dumps;
#[doc(hidden)]
pub mod crash_point;
#[cfg(feature = "cli")]
pub mod dump;
pub mod environment;
pub mod error;
pub mod exit;
pub mod fetch;
mod files;
#[cfg(feature = "fuzz")]
pub mod fuzz;
#[cfg(feature = "init")]
pub mod init;
#[cfg(feature = "cli")]
pub mod inspection;
pub mod ledger;
pub mod model;
mod names;
mod page_buffer;
#[cfg(feature = "cli")]
pub mod publish;
pub mod retry;
pub mod server_clock;
pub mod store;
pub mod telemetry;
pub mod upkeep;
#[cfg(feature = "cli")]
pub mod verify;
