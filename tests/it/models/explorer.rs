//! Explores every order in which the requests of a scenario's clients can happen.
//!
//! A state is reached by replaying its choices from the start through the product's code. Two states are the same when
//! the objects are, and when each client has seen the same: from there on nothing can differ.

use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::task::noop_waker_ref;
use stateright::{Checker as _, Model, Property};

use super::judge;
use super::mutants::Mutant;
use super::scenarios::{self, Record, Scenario};
use super::world::{Fate, ModelObjects, Shared};

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// This request of this client, of those it waits for.
    Grant(usize, usize),
    /// The same, and its reply is lost.
    Lose(usize, usize, Fate),
    /// A write whose reply was lost arrives.
    Deliver(usize),
    Crash(usize),
}

/// A state: how it was reached, what can happen next, and what is wrong with it.
#[derive(Debug, Clone)]
pub(super) struct State {
    choices: Vec<Choice>,
    identity: (u64, usize, usize),
    enabled: Vec<Choice>,
    /// What each request is, for reading a counterexample.
    story: Vec<String>,
    wrong: Option<String>,
    ended: bool,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

/// A scenario under exploration.
pub(super) struct Exploration {
    scenario: Scenario,
    mutant: Option<Mutant>,
    start: Shared,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets a future run until it waits.
fn poll(future: &mut Option<Running>) {
    if let Some(running) = future
        && let Poll::Ready(()) = running.as_mut().poll(&mut Context::from_waker(noop_waker_ref()))
    {
        *future = None;
    }
}

/// Runs what never waits.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(noop_waker_ref())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a direct request waits"),
    }
}

impl Exploration {
    pub(super) fn new(scenario: Scenario, mutant: Option<Mutant>) -> Self {
        let start = Shared::new(1, None);
        let objects = || ModelObjects {
            world: start.clone(),
            client: 0,
            numbering: scenario.numbering,
            may_read: true,
            direct: true,
        };
        for (place, step) in scenario.before.iter().enumerate() {
            // Each earlier than the one after it, and all earlier than the clients.
            let skew = -1_000_000 + i64::try_from(place).expect("few steps") * 1000;
            let id = format!("before-{place}");
            let ledger = scenarios::ledger(objects(), skew);
            let outcome = at_once(scenarios::perform(&ledger, &objects(), *step, id, skew));
            let refused = matches!(outcome, scenarios::Outcome::Refused(_) | scenarios::Outcome::Open);
            assert!(!refused, "{}: {step:?} before: {outcome:?}", scenario.name);
        }
        Self { scenario, mutant, start }
    }

    fn replay(&self, choices: Vec<Choice>) -> State {
        let count = self.scenario.clients.len();
        let world = self.start.fresh(count, self.mutant);
        let records: Arc<Mutex<Vec<Record>>> = Arc::default();
        let start = |(number, client): (usize, &scenarios::Client)| -> Option<Running> {
            let numbering = self.scenario.numbering;
            let script = scenarios::script(client.clone(), number, world.clone(), numbering, records.clone());
            Some(Box::pin(script))
        };
        let mut clients: Vec<Option<Running>> = self.scenario.clients.iter().enumerate().map(start).collect();
        clients.iter_mut().for_each(poll);
        let (mut losses, mut crashes) = (0, 0);
        let mut story = Vec::new();
        for choice in &choices {
            let waiting = |client: usize, which: usize| {
                let world = world.lock();
                let of_client = |(_, pending): &(usize, &super::world::Pending)| pending.client == client;
                world.pending.iter().enumerate().filter(of_client).nth(which).map(|(index, _)| index)
            };
            match *choice {
                Choice::Grant(client, which) | Choice::Lose(client, which, _) => {
                    let index = waiting(client, which).expect("a replay meets the same requests");
                    let mut world = world.lock();
                    if let Choice::Lose(_, _, fate) = *choice {
                        losses += 1;
                        world.lose(index, fate);
                    } else {
                        world.grant(index);
                    }
                }
                Choice::Deliver(index) => world.lock().deliver(index),
                Choice::Crash(client) => {
                    crashes += 1;
                    clients[client] = None;
                    world.lock().crash(client);
                }
            }
            clients.iter_mut().for_each(poll);
        }
        let ended = clients.iter().all(Option::is_none);
        let records = records.lock().expect("no client panics with it").clone();
        let wrong = if ended { judge::judge(&self.scenario, &world, &records).err() } else { None };
        if wrong.is_some() {
            story = records.iter().map(|record| format!("{record:?}")).collect();
        }
        let world = world.lock();
        let mut enabled = Vec::new();
        let mut positions = vec![0; count];
        for pending in &world.pending {
            let (client, which) = (pending.client, positions[pending.client]);
            positions[client] += 1;
            enabled.push(Choice::Grant(client, which));
            let is_ours = !matches!(
                self.scenario.clients[client].steps.first(),
                Some(
                    scenarios::Step::LegacyAdd | scenarios::Step::LegacyTag(_) | scenarios::Step::LegacyUntag
                )
            );
            if losses < usize::from(self.scenario.losses) && pending.request.writes() && is_ours {
                enabled.extend(
                    [Fate::Now, Fate::Later, Fate::Never].map(|fate| Choice::Lose(client, which, fate)),
                );
            }
        }
        for (client, waits) in positions.iter().enumerate() {
            if crashes < usize::from(self.scenario.crashes) && *waits > 0 {
                enabled.push(Choice::Crash(client));
            }
        }
        enabled.extend((0..world.late_count()).map(Choice::Deliver));
        let identity = (world.fingerprint(), losses, crashes);
        drop(world);
        State { choices, identity, enabled, story, wrong, ended }
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Choice;

    fn init_states(&self) -> Vec<State> {
        vec![self.replay(Vec::new())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Choice>) {
        // What is wrong once is not explored further.
        if state.wrong.is_none() {
            actions.extend(&state.enabled);
        }
    }

    fn next_state(&self, last: &State, choice: Choice) -> Option<State> {
        let mut choices = last.choices.clone();
        choices.push(choice);
        Some(self.replay(choices))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("every promise holds", |_, state: &State| state.wrong.is_none()),
            Property::sometimes("every client comes to its end", |_, state: &State| state.ended),
        ]
    }
}

/// What an exploration found.
pub(super) struct Found {
    /// Different ones.
    pub(super) states: usize,
    /// Whether there are no others.
    pub(super) is_whole: bool,
    /// The broken promise, with the way to it.
    pub(super) wrong: Option<String>,
}

/// Explores a scenario to its end, to the first broken promise, or until `limit` states were reached, each as
/// often as there are ways to it.
pub(super) fn explore(scenario: Scenario, mutant: Option<Mutant>, limit: Option<usize>) -> Found {
    let name = scenario.name;
    let checker = Exploration::new(scenario, mutant).checker().threads(2);
    let checker = match limit {
        Some(limit) => checker.target_state_count(limit),
        None => checker,
    };
    let checker = checker.spawn_bfs().join();
    let states = checker.unique_state_count();
    let is_whole = limit.is_none_or(|limit| checker.state_count() < limit);
    let wrong = checker.discovery("every promise holds").map(|path| {
        let last = path.last_state();
        let why = last.wrong.as_deref().unwrap_or("?");
        format!("{name}: {why}\n  by {:?}\n  {}", last.choices, last.story.join("\n  "))
    });
    if wrong.is_none() && is_whole {
        let ended = checker.discovery("every client comes to its end").is_some();
        assert!(ended, "{name}: no run comes to its end");
    }
    Found { states, is_whole, wrong }
}
