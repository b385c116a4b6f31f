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
