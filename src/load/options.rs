//! What a run is told on its command line.
//!
//! Promises: what cannot go together is refused before anything is started.
//!
//! Knows nothing of: how a run is made.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::config;

/// Options of a load and fault run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub(super) judging: JudgeOptions,
    /// How many users are subscribed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(super) users: u32,
    /// How many events the source makes a second, in synchronizations of about ten
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub(super) events_per_second: f64,
    /// How long events are made, as 60s or 1h
    #[arg(long = "for", default_value = "60s", value_name = "DURATION", value_parser = duration)]
    pub(super) lasts: Duration,
    /// From it come all draws of the run; drawn when not given, and always printed
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Faults on a random schedule: none, source, restarts or all; or a file with a line for each:
    /// "2s cut 0.3 for 3s", "5s kill for 1s"
    #[arg(long, default_value = "none", value_name = "SCHEDULE")]
    pub(super) faults: String,
    /// A fault of the source for the whole run, as cut:0.05; may be given more than once
    #[arg(long, value_name = "NAME:SHARE")]
    pub(super) fault: Vec<String>,
    /// How many bridges are started; their Linxo is the simulator, whatever the file says
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) bridges: u32,
    /// A bridge that runs already, in place of started ones; may be given more than once
    #[arg(long, value_name = "URL")]
    pub(super) bridge: Vec<Url>,
    /// The program that is started; the one beside this program when not given
    #[arg(long, value_name = "FILE")]
    pub(super) bridge_program: Option<PathBuf>,
    /// Where the bridges' logs go; a folder of the run's own when not given
    #[arg(long, value_name = "FOLDER")]
    pub(super) log_dir: Option<PathBuf>,
    /// A file with the token of the admin API, in place of the one the configuration names
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Make the topics that are missing
    #[arg(long)]
    pub(super) make_topics: bool,
    /// Do not tell the bridge before a synchronization starts
    #[arg(long)]
    pub(super) no_hints: bool,
    /// Show the numbers of the run to Prometheus at this address; the verdict is shown until it was read
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) metrics: Option<std::net::SocketAddr>,
    /// How many events the ledger of the simulator keeps, 400 bytes each when it is judged
    #[arg(long, default_value_t = 5_000_000)]
    pub(super) max_events: usize,
}

/// Options of a judgement, with a run or without.
#[derive(Clone, Debug, clap::Args)]
pub struct JudgeOptions {
    /// The bridge's configuration, TOML; variables of the environment count over it as for a bridge
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// A simulator that runs already: the URL that it prints at its start for control; else one is
    /// started in this process
    #[arg(long, value_name = "URL")]
    pub(super) simulator: Option<Url>,
    /// How long after the end everything may take to arrive
    #[arg(long, default_value = "2m", value_name = "DURATION", value_parser = duration)]
    pub(super) drain: Duration,
    /// Write the report here as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

impl RunOptions {
    /// Whether bridges are started, and may be killed.
    pub(super) fn starts_bridges(&self) -> bool {
        self.bridge.is_empty()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "write a duration with its unit, as 500ms, 60s or 1h";
    config::duration(text).ok_or_else(|| wanted.to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|number| (0.0..=1_000_000.0).contains(number))
        .ok_or_else(|| "write a number from 0 to 1000000".to_owned())
}
