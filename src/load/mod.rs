//! Load and fault runs: many users, events at a rate, faults on a schedule, and a verdict.
//!
//! Promises:
//! - users are subscribed through the admin API, topics are only read;
//! - the seed is always printed, and repeats users, synchronizations and schedule;
//! - the verdict is the oracle's: exit code 0 agrees, 1 does not, 2 cannot tell, 64 was used wrongly;
//! - what was started is ended, and only that.
//!
//! Knows nothing of: the rooms of the bridge, but its configuration and the form of its records.

mod bridges;
mod dice;
mod drive;
mod figures;
mod options;
mod report;
mod schedule;
mod seeding;
mod settle;
mod source;
mod stage;
mod tail;
mod traffic;
mod watch;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use options::{JudgeOptions, RunOptions};

use crate::door;
use crate::ids::Timestamp;
use crate::oracle::{Outcome, Verdict};
use crate::simulator::{Ledger, Stats};
use crate::stop;
use dice::Dice;
use drive::Script;
use figures::{Figures, Phase, Shown};
use report::Told;
use schedule::{Kinds, Planned, What};
use source::Source;
use stage::{Place, Stage};
use tail::Tail;
use traffic::Traffic;

/// Exit code of a command line or a configuration that cannot be used.
const USAGE: u8 = 64;
/// Exit code when nothing can be told.
const CANNOT_TELL: u8 = 2;
/// A user in so many has two connections.
const WITH_TWO: u32 = 10;
/// How long a call of the simulator or of a bridge may take.
const CALL: Duration = Duration::from_secs(15);

/// Why a run came to no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::Faults),
    /// The simulator or a door cannot be called.
    #[error("a call cannot be made: {0}")]
    Source(#[source] reqwest::Error),
    /// The simulator does not do what it was told.
    #[error(transparent)]
    Simulator(#[from] crate::simulator::Error),
    /// A call was refused.
    #[error("{call} was answered {status}: {text}")]
    Refused {
        /// The call.
        call: String,
        /// The status.
        status: u16,
        /// The body.
        text: String,
    },
    /// SIGTERM or SIGINT, when there is no verdict yet.
    #[error("interrupted before there was a verdict")]
    Interrupted,
    /// A user could not be subscribed.
    #[error("user {user} was not subscribed in time: {why}")]
    NotSubscribed {
        /// The user.
        user: String,
        /// What was answered last.
        why: String,
    },
    /// A bridge does not serve.
    #[error("{name} is not ready: {reason}\n{log}")]
    NotReady {
        /// The bridge.
        name: String,
        /// Why.
        reason: String,
        /// Its last words.
        log: String,
    },
    /// The topics were used before.
    #[error(
        "the topics with the prefix {prefix:?} hold records of an earlier run: give another \
         topics.prefix, or attach to that run's simulator"
    )]
    Used {
        /// The prefix.
        prefix: String,
    },
    /// The simulator cannot take the place of Linxo.
    #[error(
        "the bridges ask {url}, where no simulator can be started: have linxo.api_url name a \
         loopback address, or let bridges be started"
    )]
    Elsewhere {
        /// What they ask.
        url: String,
    },
    /// The topics.
    #[error(transparent)]
    Topics(#[from] crate::topics::TopicError),
    /// The topics cannot be read.
    #[error(transparent)]
    Reading(#[from] crate::oracle::ReadingError),
    /// A topic cannot be read.
    #[error(transparent)]
    Read(#[from] crate::kafka::ReadError),
    /// A client cannot be made.
    #[error("a kafka client cannot be made: {0}")]
    Kafka(#[source] rdkafka::error::KafkaError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// A file or a program.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The metrics have no place to be shown.
    #[error("--metrics {at}: {source}; give an address that is free")]
    Listen {
        /// Where.
        at: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The metrics.
    #[error("the metrics cannot be made: {0}")]
    Metrics(#[source] prometheus::Error),
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// A task ended badly.
    #[error("a task ended badly: {0}")]
    Task(#[source] tokio::task::JoinError),
}

/// A client for all calls of a run.
fn client() -> Result<reqwest::Client, LoadError> {
    door::client(CALL).map_err(LoadError::Source)
}

/// Makes a run, and judges it.
pub async fn run(options: RunOptions) -> ExitCode {
    let seed = options.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 16);
    eprintln!("seed {seed}");
    let plan = match plan(&options, seed) {
        Ok(plan) => plan,
        Err(error) => return failed(&error),
    };
    for planned in &plan {
        eprintln!("planned: {planned}");
    }
    match make(options, seed, plan).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

/// Judges a ledger and topics as they are, without a run.
pub async fn judge(options: JudgeOptions) -> ExitCode {
    match unless_stopped(judged(&options)).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn judged(options: &JudgeOptions) -> Result<ExitCode, LoadError> {
    let Some(url) = &options.simulator else {
        return Err(LoadError::Usage("give --simulator: its ledger is what is judged".to_owned()));
    };
    let place = Place::new(options)?;
    let source = Source::attach(url).await?;
    let rules = |stats: &Stats, ledger: &Ledger| settle::bare_rules(&place.config, stats, ledger);
    let settled =
        settle::settle(&place, &source, None, options.drain, &Figures::new()?, rules).await?;
    tell(None, &settled.0, &settled.1, options)
}

/// The faults of a run.
fn plan(options: &RunOptions, seed: u64) -> Result<Vec<Planned>, LoadError> {
    let usage = LoadError::Usage;
    let mut plan = match Kinds::of(&options.faults) {
        Some(kinds) => schedule::random(seed, options.lasts, kinds),
        None => {
            let text = std::fs::read_to_string(&options.faults).map_err(|error| {
                let words = "none, source, restarts or all";
                usage(format!(
                    "--faults {}: no word ({words}) and no file: {error}",
                    options.faults
                ))
            })?;
            schedule::written(&text)
                .map_err(|wrong| usage(format!("--faults {}: {wrong}", options.faults)))?
        }
    };
    for fault in &options.fault {
        let standing = schedule::standing(fault, options.lasts);
        plan.push(standing.map_err(|wrong| usage(format!("--fault {fault}: {wrong}")))?);
    }
    let strikes = plan.iter().any(|planned| matches!(planned.what, What::Bridge(_)));
    if strikes && !options.starts_bridges() {
        let text = "bridges that run already are not killed: leave --bridge out, or the restarts";
        return Err(usage(text.to_owned()));
    }
    plan.sort_by_key(|planned| planned.at);
    Ok(plan)
}

async fn make(options: RunOptions, seed: u64, plan: Vec<Planned>) -> Result<ExitCode, LoadError> {
    let figures = Arc::new(Figures::new()?);
    let shown = match options.metrics {
        Some(at) => Some(Shown::start(&figures, at).await?),
        None => None,
    };
    let stage = unless_stopped(Stage::set_up(&options, seed)).await?;
    let before = stage.source.stats().await?;
    let made_before = before.made;
    figures.begin(before);
    let whole = options.judging.simulator.is_none();
    let (clients, events) = (&stage.place.clients, &stage.place.names.events);
    let tail = Tail::start(clients, events, whole, &figures)?;
    eprintln!("{} bridges are ready", stage.doors.len());
    for user in (0..options.users).step_by(WITH_TWO as usize) {
        stage.source.put_user(&seeding::name(user), 2).await?;
    }
    figures.enter(Phase::Subscribing);
    let seeded = unless_stopped(seeding::subscribe(options.users, &stage.doors)).await?;
    figures.subscribed(seeded.users);
    eprintln!("{} users are subscribed, {:.0} a second", seeded.users, seeded.per_second);

    let began = Timestamp::now();
    let script = Script {
        traffic: Traffic::new(seed, options.users, options.events_per_second),
        plan,
        lasts: options.lasts,
        hints: !options.no_hints,
        dice: Dice::new(seed, "bridges"),
        oversized: stage.place.config.linxo.max_answer + 1024,
    };
    figures.enter(Phase::Driving);
    figures.offered(options.events_per_second);
    let driven = drive::drive(&stage, &tail, &figures, script).await?;
    figures.offered(0.0);
    figures.enter(Phase::Settling);
    eprintln!("no more events, no more faults: waiting until everything has arrived");
    let config = &stage.place.config;
    let rules =
        |stats: &Stats, ledger: &Ledger| settle::rules(config, stats, ledger, &driven.faults);
    let drain = options.judging.drain;
    let settled = unless_stopped(settle::settle(
        &stage.place,
        &stage.source,
        Some(&tail),
        drain,
        &figures,
        rules,
    ))
    .await;
    if let Ok((verdict, _)) = &settled {
        figures.judged(verdict);
        if let Some(shown) = shown {
            // the bridges go on meanwhile, so that their last numbers are read as well
            shown.until_seen().await;
        }
    }
    let lag = tail.lag();
    drop(tail);
    stage.take_down().await;
    let (verdict, stats) = settled?;
    let judging = options.judging.clone();
    let told = Told { began, seed, options, seeded, made_before, driven, lag };
    tell(Some(&told), &verdict, &stats, &judging)
}

/// Work that a signal ends; while events are made a signal ends only that.
async fn unless_stopped<T>(
    work: impl Future<Output = Result<T, LoadError>>,
) -> Result<T, LoadError> {
    stop::or_requested(work).await.unwrap_or(Err(LoadError::Interrupted))
}

fn tell(
    told: Option<&Told>,
    verdict: &Verdict,
    stats: &Stats,
    options: &JudgeOptions,
) -> Result<ExitCode, LoadError> {
    println!("{}", report::text(told, verdict, stats));
    if let Some(path) = &options.json {
        stage::write(path, &report::json(told, verdict, stats))?;
    }
    Ok(match verdict.outcome() {
        Outcome::Agrees => ExitCode::SUCCESS,
        Outcome::Disagrees => ExitCode::FAILURE,
        Outcome::CannotTell => ExitCode::from(CANNOT_TELL),
    })
}

fn failed(error: &LoadError) -> ExitCode {
    eprintln!("linxo-load: {error}");
    let is_usage = matches!(error, LoadError::Usage(_) | LoadError::Config(_));
    ExitCode::from(if is_usage { USAGE } else { CANNOT_TELL })
}
