//! The chart `charts/sacker`, by the helm that users run: what it renders, whether a real API server takes it, which rights it
//! gives, and how it is installed, upgraded and removed.

mod copies;
mod helm;
mod install;
mod lifecycle;
mod network;
mod observed;
mod rendered;
mod rights;
mod scope;
