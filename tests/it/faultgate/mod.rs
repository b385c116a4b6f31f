//! The fault proxy itself: that it is transparent, that it is seeded, and that each fault is what it says.

mod actions;
mod admin;
mod backend;
mod rules;
mod servers;
mod tcp;
mod transparency;
mod watches;
