//! Every scenario, group by group: each file has a table and the functions that it names.

mod bridge;
mod fleet;
mod kafka;
mod pairs;
mod registry;
mod source;
mod transactions;

use crate::scenario::Scenario;

/// The id of the random pairs.
pub const PAIRS: &str = "pairs";
/// The same with three instances.
pub const PAIRS_OF_THREE: &str = "pairs3";

/// A fault that has a test of its own elsewhere.
pub struct Elsewhere {
    pub id: &'static str,
    pub name: &'static str,
    pub test: &'static str,
}

const fn elsewhere(id: &'static str, name: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere { id, name, test }
}

/// What the table of verdicts only points to.
pub const ELSEWHERE: &[Elsewhere] = &[
    elsewhere("K10", "a record is too large for its topic", "records_too_large"),
    elsewhere("R1, R2", "the registry is away at the boot and in mid-run", "schema_registry"),
    elsewhere(
        "R4",
        "a schema is incompatible, or another version was registered",
        "schema_registry",
    ),
    elsewhere("R5", "ids are unknown after the registry was reset", "schema_registry"),
    elsewhere("B13", "a panic ends the process, as a kill does (B1)", "fault_suite -- B1"),
];

/// All of them, in the order of the list of faults.
pub fn all() -> Vec<Scenario> {
    [kafka::ALL, transactions::ALL, registry::ALL, source::ALL, bridge::ALL, fleet::ALL, pairs::ALL]
        .concat()
}
