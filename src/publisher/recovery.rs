//! What follows an attempt that did not end well: an abort, or a new producer and the position read
//! back.
//!
//! Promises: nothing counts as committed before it is known to be, and nothing new is sent before
//! what was left open is ended.
//!
//! Knows nothing of: gathering, the loop.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::draft::Draft;
use super::outbox::{Nowhere, SendFault};
use super::position::{self, Position};
use super::producer::{RefusedRecord, TransactionalProducer, is_too_large};
use super::run::{FIRST_PAUSE, LONGEST_PAUSE, Published, Publishing};
use super::traced::{self, Steps};
use super::transaction::Interrupted;
use super::{Control, PublisherError, PublisherSettings};
use crate::journal::{Feed, Row};
use crate::kafka::Failure;
use crate::metrics::TransactionOutcome;
use crate::sabotage::{self, Guard};

/// How long a producer may take to initialise.
const INIT: Duration = Duration::from_secs(10);

impl Publishing {
    /// After an attempt that did not end well; what is published when its transaction proves to be
    /// committed.
    pub(super) async fn recover(
        &mut self,
        interrupted: Interrupted,
        batch: &mut Vec<Row>,
        feed: &mut Feed,
        controls: &mut mpsc::Receiver<Control>,
        attempt: u32,
    ) -> Result<Option<Published>, PublisherError> {
        let (failure, is_too_large) = match &interrupted {
            Interrupted::Mishap(mishap) => (mishap.failure, is_too_large(&mishap.source)),
            Interrupted::Refused { source, .. } => {
                let fatal = self.producer.as_ref().and_then(TransactionalProducer::fatal);
                (fatal.unwrap_or(Failure::Condemned), is_too_large(source))
            }
            Interrupted::Lost => (Failure::MustAbort, false),
            Interrupted::Record(_) => {
                let Interrupted::Record(error) = interrupted else { return Ok(None) };
                return Err(error.into());
            }
        };
        let outcome = match failure {
            Failure::MustAbort | Failure::Condemned | Failure::Retry => TransactionOutcome::Aborted,
            Failure::Fenced => TransactionOutcome::Fenced,
            Failure::Unknown => TransactionOutcome::Unknown,
        };
        self.settings.metrics.transaction(outcome);
        traced::note(&mut self.failed, outcome, &interrupted);
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
            return Ok(None);
        }
        self.producer = None;
        if is_too_large {
            self.settings.pen.limits.learn(refused(&interrupted)).await;
        }
        let last = batch.last().map_or(u64::MAX, |row| row.number);
        let tokens: HashMap<i32, u64> =
            self.holdings.iter().map(|(partition, owned)| (*partition, owned.token)).collect();
        let found = self.reconnect(batch, feed, controls, Some(last)).await?;
        self.drop_lost();
        if found.number < self.last_number && !sabotage::is_off(Guard::Position) {
            // the states held here are ahead of the topics: only a new start can make them agree
            return Err(PublisherError::FellBack {
                journal: self.settings.journal.clone(),
                found: found.number,
                told: self.last_number,
            });
        }
        let ours = found.incarnation() == Some(self.settings.incarnation.as_str());
        if !(ours && found.number >= last) {
            return Ok(None);
        }
        tracing::info!(position = found.number, "the transaction proves to be committed");
        // the same draft once more, to know what was committed; its records go nowhere
        let mut draft = Draft::new(&self.settings.pen, &self.settings.journal, &self.holdings);
        for row in batch.iter() {
            if let Err(SendFault::Record(error)) = draft.apply(row, &mut Nowhere) {
                return Err(error.into());
            }
        }
        let mut outcome = draft.into_outcome();
        // a partition that was read again meanwhile has these changes already
        let is_held = |partition: &i32| {
            let token = self.holdings.get(partition).map(|owned| owned.token);
            token.is_some() && token == tokens.get(partition).copied()
        };
        outcome.changes.retain(|(partition, _), _| is_held(partition));
        let committed = Instant::now();
        let steps = Steps {
            began: self.began,
            gathered: None,
            delivered: None,
            committed,
            attempt: self.attempt,
        };
        Ok(Some(self.take_in(outcome, batch, last, steps)))
    }

    /// Makes a producer and reads the position back, for as long as it takes.
    pub(super) async fn reconnect(
        &mut self,
        batch: &[Row],
        feed: &mut Feed,
        controls: &mut mpsc::Receiver<Control>,
        last: Option<u64>,
    ) -> Result<Position, PublisherError> {
        let limits = &self.settings.pen.limits;
        let (bytes, largest) = (limits.batch(), limits.largest());
        let config = self.settings.clients.producer(&self.settings.journal, bytes, largest);
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let error = match TransactionalProducer::connect(&config, &self.settings.metrics, INIT)
            {
                Ok(producer) => match self.read_back(&producer, last).await {
                    Ok(position) => {
                        self.judge(&position)?;
                        self.producer = Some(producer);
                        return Ok(position);
                    }
                    Err(error) => error,
                },
                Err(mishap) => mishap.to_string(),
            };
            if attempt == 1 || attempt.is_multiple_of(12) {
                tracing::warn!(attempt, %error, "kafka is away, publishing waits");
            }
            // before the first time it is not known which rows are published
            if self.found.is_some() {
                self.show_oldest(batch, feed);
            }
            self.obey_for(pause, feed, controls).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads the position back with a producer that was just initialised, and has what earlier
    /// transactions may have left open ended: as aborted, unless the position says that the last of
    /// them, up to row `last`, was committed; then its next records commit the rest.
    async fn read_back(
        &self,
        producer: &TransactionalProducer,
        last: Option<u64>,
    ) -> Result<Position, String> {
        let PublisherSettings { clients, pen, decoder, journal, .. } = &self.settings;
        let read = |patience| position::read(clients, &pen.topics, decoder, journal, patience);
        if !self.settings.is_cleansing {
            return read(position::PATIENCE).map_err(|error| error.to_string());
        }
        let first = read(position::SHORT);
        if let (Ok(position), Some(last)) = (&first, last)
            && position.number >= last
        {
            return first.map_err(|error| error.to_string());
        }
        producer.cleanse(&pen.topics.all()).await.map_err(|mishap| mishap.to_string())?;
        match first {
            Ok(position) => Ok(position),
            // the mark itself stood in what was left open
            Err(_) => read(position::PATIENCE).map_err(|error| error.to_string()),
        }
    }

    /// Ends the process when somebody else publishes from our journal.
    fn judge(&self, position: &Position) -> Result<(), PublisherError> {
        let (Some(start), Some(found)) = (&self.found, position.incarnation()) else {
            return Ok(());
        };
        // the one before us has ended: a mark of its own that is newer than the one found at the start
        // was written by a process that still lives
        let is_as_it_was = start.incarnation() == Some(found) && position.number <= start.number;
        if found == self.settings.incarnation || is_as_it_was {
            return Ok(());
        }
        Err(PublisherError::Foreign {
            journal: self.settings.journal.clone(),
            found: found.to_owned(),
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
