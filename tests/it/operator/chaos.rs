//! What an outage costs: how many requests the operator makes while something fails and afterwards, beside those of the
//! same time in which nothing does. Both the API server and the ledger are behind gates, whose logs are counted.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sacker::model::Version;

use super::bench::{Bench, say};
use super::process::Operator;
use super::scale::{Scene, package, within};
use crate::support::cluster::Cluster;
use crate::support::faultgate::{Action, Gate, Match, Refusal, Rule};
use crate::support::{eventually, testbed, tier, unique};

/// How long everything may take to be as it was after a fault.
const STABLE: Duration = Duration::from_mins(1);

/// How many times the requests of a quiet window an outage may cost.
const FLOOR: usize = 2;

/// Requests to the API server and to the ledger.
#[derive(Debug, Clone, Copy)]
struct Calls {
    api: usize,
    ledger: usize,
}

/// Makes something fail.
type Fault = fn(&Site<'_>);

struct Site<'a> {
    scene: Scene<'a>,
    operator: Operator,
    api: Gate,
    ledger: Gate,
}

impl Site<'_> {
    fn take(&self) -> Calls {
        Calls { api: self.api.take_log().len(), ledger: self.ledger.take_log().len() }
    }

    /// What is asked in a window, in whose first half `fault` lasts.
    async fn window(&self, length: Duration, fault: impl FnOnce(&Self)) -> (Calls, Duration) {
        let start = Instant::now();
        self.take();
        fault(self);
        // Windows of time are what is measured.
        tokio::time::sleep((length / 2).saturating_sub(start.elapsed())).await;
        self.api.set_rules(Vec::new());
        self.ledger.set_rules(Vec::new());
        let over = Instant::now();
        self.scene.until_ready(STABLE).await;
        let stable = over.elapsed();
        tokio::time::sleep(length.saturating_sub(start.elapsed())).await;
        (self.take(), stable)
    }
}

fn everything(refusal: Refusal) -> Vec<Rule> {
    vec![Rule::new(Match::default(), Action::Status(refusal))]
}

/// The row op-chaos.
#[tokio::test]
#[ignore = "benchmark: make bench"]
async fn an_outage_costs_few_requests_and_moves_no_tag() {
    let Some(server) = testbed::dynamodb() else { return };
    let Some(cluster) = Cluster::start() else { return };
    cluster.install_crds();
    let (api, ledger) = (cluster.gate(0), Gate::start(&server.endpoint, 0));
    let name = unique("ledger");
    // Ours go past the gates: their logs are the operator's.
    let bench = Bench::with(&cluster, None, server.uri(&name), &server.connect(), None).await;
    let seen = server.behind(&ledger).uri(&name);
    let poll = Duration::from_secs(5);
    let yaml = bench.ledger_yaml().replace(&bench.uri, &seen);
    cluster.apply(&yaml.replace("pollInterval: 1s", &format!("pollInterval: {}s", poll.as_secs())));
    let scene = Scene { bench, packages: tier::figure(50, 500) };
    scene.make().await;
    let operator = Operator::start_through(&cluster, &api, &["--lease-duration", "15s"]);
    scene.until_ready(Duration::from_mins(5)).await;
    let site = Site { scene, operator, api, ledger };
    // Until the polls are as slow as they get.
    let polls = site.operator.metric("sacker_polls_total") + 6;
    eventually("quiet", poll * 40, async || site.operator.metric("sacker_polls_total") >= polls).await;

    let length = tier::figure(Duration::from_mins(1), Duration::from_mins(2));
    let (quiet, _) = site.window(length, |_| ()).await;
    let faults: [(&str, Fault); 5] = [
        ("throttled", |site| site.ledger.set_rules(everything(Refusal::Throttling))),
        ("failing", |site| site.ledger.set_rules(everything(Refusal::Internal))),
        ("410", |site| {
            let watches = Rule::new(Match::target("watch"), Action::Status(Refusal::Gone));
            site.api.set_rules(vec![watches]);
            site.api.silence();
        }),
        ("429", |site| {
            // All but its lease: a leader that cannot renew it ends.
            let ours = Match::path("/apis/sacker.dev/**");
            site.api.set_rules(vec![Rule::new(ours, Action::Status(Refusal::TooManyRequests))]);
        }),
        ("restart", |site| site.scene.bench.cluster.restart_api_server()),
    ];
    let mut figures = format!("quiet={}+{}", quiet.api, quiet.ledger);
    let mut worst = Calls { api: 0, ledger: 0 };
    for (name, fault) in &faults {
        let (calls, stable) = site.window(length, *fault).await;
        say(&format!("{name}: {calls:?}, Ready {stable:.1?} after it, in a quiet window {quiet:?}"));
        let _ = write!(figures, " {name}={}+{},{stable:.1?}", calls.api, calls.ledger);
        worst = Calls { api: worst.api.max(calls.api), ledger: worst.ledger.max(calls.ledger) };
    }
    for index in 0..site.scene.packages {
        for tag in site.scene.bench.ledger.tags(&package(index)).await.expect("read") {
            assert_eq!(tag.version, Version::new(1), "{} moved", tag.tag);
        }
    }
    tier::summary(&format!("op-chaos objects={} window={length:?} {figures}", site.scene.count()));
    // Beside them each status says once that the ledger is away, and once that it is back.
    within("requests to the API server", worst.api, quiet.api * FLOOR + 2 * site.scene.count());
    within("requests to the ledger", worst.ledger, quiet.ledger * FLOOR);
}
