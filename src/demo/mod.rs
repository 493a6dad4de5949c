//! Everything in one process, for a person to see: a simulated Linxo, Kafka and the bridge.
//!
//! Kafka is librdkafka's in-process cluster: no compaction, no isolation, 5 MiB a partition. What
//! it shows of the bridge is real, what it proves of transactions is nothing: the tests do that.
//! The demo plays the integrator's back end, so it talks to the bridge through the admin API, and
//! to the topics as a consumer.
//!
//! Promises:
//! - needs nothing, leaves nothing: the journal is in a folder of its own that is removed;
//! - ends by itself after `--seconds`, and soon after it whatever happens, saying what hung;
//! - the verdict compares what the simulator handed out with what the topics hold, and nothing of
//!   what the bridge says of itself takes part in it.
//!
//! Knows nothing of: what the rooms of the bridge do inside.

mod back_end;
mod figures;
mod narrator;
mod plan;
mod screen;
mod stage;
mod story;
mod summary;
mod topics;
mod watchdog;

use std::process::ExitCode;
use std::time::Duration;

use screen::{Screen, Tone};
use stage::{Folder, Stage};
use watchdog::Watchdog;

use crate::logging::LogFilter;
use crate::oracle::{self, Patience, Rules};
use crate::stop;

/// How long after `--seconds` the process ends at the latest.
const LATE: Duration = Duration::from_secs(10);
/// How long reading a topic anew may take.
const READING: Duration = Duration::from_secs(5);

/// What the demo is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many users are watched.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=500))]
    pub users: u32,
    /// How long it lasts, summary included.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(6..=120))]
    pub seconds: u32,
    /// Show what the bridge logs, on stderr; a level, or target=level with commas between.
    #[arg(
        long, value_name = "FILTER", num_args = 0..=1, require_equals = true,
        default_missing_value = "info"
    )]
    pub log: Option<String>,
}

/// Why the demo could not be played.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The in-process cluster.
    #[error("the in-process cluster does not work: {0}")]
    Cluster(#[from] rdkafka::error::KafkaError),
    /// The simulator.
    #[error("the simulated linxo does not work: {0}")]
    Simulator(#[from] crate::simulator::Error),
    /// The configuration the demo gives the bridge: a fault in this room.
    #[error("the demo's own configuration is wrong: {0}")]
    Config(#[from] crate::config::Faults),
    /// The journal's folder.
    #[error(
        "the folder {folder} cannot be made: {source}; point TMPDIR to one that can be written"
    )]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The key ring.
    #[error(transparent)]
    Keys(#[from] crate::credential::SealError),
    /// The bridge ended while it was watched.
    #[error("the bridge ended: {0}")]
    Bridge(#[from] crate::service::ServiceError),
    /// The same without a reason.
    #[error("the bridge ended though nobody had asked it to")]
    BridgeGone,
    /// The admin API did not answer.
    #[error("the admin api does not answer: {0}")]
    Call(#[from] reqwest::Error),
    /// The admin API refused.
    #[error("{call} was answered {status}: {answer}")]
    Refused {
        /// The call.
        call: String,
        /// The status.
        status: u16,
        /// The body.
        answer: String,
    },
    /// A topic could not be read.
    #[error(transparent)]
    Reading(#[from] oracle::ReadingError),
    /// A record could not be read.
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
}

/// Plays the demo; success when ledger and topics agree.
pub async fn run(options: Options, log: LogFilter) -> ExitCode {
    let mut screen = Screen::new();
    let folder = match Folder::new() {
        Ok(folder) => folder,
        Err(error) => return failed(&mut screen, &error),
    };
    let lasts = Duration::from_secs(options.seconds.into());
    let watchdog = match Watchdog::start(lasts + LATE, &folder) {
        Ok(watchdog) => watchdog,
        Err(error) => return failed(&mut screen, &error),
    };
    let playing = play(&options, &folder, log, &watchdog, &mut screen);
    let Some(played) = stop::or_requested(playing).await else {
        return ExitCode::FAILURE;
    };
    watchdog.now("taking everything down");
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&mut screen, &error),
    }
}

/// From an empty machine to the verdict.
async fn play(
    options: &Options,
    folder: &Folder,
    log: LogFilter,
    watchdog: &Watchdog,
    screen: &mut Screen,
) -> Result<bool, DemoError> {
    let end = screen.started() + Duration::from_secs(options.seconds.into());
    screen.headline(&format!(
        "linxo-bridge demo: {} users, a simulated Linxo, Kafka in this process, one bridge.",
        options.users
    ));
    screen.remark(
        "Linxo forgets a queue that nobody asks for 15 minutes; here after 30 seconds, to be seen.",
    );
    watchdog.now("starting the bridge");
    let mut stage = Stage::set_up(folder, log).await?;
    screen.story(&format!(
        "Linxo is at {}, Kafka at {}, both in this process",
        stage.simulator.url(),
        stage.bootstrap_servers()
    ));
    stage.until_ready().await?;
    screen.story(&format!("the bridge is ready, its admin API is at {}", stage.back_end.url()));

    watchdog.now("playing the story");
    let (parts, bridge) = stage.split();
    let told = tokio::select! {
        told = story::tell(options.users, end, &parts, screen) => told?,
        ended = bridge.ended() => return Err(ended),
    };

    watchdog.now("stopping the bridge");
    stage.bridge.stop().await?;
    watchdog.now("reading the topics to their ends");
    let ledger = stage.simulator.ledger(None);
    let patience = Patience(READING);
    let found = oracle::read_all(&stage.clients, &stage.names, None, patience).await?;
    let verdict = oracle::judge(&ledger, &found, &stage.names, &Rules::default());
    summary::show(&verdict, &told, screen);
    stage.simulator.stop().await;
    Ok(verdict.agrees())
}

fn failed(screen: &mut Screen, error: &DemoError) -> ExitCode {
    screen.line(Tone::Bad, &format!("the demo cannot go on: {error}"));
    ExitCode::FAILURE
}
