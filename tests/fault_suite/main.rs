//! The fault suite: every fault of the list on real parts (the bridge as a process, the simulator over HTTP, Apache
//! Kafka, a Schema Registry), each with the oracle's verdict over what the source handed out and what the topics hold.
//!
//! A control run is the same scenario with a guard of the bridge switched off; it passes only if the oracle finds the
//! offence that the guard prevents, so a scenario that cannot fail is noticed.
//!
//! Adding a fault: a function in the file of its group under `scenarios/`, and its line in the table there. A fault
//! that can be begun and ended also goes into `faults.rs`, from which random pairs are drawn.

#![allow(unreachable_pub, reason = "a program has no public items")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario fails by panic"
)]

mod clusters;
mod faults;
mod flow;
mod runner;
mod scenario;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Runs faults against the bridge on real Kafka. Without arguments: the fast part.
#[derive(Parser)]
struct Arguments {
    /// Ids (K2) or parts of names of scenarios to run; none: all of the part chosen.
    names: Vec<String>,
    /// Every scenario, with times in proportion.
    #[arg(long)]
    all: bool,
    /// Those that are quick: the part that `make test` runs.
    #[arg(long, conflicts_with = "all")]
    fast: bool,
    /// Those for which the real times matter, with them: 15 minutes of a queue's life, 20 of an outage.
    #[arg(long, conflicts_with_all = ["all", "fast"])]
    long: bool,
    /// What all that is random follows from; none: drawn, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// So many random pairs of faults, one after another.
    #[arg(long)]
    pairs: Option<usize>,
    /// Where the table of verdicts goes, as Markdown.
    #[arg(long)]
    table: Option<PathBuf>,
    /// Prints the names and runs none.
    #[arg(long)]
    list: bool,
    /// Asked for by habit: nothing is captured here.
    #[arg(long, hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let all_agree = runtime.block_on(runner::run(&arguments));
    // a blocking task of a scenario that was ended may still wait for a broker
    runtime.shutdown_background();
    if all_agree { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
