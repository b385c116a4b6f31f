//! The operator: watches, controllers and what they share.

pub mod http;
pub mod lease;
pub mod shutdown;
