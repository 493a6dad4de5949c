//! Every number we show, one method per happening.
//!
//! Promises:
//! - names, labels and label values are those of design.md 11, and of the second table of
//!   `contract.rs`, all present at 0 from the start;
//! - the number of series is fixed: it grows neither with users nor with partitions;
//! - moments are shown as moments, not as ages, so that they go on ageing when the process hangs;
//! - each `Metrics` has its own registry, and telling it of a happening neither waits nor allocates.
//!
//! The only room that names `prometheus`.
//!
//! Knows nothing of: the rooms whose happenings it counts.

mod census;
#[cfg(test)]
mod contract;
mod family;
mod kafka;
mod labels;
#[cfg(target_os = "linux")]
mod process;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounter, Registry, TextEncoder};

pub use self::census::Census;
use self::census::Censuses;
use self::family::{Family, Maker, PairFamily};
use self::kafka::KafkaGauges;
pub use self::labels::{
    ActionLabel, Certainty, DeadLetterReason, EventKind, GapCause, HeadroomBand, LagClass,
    PollOutcome, QueueCondition, RebalanceKind, RegistryOutcome, Stage, TokenOutcome, TraceOutcome,
    TransactionOutcome,
};
#[cfg(target_os = "linux")]
pub(crate) use self::process::ProcessFigures;
use crate::ids::Timestamp;

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// The lag objective of 60 s and the life of a queue of 900 s are limits of their own.
const LAG: &[f64] =
    &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0];
/// The latency targets of 30 ms and 150 ms are limits of their own.
const COMMIT_DELAY: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];
const STAGE: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];
const POLL: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const SCHEDULE_DELAY: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];
const POLL_INTERVAL: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 330.0, 360.0, 480.0, 600.0,
    720.0, 900.0, 1200.0,
];
const JOURNAL_SYNC: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const TRANSACTION_RECORDS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0];
const TAKEOVER: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];

/// Why the metrics could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two metrics have one name, or a name breaks the rules of Prometheus: a fault in this room.
    #[error("the metrics cannot be registered")]
    Unregistrable(#[from] prometheus::Error),
}

/// Every number of one bridge; shared by `Arc`.
pub struct Metrics {
    registry: Registry,
    censuses: Mutex<Censuses>,
    event_lag: Family<LagClass, Histogram>,
    events_ahead: IntCounter,
    commit_delay: Histogram,
    stage_duration: Family<Stage, Histogram>,
    polls: Family<PollOutcome, IntCounter>,
    poll_duration: Histogram,
    poll_schedule_delay: Histogram,
    poll_interval: Histogram,
    queues: Family<QueueCondition, Gauge>,
    queues_by_headroom: Family<HeadroomBand, Gauge>,
    oldest_poll: Gauge,
    queue_deaths: Family<GapCause, IntCounter>,
    gaps: PairFamily<GapCause, Certainty>,
    events_received: IntCounter,
    events_published: Family<EventKind, IntCounter>,
    oldest_unpublished: Gauge,
    action_events: Family<ActionLabel, IntCounter>,
    dead_letters: Family<DeadLetterReason, IntCounter>,
    journal_bytes: Gauge,
    journal_capacity: Gauge,
    journal_answers: Gauge,
    journal_failing: Gauge,
    journal_sync: Histogram,
    transactions: Family<TransactionOutcome, IntCounter>,
    transaction_records: Histogram,
    partitions_owned: Gauge,
    partitions: Gauge,
    rebalances: Family<RebalanceKind, IntCounter>,
    takeover: Histogram,
    token_requests: Family<TokenOutcome, IntCounter>,
    users_blocked: Gauge,
    registry_requests: Family<RegistryOutcome, IntCounter>,
    budget: Gauge,
    budget_required: Gauge,
    traces: Family<TraceOutcome, IntCounter>,
    kafka: KafkaGauges,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes all metrics at 0, those of the process included, in a registry of their own.
    #[rustfmt::skip] // one line per metric reads as the catalogue it is
    pub fn new(version: &str, revision: &str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let make = Maker(&registry);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(ProcessFigures::new()?))?;
        make.facts("build_info", "Which build runs; always 1.", [("version", version), ("revision", revision)])?;
        Ok(Self {
            censuses: Mutex::default(),
            event_lag: make.histograms("event_lag_seconds", "Creation of an event at the source to its commit, events from queues only.", LAG)?,
            events_ahead: make.counter("events_ahead_total", "Events that the source made, by its clock, after we had committed them; their lag counts as 0.")?,
            commit_delay: make.histogram("commit_delay_seconds", "An answer received to its commit.", COMMIT_DELAY)?,
            stage_duration: make.histograms("stage_duration_seconds", "Time of each stage: an answer on its way into the journal, a transaction that was committed. What waited or failed before is in commit_delay_seconds alone.", STAGE)?,
            polls: make.counters("polls_total", "Questions to queues, by what became of them.")?,
            poll_duration: make.histogram("poll_duration_seconds", "Time from sending a question to its whole answer.", POLL)?,
            poll_schedule_delay: make.histogram("poll_schedule_delay_seconds", "How long after it was due a queue is asked.", SCHEDULE_DELAY)?,
            poll_interval: make.histogram("poll_interval_seconds", "Time from the last answered question of a queue to the next question.", POLL_INTERVAL)?,
            queues: make.gauges("queues", "Queues owned, by what is being done with them.")?,
            queues_by_headroom: make.gauges("queues_by_headroom", "Live queues owned, by the time left until they would die.")?,
            oldest_poll: make.gauge("oldest_poll_timestamp_seconds", "When the live queue that was left alone longest was asked; 0 when none.")?,
            queue_deaths: make.counters("queue_deaths_total", "Queues that Linxo no longer knew, by cause; counted when the queue is replaced.")?,
            gaps: make.counter_pairs("gaps_total", "Gaps published: spans in which events were or may have been lost.")?,
            events_received: make.counter("events_received_total", "Events found in answers, counted when the answer is published.")?,
            events_published: make.counters("events_published_total", "Records of events in committed transactions.")?,
            oldest_unpublished: make.gauge("oldest_unpublished_timestamp_seconds", "When the oldest answer not yet published was received; 0 when none.")?,
            action_events: make.counters("action_events_total", "Events published that ask the user to act, by what they ask.")?,
            dead_letters: make.counters("dead_letters_total", "Dead letters published, by reason.")?,
            journal_bytes: make.gauge("journal_bytes", "Bytes of the answers in the journal that are not yet published.")?,
            journal_capacity: make.gauge("journal_capacity_bytes", "Bytes the journal may hold.")?,
            journal_answers: make.gauge("journal_answers", "Answers in the journal that are not yet published.")?,
            journal_failing: make.gauge("journal_failing", "Whether the journal takes no answers, as its disk is full or fails: 1, else 0.")?,
            journal_sync: make.histogram("journal_sync_seconds", "Time to write and sync one group of answers.", JOURNAL_SYNC)?,
            transactions: make.counters("transactions_total", "Transactions, by how they ended.")?,
            transaction_records: make.histogram("transaction_records", "Records in one transaction.", TRANSACTION_RECORDS)?,
            partitions_owned: make.gauge("partitions_owned", "Control partitions whose queues this instance asks.")?,
            partitions: make.gauge("partitions", "Control partitions there are.")?,
            rebalances: make.counters("rebalances_total", "Partitions granted, revoked or lost.")?,
            takeover: make.histogram("takeover_seconds", "Grant of a partition to the first question to the last of its queues, answered or not.", TAKEOVER)?,
            token_requests: make.counters("token_requests_total", "Requests to the token endpoint, by what became of them.")?,
            users_blocked: make.gauge("users_blocked", "Users whose credential was refused.")?,
            registry_requests: make.counters("registry_requests_total", "Requests to the Schema Registry, by what became of them.")?,
            budget: make.gauge("request_budget_per_second", "Requests to Linxo this instance may send each second, less while Linxo throttles; 0 when there is no limit.")?,
            budget_required: make.gauge("request_budget_required_per_second", "Requests to Linxo this instance needs each second.")?,
            traces: make.counters("traces_total", "Traces of answers, by what became of them.")?,
            kafka: KafkaGauges::new(&make)?,
            registry,
        })
    }

    /// A question to a queue has its outcome, `took` after it was sent.
    pub fn poll_finished(&self, outcome: PollOutcome, took: Duration) {
        self.polls.at(outcome).inc();
        self.poll_duration.observe(took.as_secs_f64());
    }

    /// A queue is asked `delay` after it was due, `interval` after it was last asked (none: first).
    pub fn poll_scheduled(&self, delay: Duration, interval: Option<Duration>) {
        self.poll_schedule_delay.observe(delay.as_secs_f64());
        if let Some(interval) = interval {
            self.poll_interval.observe(interval.as_secs_f64());
        }
    }

    /// Linxo no longer knows a queue.
    pub fn queue_death(&self, cause: GapCause) {
        self.queue_deaths.at(cause).inc();
    }

    /// A gap is in a committed transaction.
    pub fn gap_published(&self, cause: GapCause, certainty: Certainty) {
        self.gaps.at(cause, certainty).inc();
    }

    /// An answer held `n` events.
    pub fn events_received(&self, n: u64) {
        self.events_received.inc_by(n);
    }

    /// `n` records of this kind are in a committed transaction.
    pub fn events_published(&self, kind: EventKind, n: u64) {
        self.events_published.at(kind).inc_by(n);
    }

    /// An event that asks for this action is in a committed transaction.
    pub fn action_published(&self, action: ActionLabel) {
        self.action_events.at(action).inc();
    }

    /// An event of a queue was committed this long after the source made it.
    pub fn event_lag(&self, class: LagClass, lag: Duration) {
        self.event_lag.at(class).observe(lag.as_secs_f64());
    }

    /// `n` events were made after now, by the clock of the source.
    pub fn events_ahead(&self, n: u64) {
        self.events_ahead.inc_by(n);
    }

    /// An answer was committed this long after it was received.
    pub fn commit_delay(&self, delay: Duration) {
        self.commit_delay.observe(delay.as_secs_f64());
    }

    /// An answer, or a group of them, passed a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_duration.at(stage).observe(took.as_secs_f64());
    }

    /// A dead letter is in a committed transaction.
    pub fn dead_letter(&self, reason: DeadLetterReason) {
        self.dead_letters.at(reason).inc();
    }

    /// The journal holds `answers` in `bytes` of `capacity` bytes, and takes more unless it fails.
    pub fn journal(&self, bytes: u64, capacity: u64, answers: u64, is_failing: bool) {
        self.journal_bytes.set(bytes as f64);
        self.journal_capacity.set(capacity as f64);
        self.journal_answers.set(answers as f64);
        self.journal_failing.set(f64::from(u8::from(is_failing)));
    }

    /// A group of answers was written and synced.
    pub fn journal_sync(&self, took: Duration) {
        self.journal_sync.observe(took.as_secs_f64());
    }

    /// A transaction ended.
    pub fn transaction(&self, outcome: TransactionOutcome) {
        self.transactions.at(outcome).inc();
    }

    /// A transaction carries `n` records.
    pub fn transaction_records(&self, n: u64) {
        self.transaction_records.observe(n as f64);
    }

    /// This instance owns `owned` of `total` control partitions.
    pub fn partitions(&self, owned: u64, total: u64) {
        self.partitions_owned.set(owned as f64);
        self.partitions.set(total as f64);
    }

    /// The group gave or took a partition.
    pub fn rebalance(&self, kind: RebalanceKind) {
        self.rebalances.at(kind).inc();
    }

    /// The last queue of a granted partition was asked, `took` after the grant.
    pub fn takeover(&self, took: Duration) {
        self.takeover.observe(took.as_secs_f64());
    }

    /// A request to the token endpoint has its outcome.
    pub fn token_request(&self, outcome: TokenOutcome) {
        self.token_requests.at(outcome).inc();
    }

    /// A request to the Schema Registry has its outcome.
    pub fn registry_request(&self, outcome: RegistryOutcome) {
        self.registry_requests.at(outcome).inc();
    }

    /// This instance may send and needs so many requests to Linxo each second; 0: no limit.
    pub fn budget(&self, per_second: f64, required_per_second: f64) {
        self.budget.set(per_second);
        self.budget_required.set(required_per_second);
    }

    /// So many traces were taken by the collector, or not.
    pub fn traces(&self, outcome: TraceOutcome, n: u64) {
        self.traces.at(outcome).inc_by(n);
    }

    /// What the producer says of itself, as librdkafka's statistics.
    pub fn kafka_statistics(&self, statistics: &[u8]) {
        self.kafka.show(statistics);
    }

    /// The producer is no more: it holds nothing, and is connected to nobody.
    pub fn kafka_gone(&self) {
        self.kafka.show(b"{}");
    }

    /// When the oldest answer that is not yet published was received; none: all are published.
    pub fn oldest_unpublished(&self, received: Option<Timestamp>) {
        self.oldest_unpublished.set(moment(received));
    }

    /// The latest count of an owned partition; none when it is let go.
    pub fn census(&self, partition: i32, census: Option<Census>) {
        self.censuses.lock().unwrap_or_else(PoisonError::into_inner).set(partition, census);
    }

    /// All metrics as Prometheus reads them, of type [`CONTENT_TYPE`].
    pub fn text(&self) -> String {
        self.show_censuses();
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot show the metrics");
            "# the metrics cannot be shown, see the log\n".to_owned()
        })
    }

    fn show_censuses(&self) {
        // Under the lock until the gauges are set, so that two scrapes do not mix their sums.
        let censuses = self.censuses.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = censuses.sum();
        self.queues.at(QueueCondition::Live).set(sum.live as f64);
        self.queues.at(QueueCondition::Subscribing).set(sum.subscribing as f64);
        self.queues.at(QueueCondition::Recovering).set(sum.recovering as f64);
        self.queues.at(QueueCondition::Blocked).set(sum.blocked as f64);
        for (band, count) in HeadroomBand::ALL.iter().zip(sum.bands) {
            self.queues_by_headroom.at(*band).set(count as f64);
        }
        self.oldest_poll.set(moment(sum.oldest_poll));
        self.users_blocked.set(sum.blocked as f64);
    }
}

fn moment(timestamp: Option<Timestamp>) -> f64 {
    timestamp.map_or(0.0, Timestamp::as_secs_f64)
}
