//! What the areas share: ledgers to test on, servers of the test bed, temporary homes.

pub(crate) mod ledgers;
