//! How backends are opened: what every ledger and store needs to know besides its URI.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::environment::Environment;

/// Settings for opening ledgers and stores. Resolved once per process.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Time for records and deadlines.
    pub clock: Arc<dyn Clock>,
    /// Adds versions although this machine's clock is plainly wrong, where versions are times
    /// ([`crate::server_clock::REFUSED_SKEW`]). They are numbered by the server's clock all the same.
    pub allow_skew: bool,
    /// The longest that one operation may take with all its retries, before it gives up as `Unavailable`.
    /// Transfers of blobs count it per request, not per blob.
    pub deadline: Duration,
    /// Whether credentials may come from the instance metadata service. Off by default in pods: behind a hop limit of 1
    /// it costs seconds of dead time.
    pub instance_metadata: bool,
    /// Where the standard AWS settings (credentials, region, profile) are read from.
    pub environment: Environment,
    /// What the AWS clients opened with these settings share.
    #[cfg(feature = "aws")]
    pub session: crate::aws::Session,
}

impl Connect {
    /// The deadline where nobody asks for another: long enough for a fail-over, short enough for a person.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            allow_skew: false,
            deadline: Self::DEFAULT_DEADLINE,
            instance_metadata: true,
            environment: Environment::of_process(),
            #[cfg(feature = "aws")]
            session: crate::aws::Session::default(),
        }
    }
}
