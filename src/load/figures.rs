//! The numbers of a run as Prometheus reads them.
//!
//! Promises:
//! - every series is there at 0 from the start, and their number is fixed;
//! - the verdict is shown until it was read once, or for [`PATIENCE`], before the run ends.
//!
//! Knows nothing of: how any of it came about.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::LoadError;
use crate::oracle::{Outcome, Rule, Verdict};
use crate::simulator::Stats;

/// How long a verdict is shown that nobody reads.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the answer with the verdict may take.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// The limits of a bridge's `commit_delay_seconds`, so that the two lie beside each other.
const LAG: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Topics, source and bridges are made ready.
    Preparing,
    /// Users are subscribed.
    Subscribing,
    /// Events are made.
    Driving,
    /// What was made has to arrive.
    Settling,
    /// The verdict is there.
    Judged,
}

impl Phase {
    const ALL: [Self; 5] =
        [Self::Preparing, Self::Subscribing, Self::Driving, Self::Settling, Self::Judged];

    fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Subscribing => "subscribing",
            Self::Driving => "driving",
            Self::Settling => "settling",
            Self::Judged => "judged",
        }
    }
}

const OUTCOMES: [(Outcome, &str); 3] = [
    (Outcome::Agrees, "agrees"),
    (Outcome::Disagrees, "disagrees"),
    (Outcome::CannotTell, "cannot_tell"),
];

/// The numbers of one run; shared by `Arc`.
pub(super) struct Figures {
    registry: Registry,
    users: IntGauge,
    offered: Gauge,
    made: IntCounter,
    handed_out: IntCounter,
    readable: IntCounter,
    waiting: IntGauge,
    questions: IntCounter,
    deaths: IntCounter,
    faults_met: IntCounter,
    struck: IntCounter,
    lag: Histogram,
    phase: GaugeVec,
    offences: GaugeVec,
    outcome: GaugeVec,
    before: OnceLock<Stats>,
    is_final: AtomicBool,
    seen: Notify,
}

impl Figures {
    /// All numbers at 0.
    ///
    /// # Errors
    /// When a name is there twice: a fault in this file.
    #[rustfmt::skip] // one line per metric reads as the catalogue it is
    pub(super) fn new() -> Result<Self, LoadError> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(crate::metrics::ProcessFigures::new().map_err(LoadError::Metrics)?)).map_err(LoadError::Metrics)?;
        let make = Maker(&registry);
        let figures = Self {
            users: make.gauge("users", "Users subscribed through the admin API.")?,
            offered: make.enter(Gauge::with_opts(options("events_offered_per_second", "Events that the source was told to make each second; 0 before and after.")))?,
            made: make.counter("events_made_total", "Events that the source made.")?,
            handed_out: make.counter("events_handed_out_total", "Events that the source handed out in answers.")?,
            readable: make.counter("events_readable_total", "Events that a consumer under read_committed read.")?,
            waiting: make.gauge("events_waiting", "Events that wait in queues at the source.")?,
            questions: make.counter("questions_total", "Questions to queues that the source was asked.")?,
            deaths: make.counter("queue_deaths_total", "Queues that died at the source.")?,
            faults_met: make.counter("faults_met_total", "Requests that met a fault of the source.")?,
            struck: make.counter("bridges_struck_total", "Bridges that were killed, stopped or frozen, or ended by themselves.")?,
            lag: make.enter(Histogram::with_opts(HistogramOpts::new("linxo_load_lag_seconds", "An answer received to its events readable under read_committed.").buckets(LAG.to_vec())))?,
            phase: make.enter(GaugeVec::new(options("phase", "1 for where the run is."), &["phase"]))?,
            offences: make.enter(GaugeVec::new(options("offences", "Disagreements between ledger and topics at the last judgement, by rule."), &["rule"]))?,
            outcome: make.enter(GaugeVec::new(options("outcome", "1 for the verdict, once there is one."), &["outcome"]))?,
            before: OnceLock::new(),
            is_final: AtomicBool::new(false),
            seen: Notify::new(),
            registry,
        };
        for rule in Rule::ALL {
            figures.offences.with_label_values(&[rule.as_str()]).set(0.0);
        }
        for (_, outcome) in OUTCOMES {
            figures.outcome.with_label_values(&[outcome]).set(0.0);
        }
        figures.enter(Phase::Preparing);
        Ok(figures)
    }

    /// The run is there now.
    pub(super) fn enter(&self, phase: Phase) {
        for other in Phase::ALL {
            let is_it = if other == phase { 1.0 } else { 0.0 };
            self.phase.with_label_values(&[other.as_str()]).set(is_it);
        }
    }

    /// So many users are subscribed.
    pub(super) fn subscribed(&self, users: u32) {
        self.users.set(i64::from(users));
    }

    /// The source is told to make so many events a second.
    pub(super) fn offered(&self, per_second: f64) {
        self.offered.set(per_second);
    }

    /// What a source that ran before has counted already: not of this run.
    pub(super) fn begin(&self, stats: Stats) {
        // it is set once
        self.before.set(stats).ok();
    }

    /// The totals of the source, and how many events were readable just before: what is in flight lies between.
    pub(super) fn totals(&self, stats: &Stats, readable: u64) {
        let met = |stats: &Stats| stats.faults.values().sum::<u64>();
        let before = self.before.get();
        let since = |count: fn(&Stats) -> u64| {
            count(stats).saturating_sub(before.map(count).unwrap_or_default())
        };
        raise(&self.readable, readable);
        raise(&self.made, since(|stats| stats.made));
        raise(&self.handed_out, since(|stats| stats.handed_out));
        raise(&self.questions, since(|stats| stats.polls));
        raise(&self.deaths, since(|stats| stats.deaths));
        raise(&self.faults_met, met(stats).saturating_sub(before.map(met).unwrap_or_default()));
        self.waiting.set(i64::try_from(stats.waiting).unwrap_or(i64::MAX));
    }

    /// A bridge was struck.
    pub(super) fn struck(&self) {
        self.struck.inc();
    }

    /// An event is readable, so long after its answer was received.
    pub(super) fn lag(&self, lag: Duration) {
        self.lag.observe(lag.as_secs_f64());
    }

    /// What the oracle finds now; it may mend.
    pub(super) fn found(&self, verdict: &Verdict) {
        for rule in Rule::ALL {
            let count = verdict.offended.get(&rule).copied().unwrap_or_default();
            self.offences.with_label_values(&[rule.as_str()]).set(count as f64);
        }
    }

    /// The verdict.
    pub(super) fn judged(&self, verdict: &Verdict) {
        self.found(verdict);
        for (outcome, name) in OUTCOMES {
            let is_it = if outcome == verdict.outcome() { 1.0 } else { 0.0 };
            self.outcome.with_label_values(&[name]).set(is_it);
        }
        self.enter(Phase::Judged);
        self.is_final.store(true, Ordering::Release);
    }

    fn text(&self) -> String {
        // read before the text is made: what follows the verdict shows it
        let is_final = self.is_final.load(Ordering::Acquire);
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
        if is_final {
            self.seen.notify_one();
        }
        text
    }
}

/// A counter follows a total that only rises.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Makes metrics and enters them into a registry; names are without prefix.
struct Maker<'r>(&'r Registry);

impl Maker<'_> {
    fn enter<C: Collector + Clone + 'static>(
        &self,
        made: Result<C, prometheus::Error>,
    ) -> Result<C, LoadError> {
        let made = made.map_err(LoadError::Metrics)?;
        self.0.register(Box::new(made.clone())).map_err(LoadError::Metrics)?;
        Ok(made)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, LoadError> {
        self.enter(IntCounter::with_opts(options(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, LoadError> {
        self.enter(IntGauge::with_opts(options(name, help)))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("linxo_load_{name}"), help)
}

/// `/metrics`, until the verdict was read.
pub(super) struct Shown {
    figures: Arc<Figures>,
    enough: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Shown {
    /// Listens there.
    pub(super) async fn start(figures: &Arc<Figures>, at: SocketAddr) -> Result<Self, LoadError> {
        let listen = |source| LoadError::Listen { at, source };
        let listener = TcpListener::bind(at).await.map_err(listen)?;
        let at = listener.local_addr().map_err(listen)?;
        eprintln!("metrics at http://{at}/metrics");
        let router = Router::new().route("/metrics", get(show)).with_state(Arc::clone(figures));
        let (enough, ended) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let until = async move { ended.await.unwrap_or_default() };
            let served = axum::serve(listener, router).with_graceful_shutdown(until);
            if let Err(error) = served.await {
                eprintln!("the metrics are shown no longer: {error}");
            }
        });
        Ok(Self { figures: Arc::clone(figures), enough, serving })
    }

    /// Waits until somebody has read the verdict, and has it to the end.
    pub(super) async fn until_seen(self) {
        if timeout(PATIENCE, self.figures.seen.notified()).await.is_err() {
            eprintln!("nobody read the verdict at /metrics within {PATIENCE:?}");
        }
        drop(self.enough);
        // who keeps a connection without a question is not waited for
        drop(timeout(LAST_ANSWER, self.serving).await);
    }
}

async fn show(State(figures): State<Arc<Figures>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], figures.text()).into_response()
}
