//! The operator: watches, controllers and what they share.

pub mod lease;
