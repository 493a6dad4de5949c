//! Many queues: a million on one instance, a hundred thousand that pass from one to another, and three instances that
//! restart one by one. Prints figures; asserts nothing, since the machines are noisy.
//!
//! `cargo bench --bench scale` for all parts, `-- million`, `-- takeover` or `-- rolling` for one; `--queues N` for
//! another number.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a run that fails says so by panic")]

mod ground;
mod million;
mod rolling;
#[path = "../../tests/support/mod.rs"]
mod support;
mod takeover;

use clap::Parser;
use ground::Tokens;
use support::Kafka;

/// What is measured.
#[derive(Parser)]
struct Arguments {
    /// The parts: million, takeover, rolling. None: all.
    parts: Vec<String>,
    /// Queues of the first part; the others have a tenth of them.
    #[arg(long, default_value_t = 1_000_000)]
    queues: usize,
    /// Rounds of the keep-alive interval in the first part.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The first part with a token for each user.
    #[arg(long)]
    passwords: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let wants =
        |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|p| p == part);
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    if wants("million") {
        let tokens = if arguments.passwords { Tokens::OfUsers } else { Tokens::OfClient };
        million::run(kafka, arguments.queues, arguments.rounds, tokens).await;
    }
    if wants("takeover") {
        takeover::run(kafka, arguments.queues / 10).await;
    }
    if wants("rolling") {
        rolling::run(kafka, arguments.queues / 10).await;
    }
}
