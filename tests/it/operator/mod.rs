//! The operator as users meet it: its binary, kubectl, a real API server, and the ledger read through the library.
//!
//! One operator serves most tests, each with a namespace and a ledger of its own, as in production. Tests that end or
//! restart an operator have a control plane of their own.

mod access;
mod api_faults;
pub(crate) mod bench;
mod blackhole;
mod canaries;
mod chain;
mod chain_clocks;
mod chaos;
mod clusters;
mod crash;
mod crash_points;
mod crowd;
mod deletion;
mod drift;
mod frozen;
mod hold;
mod hostile;
mod kubectl;
mod kubectl_refusals;
mod leader;
mod lease_race;
mod names;
mod packages;
mod policies;
pub(crate) mod process;
mod promotion;
mod quiet;
mod rates;
mod refusals;
mod restart;
mod rivals;
mod rollout;
mod samples;
mod scale;
mod startup;
mod upgrade;
mod waiting;
