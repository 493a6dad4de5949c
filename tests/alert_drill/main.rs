//! The drill of the alerts: real Kafka, a simulated Linxo, two bridges, Prometheus 3 and Alertmanager with the files that
//! are shipped. Kafka, Linxo, a token, an instance are broken in turn; the expected alert has to fire and no other, and
//! what follows from it must not be told.
//!
//! All times are a sixth: a queue lives 150 s, and every duration in rules and routes is divided as well (`scale.rs`).
//!
//! `--dashboards FOLDER` makes a load run in the same world instead, asks every query of the dashboards, and has them
//! drawn into the folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a drill fails by panic")]

#[path = "../support/mod.rs"]
mod support;

mod pictures;
mod scale;
mod scenes;
mod watch;
mod world;

use std::path::PathBuf;

use clap::Parser;

/// Breaks one thing after another and looks which alerts fire.
#[derive(Parser)]
struct Arguments {
    /// Only the scenes whose name has one of these words
    names: Vec<String>,
    /// Where the table goes, as Markdown
    #[arg(long)]
    table: Option<PathBuf>,
    /// Draw the dashboards into this folder, from a load run
    #[arg(long)]
    dashboards: Option<PathBuf>,
    /// How long the load run for the dashboards takes, in seconds
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match &arguments.dashboards {
            Some(folder) => pictures::draw(folder, arguments.seconds).await,
            None => scenes::run(&arguments.names, arguments.table.as_deref()).await,
        }
    });
    runtime.shutdown_background();
}
