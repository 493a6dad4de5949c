//! `linxo-load`: load and fault runs against a bridge, judged by what consumers can read.
//!
//! Promises: exit code 0 when ledger and topics agree, 1 when they do not, 2 when it cannot be told,
//! 64 for a command line or a configuration that cannot be used.
//!
//! Knows nothing of: how a run is made.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use linxo_kafka_bridge::config::LogFormat;
use linxo_kafka_bridge::load::{self, JudgeOptions, RunOptions};
use linxo_kafka_bridge::logging;

/// Exit code of a command line that cannot be used.
const USAGE: u8 = 64;

/// Load and fault runs against a bridge: a simulated Linxo makes events and misbehaves, and at the
/// end its ledger is compared with what consumers of the topics can read.
///
/// Exit code 0: they agree; 1: they do not; 2: it cannot be told; 64: used wrongly.
#[derive(Parser)]
#[command(name = "linxo-load", version)]
struct Arguments {
    /// Which lines are logged: a level, or target=level with commas between
    #[arg(long, value_name = "FILTER", default_value = "error,librdkafka=off", global = true)]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a run, and judge it
    Run(Box<RunOptions>),
    /// Judge what a simulator that runs already and the topics say now
    Judge(JudgeOptions),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_fault) => {
            // a closed terminal is no reason to say anything else
            drop(help_or_fault.print());
            let code = if help_or_fault.use_stderr() { USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    if let Err(fault) = logging::start(&arguments.log, LogFormat::Text) {
        eprintln!("--log {:?}: {fault}", arguments.log);
        return ExitCode::from(USAGE);
    }
    // the TLS provider has to be chosen before the first client; a second choice changes nothing
    rustls::crypto::ring::default_provider().install_default().ok();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(async {
                match arguments.command {
                    Command::Run(options) => load::run(*options).await,
                    Command::Judge(options) => load::judge(options).await,
                }
            });
            // what still waits for Kafka on a thread of its own would hold the end up
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("the runtime cannot be started: {error}");
            ExitCode::from(2)
        }
    }
}
