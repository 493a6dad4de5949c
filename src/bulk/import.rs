//! Puts the subscriptions that a file asks for, many at a time.
//!
//! Promises:
//! - a bounded number of calls is under way, and as few lines are held;
//! - the lines of one user are put in their order;
//! - a line that cannot be put is told by its number, and the others are put all the same;
//! - when no call at all is served for as long as the patience lasts, or none ever will be, the import
//!   ends and says from which line to go on; so it does when it is asked to.
//!
//! Repeating an import is safe, as repeating a call is.
//!
//! Knows nothing of: HTTP; what a line says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Reach;
use super::lines::{self, Line, MAX_LINE_BYTES};
use super::rejected::Rejected;
use super::teller::Teller;
use super::wish::Wish;
use crate::config::{self, Config};
use crate::door::{self, Door, NotServed};
use crate::stop;

/// What an import is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportOptions {
    /// The lines; standard input when not given, or -
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
    /// How many users are put at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    at_a_time: u16,
    /// Write the lines that could not be put into this new file. It holds their CREDENTIALS; only you
    /// may read it
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Pass over the lines before this one
    #[arg(long, value_name = "LINE", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    resume_from: u64,
}

/// Why an import ended before its last line.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("asked to end")]
    Asked,
    #[error("no call was served for {}: {why}", config::duration_text(*patience))]
    Unserved { patience: Duration, why: String },
    #[error("no call will be served: {0}")]
    Closed(String),
    #[error("the lines cannot be read: {0}")]
    Lines(#[source] io::Error),
    #[error("{path}: {source}")]
    Rejected {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Imports, and tells how it went; exit code 1 unless every line was put.
pub async fn import(config: Config, options: ImportOptions) -> ExitCode {
    match begin(&config, &options) {
        Ok((doors, lines, rejected)) => Import::new(&options, &doors, lines, rejected).run().await,
        Err(why) => {
            Teller::new().say(&why);
            ExitCode::FAILURE
        }
    }
}

type Lines = mpsc::Receiver<io::Result<Line>>;

fn begin(
    config: &Config,
    options: &ImportOptions,
) -> Result<(Vec<Door>, Lines, Option<Rejected>), String> {
    let doors = options.reach.doors(config)?;
    let file = options.file.as_deref().filter(|path| *path != Path::new("-"));
    let source: Box<dyn Read + Send> = match file {
        Some(path) => {
            Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => Box::new(io::stdin()),
    };
    let rejected =
        match &options.rejected {
            Some(path) => Some(Rejected::create(path).map_err(|error| {
                format!("--rejected {}: {error}; name a new file", path.display())
            })?),
            None => None,
        };
    let lines = lines::read(source, options.resume_from);
    Ok((doors, lines.map_err(|error| format!("a thread cannot be started: {error}"))?, rejected))
}

/// A line that asks for something.
struct Job {
    number: u64,
    text: Zeroizing<Vec<u8>>,
    wish: Wish,
}

/// A call that has ended.
struct Put {
    job: Job,
    began: Instant,
    /// Whether there was a subscription before.
    existed: Result<bool, NotServed>,
}

#[derive(Clone, Copy)]
struct Tally {
    since: Instant,
    made: u64,
    existed: u64,
    failed: u64,
}

struct Import<'i> {
    options: &'i ImportOptions,
    doors: &'i [Door],
    lines: Lines,
    /// The last line that was taken.
    taken: u64,
    /// One that waits for an earlier line of its user.
    held: Option<Job>,
    calls: FuturesUnordered<LocalBoxFuture<'i, Put>>,
    /// The users of the lines that are being put.
    under_way: BTreeMap<u64, String>,
    /// When a door last served a call, or refused it for good.
    served: Instant,
    /// What was last said to a call that is tried again.
    trouble: Rc<RefCell<Option<String>>>,
    rejected: Option<Rejected>,
    tally: Tally,
    teller: Teller,
}

impl<'i> Import<'i> {
    fn new(
        options: &'i ImportOptions,
        doors: &'i [Door],
        lines: Lines,
        rejected: Option<Rejected>,
    ) -> Self {
        let since = Instant::now();
        Self {
            options,
            doors,
            lines,
            taken: options.resume_from - 1,
            held: None,
            calls: FuturesUnordered::new(),
            under_way: BTreeMap::new(),
            served: since,
            trouble: Rc::default(),
            rejected,
            tally: Tally { since, made: 0, existed: 0, failed: 0 },
            teller: Teller::new(),
        }
    }

    async fn run(mut self) -> ExitCode {
        let ended = self.put_all().await;
        self.teller.say(&format!("import: {}", self.tally));
        if let Err(stop) = &ended {
            let next = self.first_unsettled();
            self.teller.say(&format!("import stopped: {stop}; go on with --resume-from {next}"));
        }
        let is_whole = ended.is_ok() && self.tally.failed == 0;
        if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    async fn put_all(&mut self) -> Result<(), Stop> {
        let mut asked_to_end = pin!(stop::requested());
        let mut ticks = self.teller.ticks();
        let mut is_read = false;
        loop {
            let users = &self.under_way;
            if let Some(job) = self.held.take_if(|job| !is_under_way(users, &job.wish.user)) {
                self.start(job);
            }
            if is_read && self.calls.is_empty() {
                return Ok(());
            }
            let has_room =
                self.held.is_none() && self.calls.len() < usize::from(self.options.at_a_time);
            tokio::select! {
                biased;
                () = &mut asked_to_end => return Err(Stop::Asked),
                Some(put) = self.calls.next(), if !self.calls.is_empty() => self.settle(put)?,
                _ = ticks.tick() => self.tell(),
                line = self.lines.recv(), if !is_read && has_room => match line {
                    Some(line) => self.take(line.map_err(Stop::Lines)?)?,
                    None => is_read = true,
                },
            }
        }
    }

    fn take(&mut self, line: Line) -> Result<(), Stop> {
        let number = line.number;
        self.taken = number;
        let Some(text) = line.text else {
            let why =
                format!("is longer than {MAX_LINE_BYTES} bytes, and is not among the rejected");
            return self.reject(&format!("line {number} {why}"), None);
        };
        match Wish::parse(&text) {
            Err(fault) => self.reject(&format!("line {number} {fault}"), Some(&text)),
            Ok(wish) => {
                let job = Job { number, text, wish };
                if is_under_way(&self.under_way, &job.wish.user) {
                    self.held = Some(job);
                } else {
                    self.start(job);
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, job: Job) {
        self.under_way.insert(job.number, job.wish.user.clone());
        let (doors, patience) = (self.doors, self.options.reach.patience);
        let trouble = Rc::clone(&self.trouble);
        self.calls.push(Box::pin(async move {
            let began = Instant::now();
            let turn = usize::try_from(job.number).unwrap_or_default();
            let put = async |door: Door| {
                let put = door.put(&job.wish.user, job.wish.body()).await;
                if let Err(NotServed::Later { why, after: _ }) = &put {
                    trouble.replace(Some(job.wish.tellable(why)));
                }
                put
            };
            let existed = door::persist(doors, turn, patience, put).await;
            Put { job, began, existed }
        }));
    }

    fn settle(&mut self, put: Put) -> Result<(), Stop> {
        let Put { job, began, existed } = put;
        let (why, may_pass) = match existed {
            // it stays among those under way, as the import goes on from it
            Err(NotServed::Closed(why)) => return Err(Stop::Closed(job.wish.tellable(&why))),
            Err(NotServed::Later { why, after: _ }) => (why, true),
            Err(NotServed::Refused(why)) => (why, false),
            Ok(existed) => {
                self.under_way.remove(&job.number);
                self.served = Instant::now();
                *(if existed { &mut self.tally.existed } else { &mut self.tally.made }) += 1;
                return Ok(());
            }
        };
        self.under_way.remove(&job.number);
        let why = job.wish.tellable(&why);
        let told = format!("line {}, user {:?}: {why}", job.number, job.wish.user);
        self.reject(&told, Some(&job.text))?;
        if !may_pass {
            self.served = Instant::now();
        } else if self.served <= began {
            return Err(Stop::Unserved { patience: self.options.reach.patience, why });
        }
        Ok(())
    }

    fn reject(&mut self, told: &str, line: Option<&[u8]>) -> Result<(), Stop> {
        self.tally.failed += 1;
        self.teller.say(told);
        if let (Some(rejected), Some(line)) = (&mut self.rejected, line) {
            rejected.add(line).map_err(|source| {
                let path = self.options.rejected.clone().unwrap_or_default();
                Stop::Rejected { path, source }
            })?;
        }
        Ok(())
    }

    fn tell(&mut self) {
        let mut told = format!("importing: {}; at line {}", self.tally, self.taken);
        if let Some(trouble) = self.trouble.take() {
            told += "; some calls are tried again: ";
            told += &trouble;
        }
        self.teller.progress(&told);
    }

    /// The first line that is neither put nor told to have failed.
    fn first_unsettled(&self) -> u64 {
        let held = self.held.as_ref().map(|job| job.number);
        let under_way = self.under_way.keys().next().copied();
        under_way.into_iter().chain(held).min().unwrap_or(self.taken + 1)
    }
}

fn is_under_way(users: &BTreeMap<u64, String>, user: &str) -> bool {
    users.values().any(|other| other == user)
}

impl fmt::Display for Tally {
    fn fmt(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, made, existed, failed } = *self;
        let done = made + existed;
        let rate = done as f64 / since.elapsed().as_secs_f64().max(0.001);
        write!(
            page,
            "{done} done ({made} created, {existed} existed), {failed} failed, {rate:.0} per second"
        )
    }
}
