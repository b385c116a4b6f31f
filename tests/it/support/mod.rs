//! What the integration tests share: real servers, and settings that reach them.

#![allow(dead_code, reason = "each area uses its part")]

pub(crate) mod canned;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod faultgate;
pub(crate) mod git_http;
pub(crate) mod ledgers;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod terminal;
pub(crate) mod testbed;
pub(crate) mod tier;

use std::time::Duration;

use sacker::connect::Connect;
use sacker::environment::Environment;

/// An environment of exactly these variables.
pub(crate) fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Settings with these AWS keys and nothing of this machine: no profile, no instance metadata.
pub(crate) fn connect(access_key: &str, secret_key: &str) -> Connect {
    Connect {
        environment: environment(&[("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", secret_key)]),
        instance_metadata: false,
        ..Connect::default()
    }
}

/// A name that no other test uses: lower-case letters and digits, so that it can be a bucket or a table.
pub(crate) fn unique(stem: &str) -> String {
    format!("{stem}-{}", uuid::Uuid::new_v4().simple())
}

/// Polls `condition` until it holds; fails the test with `what` after `limit`.
pub(crate) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, limit: Duration, mut condition: F) {
    let end = std::time::Instant::now() + limit;
    loop {
        let look = std::time::Instant::now();
        if condition().await {
            return;
        }
        assert!(std::time::Instant::now() < end, "after {limit:?} still not: {what}");
        // A look at thousands of objects takes its time; most of the machine is for what is looked at.
        tokio::time::sleep((look.elapsed() * 4).clamp(Duration::from_millis(20), Duration::from_secs(5)))
            .await;
    }
}
