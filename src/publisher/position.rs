//! Where a journal's publishing stands, as Kafka has it.
//!
//! Promises: read under `read_committed` to what was the end when asked; call it after a new
//! producer was initialised, and the last transaction has ended one way or the other.
//!
//! Knows nothing of: transactions in the making.

use std::time::Duration;

use crate::ids::{JournalId, Timestamp};
use crate::journal_mark::JournalMark;
use crate::kafka::{self, Clients, ReadError};
use crate::record::{Decoder, RecordError, Topics};

/// How far a journal has been published, and by which process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last row published; 0 when none was.
    pub number: u64,
    /// The mark that says so; none when there is none.
    pub mark: Option<Box<JournalMark>>,
}

impl Position {
    /// The process that wrote the mark.
    pub fn incarnation(&self) -> Option<&str> {
        self.mark.as_deref().map(|mark| mark.incarnation.as_str())
    }

    /// Until when that process had asked its queues; 1970 when there is no mark.
    pub fn asked_until(&self) -> Timestamp {
        self.mark.as_deref().map(|mark| mark.asked_until).unwrap_or_default()
    }

    /// Until when everything that it had received was published; 1970 when there is no mark.
    pub fn published_until(&self) -> Timestamp {
        self.mark.as_deref().map(|mark| mark.published_until).unwrap_or_default()
    }
}

/// Why a position could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PositionError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// How long the mark is waited for when another instance may be in a transaction.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long when it may be one of ours that the broker left open.
pub(super) const SHORT: Duration = Duration::from_secs(3);

/// Reads the position of `journal` back. Blocks.
pub(super) fn read(
    clients: &Clients,
    topics: &Topics,
    decoder: &Decoder,
    journal: &JournalId,
    patience: Duration,
) -> Result<Position, PositionError> {
    let mut mark = None;
    kafka::read_to_end(clients, &topics.journals, &[0], patience, |record| {
        if record.key == journal.as_str().as_bytes() {
            mark = record.value.map(<[u8]>::to_vec);
        }
    })?;
    let Some(mark) = mark else { return Ok(Position::default()) };
    let mark = decoder.own_journal_mark(&mark)?;
    Ok(Position { number: u64::try_from(mark.position).unwrap_or(0), mark: Some(Box::new(mark)) })
}
