//! The leader lease: of several replicas, one acts. It saves doubled work; safety is the ledger's compare-and-swap.
//!
//! [`decide`] is pure. Whether a lease ran out is counted from when *we* last saw it change, on a monotonic clock: the
//! holder's `renewTime` is for people, since clocks of machines differ. Every write is a replace that carries the
//! `resourceVersion` it read. A leader that cannot renew stops acting before anybody else may start, even while the API
//! server is out of reach, and its process exits: a restart is the only way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::crash_point::around;

/// How long a lease lasts and how it is kept. The defaults are those of Kubernetes' own components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long after its last change a lease may be taken from its holder.
    pub duration: Duration,
    /// How long after its last renewal a leader stops acting. Less than `duration`, so that two never act at once.
    pub renew_deadline: Duration,
    /// How often a leader renews, and a follower looks; jittered.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self::from_duration(Duration::from_secs(15))
    }
}

impl Timing {
    /// The usual proportions for another lease duration: 15 s give 10 s and 2 s.
    pub fn from_duration(duration: Duration) -> Self {
        Self { duration, renew_deadline: duration * 2 / 3, retry: duration * 2 / 15 }
    }
}

/// Says whether this process may act right now. Cheap; asked before every write.
#[derive(Debug, Clone)]
pub struct Guard {
    clock: Arc<dyn Clock>,
    /// Milliseconds of the monotonic clock until which leadership is certain; 0 for none.
    until: Arc<AtomicU64>,
    leading: watch::Sender<bool>,
}

impl Guard {
    /// A guard of a process that does not lead yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, until: Arc::new(AtomicU64::new(0)), leading: watch::Sender::new(false) }
    }

    /// A guard that always allows: leader election is switched off.
    pub fn always(clock: Arc<dyn Clock>) -> Self {
        let guard = Self::new(clock);
        guard.until.store(u64::MAX, Ordering::Release);
        guard.leading.send_replace(true);
        guard
    }

    /// Whether this process may act.
    pub fn allows(&self) -> bool {
        milliseconds(self.clock.monotonic()) < self.until.load(Ordering::Acquire)
    }

    /// Waits until this process leads for the first time.
    pub async fn acquired(&self) {
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = self.leading.subscribe().wait_for(|leading| *leading).await;
    }

    fn extend(&self, until: Duration) {
        self.until.store(milliseconds(until), Ordering::Release);
        self.leading.send_replace(true);
    }

    fn withdraw(&self) {
        self.until.store(0, Ordering::Release);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The lease as it was read, and when (monotonic) this process first saw it like that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Who holds it; nothing for a released lease.
    pub holder: Option<String>,
    /// What the holder promised.
    pub duration: Duration,
    /// Changes with every write.
    pub resource_version: Option<String>,
    /// When this process first saw this `resource_version`.
    pub since: Duration,
}

/// What to do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take it: nobody holds it, or it ran out.
    Acquire,
    /// It is ours: renew it.
    Renew,
    /// Somebody else's until then, by our monotonic clock.
    Follow {
        /// When it runs out if nobody renews it.
        until: Duration,
    },
}

/// Decides about the lease as it was read. A process finds its own name on a lease after a restart, and goes on.
pub fn decide(observed: Option<&Observed>, me: &str, now: Duration) -> Step {
    match observed {
        None | Some(Observed { holder: None, .. }) => Step::Acquire,
        Some(Observed { holder: Some(holder), .. }) if holder == me => Step::Renew,
        Some(observed) => {
            let until = observed.since.saturating_add(observed.duration);
            if now >= until { Step::Acquire } else { Step::Follow { until } }
        }
    }
}

/// Why a leader stopped leading.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else holds the lease.
    #[error("the lease now belongs to '{0}'")]
    Taken(String),
    /// The lease could not be renewed in time.
    #[error("the lease could not be renewed within {0:?}")]
    NotRenewed(Duration),
}

/// Takes part in the election for one lease.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
    clock: Arc<dyn Clock>,
    guard: Guard,
    observed: Option<Observed>,
    current: Option<Lease>,
    /// When the last successful write began; nothing while following.
    renewed: Option<Duration>,
}

impl Elector {
    /// An elector for the lease `name`, as `identity` (unique per process, the same after its restart).
    pub fn new(
        leases: Api<Lease>,
        name: impl Into<String>,
        identity: impl Into<String>,
        timing: Timing,
        guard: Guard,
    ) -> Self {
        let clock = guard.clock.clone();
        Self {
            leases,
            name: name.into(),
            identity: identity.into(),
            timing,
            clock,
            guard,
            observed: None,
            current: None,
            renewed: None,
        }
    }

    /// Follows, acquires and renews until leadership is lost. Cancel it to stop renewing, then [`Elector::release`].
    pub async fn run(&mut self) -> Lost {
        loop {
            // One request must not outlast the time in which its outcome matters.
            let limit = self.timing.retry.max(Duration::from_millis(500)) * 2;
            match tokio::time::timeout(limit, self.turn()).await {
                Ok(Ok(Some(lost))) => {
                    self.guard.withdraw();
                    return lost;
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(%error, lease = %self.name, "the lease was not reached"),
                Err(_) => tracing::warn!(lease = %self.name, "no answer about the lease within {limit:?}"),
            }
            if let Some(renewed) = self.renewed
                && self.clock.monotonic() >= renewed + self.timing.renew_deadline
            {
                self.guard.withdraw();
                return Lost::NotRenewed(self.timing.renew_deadline);
            }
            // 80 to 120 %, so that standbys that started together do not ask together.
            tokio::time::sleep(self.timing.retry.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        }
    }

    /// Gives the lease up, so that a standby need not wait for it to run out. Best effort.
    pub async fn release(mut self) {
        self.guard.withdraw();
        if self.renewed.is_none() || self.observe().await.is_err() {
            return;
        }
        if let Some(mut lease) = self.current.take()
            && self.observed.as_ref().is_some_and(|observed| observed.holder.as_ref() == Some(&self.identity))
        {
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(self.clock.now()));
            let parameters = PostParams::default();
            let released = self.leases.replace(&self.name, &parameters, &lease);
            if let Err(error) = around("operator.lease.release", released).await {
                tracing::debug!(%error, "the lease was not released; it runs out by itself");
            }
        }
    }

    /// One read, one decision, at most one write. Returns why leadership ended, if it did.
    async fn turn(&mut self) -> kube::Result<Option<Lost>> {
        self.observe().await?;
        let now = self.clock.monotonic();
        let step = decide(self.observed.as_ref(), &self.identity, now);
        match (step, self.renewed) {
            (Step::Follow { .. } | Step::Acquire, Some(_)) => {
                let holder = self.observed.as_ref().and_then(|observed| observed.holder.clone());
                return Ok(Some(Lost::Taken(holder.unwrap_or_else(|| "nobody".to_owned()))));
            }
            (Step::Follow { until }, None) => {
                tracing::debug!(left = ?until.saturating_sub(now), "following");
                return Ok(None);
            }
            (Step::Acquire | Step::Renew, _) => {}
        }
        let first = self.renewed.is_none();
        // Counted from before the request: the server's view of the lease cannot be older than that.
        let (parameters, lease) = (PostParams::default(), self.lease(step));
        let written = if self.current.is_none() {
            around("operator.lease.create", self.leases.create(&parameters, &lease)).await
        } else {
            let replaced = self.leases.replace(&self.name, &parameters, &lease);
            around("operator.lease.renew", replaced).await
        };
        match written {
            Ok(lease) => {
                self.see(lease);
                self.renewed = Some(now);
                self.guard.extend(now + self.timing.renew_deadline);
                if first {
                    tracing::info!(identity = %self.identity, lease = %self.name, "leading");
                }
                Ok(None)
            }
            // Somebody else was faster: read again on the next turn.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn observe(&mut self) -> kube::Result<()> {
        if let Some(lease) = self.leases.get_opt(&self.name).await? {
            self.see(lease);
        } else {
            (self.observed, self.current) = (None, None);
        }
        Ok(())
    }

    fn see(&mut self, lease: Lease) {
        let version = lease.metadata.resource_version.clone();
        let spec = lease.spec.clone().unwrap_or_default();
        let unchanged = self.observed.as_ref().filter(|observed| observed.resource_version == version);
        let since = unchanged.map_or_else(|| self.clock.monotonic(), |observed| observed.since);
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or(0);
        self.observed = Some(Observed {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            // A lease without a duration is judged by ours.
            duration: if seconds == 0 { self.timing.duration } else { Duration::from_secs(seconds) },
            resource_version: version,
            since,
        });
        self.current = Some(lease);
    }

    /// The lease with us as its holder.
    fn lease(&self, step: Step) -> Lease {
        let now = MicroTime(self.now());
        let mut lease = self.current.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec: &mut LeaseSpec = lease.spec.get_or_insert_default();
        if step == Step::Acquire {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        // Whole seconds in the API; never rounded down to a lease that others may take too early.
        let whole = self.timing.duration.as_secs() + u64::from(self.timing.duration.subsec_nanos() > 0);
        spec.lease_duration_seconds = i32::try_from(whole).ok();
        spec.renew_time = Some(now);
        lease
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(holder: Option<&str>, since: u64) -> Observed {
        Observed {
            holder: holder.map(str::to_owned),
            duration: Duration::from_secs(15),
            resource_version: Some("7".into()),
            since: Duration::from_secs(since),
        }
    }

    #[test]
    fn every_situation_has_its_step() {
        let now = Duration::from_secs(100);
        for (situation, expected) in [
            (None, Step::Acquire),
            (Some(observed(None, 100)), Step::Acquire),
            (Some(observed(Some("me"), 0)), Step::Renew),
            (Some(observed(Some("other"), 100)), Step::Follow { until: Duration::from_secs(115) }),
            (Some(observed(Some("other"), 86)), Step::Follow { until: Duration::from_secs(101) }),
            (Some(observed(Some("other"), 85)), Step::Acquire),
            (Some(observed(Some("other"), 0)), Step::Acquire),
        ] {
            assert_eq!(decide(situation.as_ref(), "me", now), expected, "{situation:?}");
        }
    }

    #[test]
    fn a_leader_stops_before_anybody_else_may_start() {
        let timing = Timing::default();
        assert!(timing.renew_deadline + timing.retry < timing.duration);
        assert_eq!(timing.renew_deadline, Duration::from_secs(10));
        assert_eq!(timing.retry, Duration::from_secs(2));
    }

    #[test]
    fn a_guard_allows_only_while_it_is_certain() {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let guard = Guard::new(clock.clone());
        assert!(!guard.allows());
        guard.extend(clock.monotonic() + Duration::from_mins(1));
        assert!(guard.allows());
        guard.extend(clock.monotonic());
        assert!(!guard.allows());
        guard.extend(clock.monotonic() + Duration::from_mins(1));
        guard.withdraw();
        assert!(!guard.allows());
        assert!(Guard::always(clock).allows());
    }
}
