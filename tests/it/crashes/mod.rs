//! Clients and servers that die: at every step of input and output (`src/crash_point.rs`), and at random times by
//! `kill -9`. After each death the oracle of [`story`] compares what was acknowledged with what is there, and the same
//! request must succeed when it is made again.

mod clients;
mod doctored;
mod forgetting;
mod points;
mod power;
mod servers;
mod site;
mod story;
