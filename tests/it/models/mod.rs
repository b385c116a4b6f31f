//! Model checking: every interleaving of a few clients, with lost replies, late writes and crashes, explored
//! exhaustively with stateright.
//!
//! There is no second description of the algorithms that could drift from the product: the clients are the product's own
//! `ObjectLedger`, run over modelled objects ([`world`]) that carry out one request at a time, in every order ([`explorer`]).
//! A state is what the objects hold and what each client has seen; a client does the same whenever it has seen the same.
//! After each complete run the result is judged by what was promised ([`judge`]). That the judge can see is shown by
//! mutants ([`mutants`]): products that leave out one step, each of which must be found.

mod explorer;
mod judge;
mod mutants;
mod scenarios;
mod world;

use std::time::Instant;

use mutants::Mutant;
use scenarios::Scenario;

use crate::support::tier;

/// What is explored in every run is explored whole. A soak allows for more that goes wrong, and ends when so many states
/// were reached, each as often as there are ways to it: about an hour's.
const STATES: usize = 4_000_000;

/// Explores one scenario in every order.
fn holds_in_every_order(scenario: Scenario) {
    let (name, begin) = (scenario.name, Instant::now());
    let limit = tier::figure(None, Some(STATES));
    let found = explorer::explore(scenario, None, limit);
    assert_eq!(found.wrong, None, "{}", found.wrong.as_deref().unwrap_or_default());
    let (states, is_whole, seconds) = (found.states, found.is_whole, begin.elapsed().as_secs());
    // The one that is meant to be large; the others are as large as they are.
    if tier::is_soak() && name == "adds by timestamp" {
        assert!(states >= 100_000, "{states} states");
    }
    let model = name.replace(' ', "-");
    tier::summary(&format!(
        "V0 backend=objects model={model} states={states} whole={is_whole} violations=0 seconds={seconds}"
    ));
}

/// One more that goes wrong than in every run, in a soak.
fn more() -> u8 {
    tier::figure(0, 1)
}

macro_rules! every_order {
    ($($scenario:ident($($argument:expr),*)),* $(,)?) => {
        mod every_order {
            use super::{holds_in_every_order, more, scenarios};

            $(#[test]
            fn $scenario() {
                holds_in_every_order(scenarios::$scenario($($argument),*));
            })*
        }
    };
}

every_order! {
    adds_in_sequence(1, more()),
    adds_by_timestamp(more()),
    adds_beside_2015(),
    moves(more(), more()),
    untag_and_tag(more()),
    moves_beside_2015(more(), more()),
    moves_beside_deletion(),
    removal_and_move(more(), more()),
    removal_and_first_tag(more(), more()),
    removal_and_add(more()),
}

#[test]
#[ignore = "soak: too many states for every run"]
fn two_removals_and_moves() {
    holds_in_every_order(scenarios::two_removals_and_moves());
}

#[test]
fn every_mutant_is_found() {
    for mutant in mutants::ALL {
        let scenarios = match mutant {
            Mutant::VersionWithoutCondition => vec![scenarios::adds_in_sequence(0, 0)],
            Mutant::EventNotArchived | Mutant::ArchiveWithoutCondition => {
                vec![scenarios::moves_beside_2015(0, 0), scenarios::moves_beside_deletion()]
            }
            Mutant::AddIdIgnored => vec![scenarios::adds_in_sequence(1, 0)],
            Mutant::DeletedInsteadOfTombstone => vec![scenarios::removal_and_add(0)],
            Mutant::TombstoneWithoutCondition | Mutant::NotFenced | Mutant::NotMarked => vec![
                scenarios::removal_and_move(0, 0),
                scenarios::removal_and_first_tag(0, 0),
                scenarios::two_removals_and_moves(),
            ],
            Mutant::PointerWithoutCondition | Mutant::StaleReads => {
                vec![scenarios::untag_and_tag(0), scenarios::moves(0, 0)]
            }
        };
        let found =
            scenarios.into_iter().find_map(|scenario| explorer::explore(scenario, Some(mutant), None).wrong);
        let found = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: {found}\n");
    }
}
