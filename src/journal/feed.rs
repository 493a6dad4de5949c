//! Hands rows to the publisher, in order: from memory as long as it keeps up, else from disk.
//!
//! The last rows written stay in memory, within bounds. What did not fit is read back when its turn
//! comes, so that neither a long outage nor a restart needs memory for what waits.
//!
//! Promises:
//! - every row after the position comes once, in the order of the numbers;
//! - a row that cannot be read is waited for, and said in the log; one that is damaged is passed
//!   over as damage, of which every user is told.
//!
//! Knows nothing of: Kafka.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::row::Row;
use super::seal::Seal;
use super::store::{CHUNK_BYTES, CHUNK_ROWS, Store, StoreFault, Stored};
use super::{Intake, JournalError, Shared};
use crate::credential::SealError;
use crate::ids::Timestamp;
use crate::sabotage::{self, Guard};

/// Rows and bytes that stay in memory for the publisher. Beyond that they are read back.
const TAIL_ROWS: usize = 4096;
const TAIL_BYTES: usize = 16 * 1024 * 1024;
const AGAIN: Duration = Duration::from_secs(1);

/// The rows in memory, between the one who writes them and the publisher.
#[derive(Default)]
pub(super) struct Tail {
    state: Mutex<State>,
    came: Notify,
}

#[derive(Default)]
struct State {
    rows: VecDeque<Row>,
    bytes: usize,
    /// The last row that is on disk.
    written: u64,
    is_closed: bool,
}

impl Tail {
    /// Rows that are on disk now.
    pub(super) fn push(&self, rows: impl Iterator<Item = Row>) {
        {
            let mut state = self.lock();
            for row in rows {
                state.written = row.number;
                let bytes = body_bytes(&row);
                // who asked for a change waits for this very row, of which there are few
                let is_bound = row.settle.is_some();
                let fits = state.rows.len() < TAIL_ROWS && state.bytes + bytes <= TAIL_BYTES;
                // a control without the disk has nowhere to read it back from
                if fits || is_bound || sabotage::is_off(Guard::Journal) {
                    state.bytes += bytes;
                    state.rows.push_back(row);
                }
            }
        }
        self.came.notify_one();
    }

    /// Rows up to `number` are on disk from an earlier process.
    pub(super) fn hold(&self, number: u64) {
        self.lock().written = number;
    }

    /// No row will come any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn body_bytes(row: &Row) -> usize {
    row.change.answer().map_or(0, |answer| answer.body.len())
}

/// Where the publisher takes its rows from.
pub struct Feed {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) seal: Arc<Seal>,
    pub(super) tidy: tokio::sync::mpsc::WeakSender<Intake>,
    pub(super) last: u64,
    pub(super) back: Option<Row>,
    pub(super) loaded: VecDeque<Row>,
}

/// Why a row could not be read back.
#[derive(Debug, thiserror::Error)]
enum FeedFault {
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("row {number} of the journal cannot be opened: {source}")]
    Sealed {
        number: u64,
        #[source]
        source: SealError,
    },
    #[error("row {number} of the journal is none that this version can read")]
    Unknown { number: u64 },
}

impl Feed {
    /// Goes on after `position`, which is published. Numbers given from now on are greater. A
    /// position that does not fit the rows is noted as damage.
    pub fn begin(&mut self, position: u64, published_until: Timestamp) -> Result<(), JournalError> {
        let is_known = published_until > Timestamp::default();
        self.shared.note_published_until(is_known.then_some(published_until));
        let given = self.shared.last_number.load(Ordering::Acquire);
        if !sabotage::is_off(Guard::RowNumbers) {
            self.shared.floor.fetch_max(position, Ordering::AcqRel);
        }
        self.last = position;
        let end = self.store.end_of(position).map_err(|fault| JournalError::unreadable(&fault))?;
        let first = self.store.first().map_err(|fault| JournalError::unreadable(&fault))?;
        let end = end
            .or(first.map(|(_, before)| before))
            .unwrap_or_else(|| self.shared.written_end.load(Ordering::Acquire));
        self.shared.published_end.store(end, Ordering::Release);
        self.shared.published.send_replace(position);
        let is_kept = !sabotage::is_off(Guard::Journal) && !sabotage::is_off(Guard::RowNumbers);
        // rows go only when they were told to be published; the cluster may have lost that since
        let is_hole = first.map_or(position < given, |(first, _)| first > position + 1);
        if is_hole && position < given && is_kept {
            self.shared.note_damage("rows that kafka has lost are gone from the journal too");
        }
        if position > given && is_kept {
            self.shared.note_damage("the journal is older than what was published from it");
        }
        Ok(())
    }

    /// Notes that `ours` publishes from now on. What Kafka has, name and position, is `found`: when it
    /// was written from a copy of the folder, rows of ours may lie before it that are unpublished.
    pub fn published_by(&self, ours: &str, found: Option<(&str, u64)>) -> Result<(), JournalError> {
        let folder = &self.shared.folder;
        let directory = folder.directory();
        let unusable = |source| JournalError::Unusable { directory: directory.to_owned(), source };
        if let Some((found, position)) = found
            && !folder.has_published(found, position).map_err(unusable)?
            && !sabotage::is_off(Guard::Journal)
        {
            let what = "another process has published from a copy of the journal";
            self.shared.note_damage_since(what, self.first_received()?);
        }
        folder.note_publisher(ours, found).map_err(unusable)
    }

    /// When the first answer on disk was received, published or not.
    fn first_received(&self) -> Result<Option<Timestamp>, JournalError> {
        let stored = self.store.read(0, u64::MAX, CHUNK_ROWS, CHUNK_BYTES);
        let stored = stored.map_err(|fault| JournalError::unreadable(&fault))?;
        let received_at = |stored: Stored| {
            let plain = self.seal.open(stored.number, &stored.sealed).ok()?;
            let (_, change) = super::form::read(&plain)?;
            Some(change.answer()?.received_at)
        };
        Ok(stored.into_iter().find_map(received_at))
    }

    /// The next row; none when no row will come any more.
    pub async fn next(&mut self) -> Option<Row> {
        loop {
            let shared = Arc::clone(&self.shared);
            let came = shared.tail.came.notified();
            let mut came = std::pin::pin!(came);
            came.as_mut().enable();
            match self.ready() {
                Ok(Some(row)) => return Some(row),
                Ok(None) if self.is_over() => return None,
                Ok(None) => came.await,
                Err(fault) => {
                    tracing::error!(error = %fault, "the journal cannot be read, publishing waits");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Shows the rows on disk after `after`, up to `until`, in order, to whoever has to know ahead
    /// what they say; they are given in their turn all the same. Damaged ones are left out. False
    /// when one of the others cannot be read, or is not wanted.
    pub fn look_ahead(&self, after: u64, until: u64, mut each: impl FnMut(&Row) -> bool) -> bool {
        let is_whole = self.store.walk(after, until, |stored| {
            self.opened(stored).is_ok_and(|row| row.is_none_or(|row| each(&row)))
        });
        is_whole.unwrap_or(false)
    }

    /// A row as it was written; none when it is damaged: no key mends that, and whatever comes after
    /// must not wait for it.
    fn opened(&self, stored: Stored) -> Result<Option<Row>, FeedFault> {
        let Stored { number, end, sealed } = stored;
        let plain = match self.seal.open(number, &sealed) {
            Ok(plain) => plain,
            Err(SealError::Damaged) => return Ok(None),
            Err(source) => return Err(FeedFault::Sealed { number, source }),
        };
        let (of, change) = super::form::read(&plain).ok_or(FeedFault::Unknown { number })?;
        Ok(Some(Row { number, end, of, change, synced: None, settle: None }))
    }

    /// Every row up to this one was given, or is damaged and will never be.
    pub fn given(&self) -> u64 {
        self.last
    }

    /// A row that is there already.
    pub fn try_next(&mut self) -> Option<Row> {
        // what cannot be read is told by `next`
        self.ready().unwrap_or_default()
    }

    /// Takes back the row given last: it is the next one again.
    pub fn put_back(&mut self, row: Row) {
        self.last = row.number.saturating_sub(1);
        self.back = Some(row);
    }

    /// Every row up to this one is published: its room is free again.
    pub fn published(&self, number: u64, end: Option<u64>) {
        if let Some(end) = end {
            self.shared.published_end.fetch_max(end, Ordering::AcqRel);
        }
        self.shared.published.send_replace(number);
        if let Some(tidy) = self.tidy.upgrade() {
            // it comes again with the next commit
            drop(tidy.try_send(Intake::Tidy));
        }
    }

    /// The last row that is on disk.
    pub fn written(&self) -> u64 {
        self.shared.tail.lock().written
    }

    /// Whether publishing cannot go on, so that asking should not hurry.
    pub fn hold_up(&self, is_held_up: bool) {
        self.shared.is_held_up.store(is_held_up, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        let state = self.shared.tail.lock();
        state.is_closed && self.last >= state.written
    }

    fn ready(&mut self) -> Result<Option<Row>, FeedFault> {
        if let Some(row) = self.back.take() {
            self.last = row.number;
            return Ok(Some(row));
        }
        loop {
            if let Some(row) = self.loaded.pop_front() {
                self.last = row.number;
                return Ok(Some(row));
            }
            let before = {
                let mut state = self.shared.tail.lock();
                while state.rows.front().is_some_and(|row| row.number <= self.last) {
                    let passed = state.rows.pop_front();
                    state.bytes -= passed.as_ref().map_or(0, body_bytes);
                }
                let is_next = state.rows.front().is_some_and(|row| row.number == self.last + 1);
                if is_next && let Some(row) = state.rows.pop_front() {
                    state.bytes -= body_bytes(&row);
                    self.last = row.number;
                    return Ok(Some(row));
                }
                if state.written <= self.last {
                    return Ok(None);
                }
                state.rows.front().map_or(state.written + 1, |row| row.number)
            };
            let stored = self.store.read(self.last, before, CHUNK_ROWS, CHUNK_BYTES)?;
            if stored.is_empty() {
                // nothing has these numbers
                self.last = before - 1;
            }
            let mut passed = 0;
            for stored in stored {
                let number = stored.number;
                if let Some(row) = self.opened(stored)? {
                    self.loaded.push_back(row);
                } else {
                    self.shared.note_damage(&format!("row {number} is damaged"));
                    passed = number;
                }
            }
            if self.loaded.is_empty() {
                self.last = self.last.max(passed);
            }
        }
    }
}
