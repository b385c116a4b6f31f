//! The controllers.

mod crds;

pub use crds::crd_files;
