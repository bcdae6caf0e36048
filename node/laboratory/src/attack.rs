//! Who is caught, when, and at what price: a run of very many members on the real rules, some of whom lie.
//!
//! Everything that the ledger holds is real: keys, signatures, entries, draws, the fold and the conductor. Only the training is
//! left out: whether a contribution is a lie is known to the simulation, and an honest verifier that draws it finds out.
//!
//! ```text
//! Scenario --Simulation: joins, commits, seals, draws, verdicts, penalties--> Outcome --> table, plot
//! ```

mod cast;
mod chart;
mod outcome;
mod simulation;
#[cfg(test)]
mod tests;

pub use cast::{Attacker, Verifiers};
pub use outcome::{KindOutcome, Outcome};
pub use simulation::{AttackError, Scenario};
