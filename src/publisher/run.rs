//! The publisher's loop.
//!
//! Promises: as the head of the room says. Each turn of [`Publishing::publish`] ends with its rows
//! committed, or with the process.
//!
//! Knows nothing of: how records are made.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::draft::{Draft, Holdings, Outcome, Owned};
use super::outbox::{Outbox, Outgoing, SendFault};
use super::position::{self, Position};
use super::producer::{Mishap, RefusedRecord, Sending, TransactionalProducer, is_too_large};
use super::transaction::{Interrupted, confirm, gather, mark};
use super::{Control, PublisherError, PublisherSettings};
use crate::journal::Row;
use crate::kafka::Failure;
use crate::metrics::{Stage, TransactionOutcome};
use crate::sabotage::{self, CrashPoint};

/// The longest time without a mark, and so without a commit.
const MARK_INTERVAL: Duration = Duration::from_secs(10);
const INIT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Publishing {
    settings: PublisherSettings,
    holdings: Holdings,
    producer: Option<TransactionalProducer>,
    /// The position at the start; none before it was read.
    found: Option<Position>,
    marked: Instant,
    last_number: u64,
}

/// Runs until `rows` is closed and empty.
pub(super) async fn run(
    settings: PublisherSettings,
    mut rows: mpsc::Receiver<Row>,
    mut controls: mpsc::Receiver<Control>,
    found: oneshot::Sender<Position>,
) -> Result<(), PublisherError> {
    let mut publishing = Publishing {
        settings,
        holdings: Holdings::new(),
        producer: None,
        found: None,
        marked: Instant::now(),
        last_number: 0,
    };
    let position = publishing.reconnect(&mut controls).await?;
    publishing.last_number = position.number;
    publishing.found = Some(position.clone());
    // whoever started us may have been stopped meanwhile
    found.send(position).ok();
    let mut batch: Vec<Row> = Vec::new();
    loop {
        let mark_at = publishing.marked + MARK_INTERVAL;
        tokio::select! {
            biased;
            Some(control) = controls.recv() => publishing.obey(control),
            row = rows.recv() => {
                let Some(row) = row else { break };
                batch.push(row);
                publishing.publish(&mut batch, &mut rows, &mut controls).await?;
            }
            () = tokio::time::sleep_until(mark_at) => {
                publishing.publish(&mut batch, &mut rows, &mut controls).await?;
            }
        }
    }
    Ok(())
}

impl Publishing {
    fn obey(&mut self, control: Control) {
        match control {
            Control::Adopt { partition, token, states, held } => {
                let states =
                    states.into_iter().map(|state| (state.user_id.clone(), state)).collect();
                self.holdings.insert(partition, Owned { token, states });
                // who asked may have lost the partition meanwhile
                held.send(()).ok();
            }
            Control::Release { partition, token } => {
                if self.holdings.get(&partition).is_some_and(|owned| owned.token == token) {
                    self.holdings.remove(&partition);
                }
            }
        }
    }

    /// Publishes the rows of `batch` and those that come meanwhile; ends when they are committed.
    async fn publish(
        &mut self,
        batch: &mut Vec<Row>,
        rows: &mut mpsc::Receiver<Row>,
        controls: &mut mpsc::Receiver<Control>,
    ) -> Result<(), PublisherError> {
        self.settings.metrics.oldest_unpublished(batch.iter().find_map(Row::received_at));
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let mut gathering = (attempt == 1).then_some(&mut *rows);
            let interrupted = match self.try_once(batch, &mut gathering).await {
                Ok(()) => break,
                Err(interrupted) => interrupted,
            };
            let settled = self.recover(interrupted, batch, controls, attempt).await?;
            if settled {
                break;
            }
            self.settings.metrics.oldest_unpublished(batch.iter().find_map(Row::received_at));
            let waited = Instant::now() + pause;
            while let Ok(Some(control)) = timeout_at(waited, controls.recv()).await {
                self.obey(control);
            }
            tokio::time::sleep_until(waited).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if attempt > 1 {
            tracing::info!(attempt, rows = batch.len(), "publishing goes on");
        }
        self.marked = Instant::now();
        self.settings.metrics.oldest_unpublished(None);
        batch.clear();
        Ok(())
    }

    /// One attempt: everything of `batch`, and what comes while it gathers, in one transaction.
    async fn try_once(
        &mut self,
        batch: &mut Vec<Row>,
        gathering: &mut Option<&mut mpsc::Receiver<Row>>,
    ) -> Result<(), Interrupted> {
        let began = Instant::now();
        let Some(producer) = &self.producer else {
            return Err(Interrupted::Mishap(Mishap {
                what: "there is no producer",
                failure: Failure::Fenced,
                record: None,
                source: rdkafka::error::KafkaError::Canceled,
            }));
        };
        producer.begin()?;
        let mut sending = Sending { producer, records: 0, bytes: 0 };
        let mut draft = Draft::new(&self.settings.pen, &self.holdings);
        for row in batch.iter() {
            draft.apply(row, &mut sending)?;
        }
        if let Some(rows) = gathering {
            gather(batch, rows, &mut draft, &mut sending, self.settings.commit_interval).await?;
        }
        let last_number = batch.last().map_or(self.last_number, |row| row.number);
        let owned = draft.close(&mut sending)?;
        mark(&self.settings, &self.holdings, batch, last_number, &mut sending)?;
        let gathered = Instant::now();
        producer.deliver().await?;
        sabotage::pass(CrashPoint::AfterProduce);
        if !owned.is_empty() {
            confirm(&self.settings, &self.holdings, producer, &owned)?;
        }
        sabotage::pass(CrashPoint::BeforeCommit);
        producer.commit()?;
        sabotage::pass(CrashPoint::AfterCommit);
        self.settings.metrics.stage(Stage::Gather, gathered - began);
        self.settings.metrics.stage(Stage::Transaction, gathered.elapsed());
        self.settings.metrics.transaction_records(sending.records);
        let outcome = draft.into_outcome();
        self.take_in(outcome, batch, last_number);
        Ok(())
    }

    /// The transaction is committed: its states are the states, its counts are shown, and whoever
    /// waits for its rows is told.
    fn take_in(&mut self, outcome: Outcome, batch: &mut Vec<Row>, last_number: u64) {
        outcome.tally.show(&self.settings.metrics);
        self.settings.metrics.transaction(TransactionOutcome::Committed);
        self.last_number = last_number;
        for ((partition, user), state) in outcome.changes {
            let Some(owned) = self.holdings.get_mut(&partition) else { continue };
            match state {
                Some(mut state) => {
                    state.shrink();
                    owned.states.insert(user, state);
                }
                None => {
                    owned.states.remove(&user);
                }
            }
        }
        for (row, settled) in batch.drain(..).zip(outcome.settled) {
            // whoever waited may have gone
            row.settle.send(settled).ok();
        }
    }

    /// After an attempt that did not end well; true when its transaction proves to be committed.
    async fn recover(
        &mut self,
        interrupted: Interrupted,
        batch: &mut Vec<Row>,
        controls: &mut mpsc::Receiver<Control>,
        attempt: u32,
    ) -> Result<bool, PublisherError> {
        let (failure, is_too_large) = match &interrupted {
            Interrupted::Mishap(mishap) => (mishap.failure, is_too_large(&mishap.source)),
            Interrupted::Refused { source, .. } => (Failure::Condemned, is_too_large(source)),
            Interrupted::Lost => (Failure::MustAbort, false),
            Interrupted::Record(_) => {
                let Interrupted::Record(error) = interrupted else { return Ok(false) };
                return Err(error.into());
            }
        };
        let outcome = match failure {
            Failure::MustAbort | Failure::Condemned | Failure::Retry => TransactionOutcome::Aborted,
            Failure::Fenced => TransactionOutcome::Fenced,
            Failure::Unknown => TransactionOutcome::Unknown,
        };
        self.settings.metrics.transaction(outcome);
        // the first time is worth a word, the same again a quieter one
        if attempt <= 2 || attempt.is_multiple_of(20) {
            tracing::warn!(attempt, outcome = outcome.as_str(), error = %interrupted, rows = batch.len(), "transaction was not committed");
        } else {
            tracing::debug!(attempt, outcome = outcome.as_str(), error = %interrupted, "transaction was not committed");
        }
        if failure == Failure::MustAbort
            && !is_too_large
            && let Some(producer) = &self.producer
            && producer.abort().is_ok()
        {
            if matches!(interrupted, Interrupted::Lost) {
                self.drop_lost();
            }
            return Ok(false);
        }
        self.producer = None;
        if is_too_large {
            self.settings.pen.limits.learn(refused(&interrupted)).await;
        }
        let found = self.reconnect(controls).await?;
        self.drop_lost();
        let ours = found.incarnation.as_deref() == Some(self.settings.incarnation.as_str());
        let last = batch.last().map_or(u64::MAX, |row| row.number);
        if !(ours && found.number >= last) {
            return Ok(false);
        }
        tracing::info!(position = found.number, "the transaction proves to be committed");
        // the same draft once more, to know what was committed; its records go nowhere
        let mut draft = Draft::new(&self.settings.pen, &self.holdings);
        for row in batch.iter() {
            if let Err(SendFault::Record(error)) = draft.apply(row, &mut Nowhere) {
                return Err(error.into());
            }
        }
        let outcome = draft.into_outcome();
        self.take_in(outcome, batch, last);
        Ok(true)
    }

    /// Makes a producer and reads the position back, for as long as it takes.
    async fn reconnect(
        &mut self,
        controls: &mut mpsc::Receiver<Control>,
    ) -> Result<Position, PublisherError> {
        let limits = &self.settings.pen.limits;
        let (batch, largest) = (limits.batch(), limits.largest());
        let config = self.settings.clients.producer(&self.settings.journal, batch, largest);
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let error = match TransactionalProducer::connect(&config, INIT) {
                Ok(producer) => {
                    let read = position::read(
                        &self.settings.clients,
                        &self.settings.pen.topics,
                        &self.settings.decoder,
                        &self.settings.journal,
                    );
                    match read {
                        Ok(position) => {
                            self.judge(&position)?;
                            self.producer = Some(producer);
                            return Ok(position);
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Err(mishap) => mishap.to_string(),
            };
            if attempt == 1 || attempt.is_multiple_of(12) {
                tracing::warn!(attempt, %error, "kafka is away, publishing waits");
            }
            let until = Instant::now() + pause;
            while let Ok(Some(control)) = timeout_at(until, controls.recv()).await {
                self.obey(control);
            }
            tokio::time::sleep_until(until).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Ends the process when somebody else publishes from our journal.
    fn judge(&self, position: &Position) -> Result<(), PublisherError> {
        let (Some(start), Some(found)) = (&self.found, &position.incarnation) else {
            return Ok(());
        };
        if *found == self.settings.incarnation || start.incarnation.as_ref() == Some(found) {
            return Ok(());
        }
        Err(PublisherError::Foreign {
            journal: self.settings.journal.clone(),
            found: found.clone(),
        })
    }

    /// Lets go of the partitions that the group has given to somebody else.
    fn drop_lost(&mut self) {
        let ownership = &self.settings.ownership;
        self.holdings.retain(|partition, owned| ownership.is_owned(*partition, owned.token));
    }
}

/// The record that an attempt failed by.
fn refused(interrupted: &Interrupted) -> Option<&RefusedRecord> {
    match interrupted {
        Interrupted::Mishap(mishap) => mishap.record.as_deref(),
        Interrupted::Refused { record, .. } => Some(record),
        Interrupted::Lost | Interrupted::Record(_) => None,
    }
}

/// An outbox for records that are in Kafka already.
struct Nowhere;

impl Outbox for Nowhere {
    fn send(&mut self, _: Outgoing<'_>) -> Result<(), SendFault> {
        Ok(())
    }
}
