//! Clients and servers that die: at every step of input and output (`src/crash_point.rs`), and at random times by
//! `kill -9`. After each death the oracle of [`story`] compares what was acknowledged with what is there, and the same
//! request must succeed when it is made again.

mod points;
mod site;
mod story;
