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

/// What is explored in every run; a soak allows for more that goes wrong.
fn scenarios() -> Vec<Scenario> {
    let more = tier::figure(0, 1);
    let mut all = vec![
        scenarios::adds_in_sequence(1, more),
        scenarios::adds_by_timestamp(more),
        scenarios::adds_beside_2015(),
        scenarios::moves(more, more),
        scenarios::untag_and_tag(more),
        scenarios::moves_beside_2015(more, more),
        scenarios::moves_beside_deletion(),
        scenarios::removal_and_move(more, more),
        scenarios::removal_and_first_tag(more, more),
        scenarios::removal_and_add(more),
    ];
    if tier::is_soak() {
        all.push(scenarios::two_removals_and_moves());
    }
    all
}

#[test]
fn every_promise_holds_in_every_order() {
    let start = Instant::now();
    let mut all = 0;
    for scenario in scenarios() {
        let (name, begin) = (scenario.name, Instant::now());
        let found = explorer::explore(scenario, None);
        assert_eq!(found.wrong, None, "{}", found.wrong.as_deref().unwrap_or_default());
        println!("{name}: {} states, {:?}", found.states, begin.elapsed());
        all += found.states;
    }
    if tier::is_soak() {
        assert!(all >= 100_000, "{all} states");
    }
    let seconds = start.elapsed().as_secs();
    tier::summary(&format!("V0 backend=objects states={all} violations=0 seconds={seconds}"));
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
            scenarios.into_iter().find_map(|scenario| explorer::explore(scenario, Some(mutant)).wrong);
        let found = found.unwrap_or_else(|| panic!("{mutant:?} was not found"));
        println!("{mutant:?}: {found}\n");
    }
}
