//! Keeps answers, in order, from the moment they are received until they are published.
//!
//! The seam between asking and decoding: [`Journal::keep`] takes a change and answers when it is
//! kept, which is when its queue may be asked again. In this version rows are kept in memory, so
//! "kept" means "published".
//!
//! Promises:
//! - rows are numbered in the order in which they are handed on, and a number never repeats, not
//!   across restarts either;
//! - the bytes of rows not yet published never exceed `journal.max_bytes`; who would exceed it
//!   waits;
//! - the folder belongs to one process: it is locked, and its UUID names the transactional id.
//!
//! Knows nothing of: what an answer means, Kafka.

mod folder;
mod row;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot};

pub use folder::{Folder, JournalError};
pub use row::{Answer, AnswerKind, Change, Lost, Row, RowOf, Settled, Unsettled};

use crate::metrics::Metrics;

/// Bytes are counted in units of this many, since a semaphore has fewer permits than a disk bytes.
const UNIT: u64 = 256;
/// What a row takes beside its body.
const ROW_BYTES: u64 = 512;

/// Takes changes and says when they are kept. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    last_number: Mutex<u64>,
    room: Arc<Semaphore>,
    capacity: u64,
    rows: mpsc::Sender<Row>,
    kept_bytes: Arc<AtomicU64>,
    kept_rows: Arc<AtomicU64>,
}

impl Journal {
    /// A journal of `max_bytes` that hands its rows to `rows`, numbered after `last_number`.
    pub fn new(max_bytes: u64, last_number: u64, rows: mpsc::Sender<Row>) -> Self {
        let units = usize::try_from(max_bytes / UNIT).unwrap_or(usize::MAX);
        let shared = Shared {
            last_number: Mutex::new(last_number),
            room: Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS))),
            capacity: max_bytes,
            rows,
            kept_bytes: Arc::default(),
            kept_rows: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Hands a change on and waits until it is kept. Waits for room first.
    pub async fn keep(&self, of: RowOf, change: Change) -> Settled {
        let shared = &self.shared;
        let bytes = ROW_BYTES + change.body_bytes() as u64;
        let units = u32::try_from(bytes.min(shared.capacity).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let room = Arc::clone(&shared.room).acquire_many_owned(units).await;
        let permit = shared.rows.reserve().await.map_err(|_| Unsettled::Stopped)?;
        let (settle, settled) = oneshot::channel();
        let held = row::Held::new(room.ok(), bytes, &shared.kept_bytes, &shared.kept_rows);
        {
            // numbered and handed on in one step, so that the order is the order of the numbers
            let mut last = shared.last_number.lock().unwrap_or_else(PoisonError::into_inner);
            *last += 1;
            permit.send(Row { number: *last, of, change, settle, held });
        }
        settled.await.unwrap_or(Err(Unsettled::Stopped))
    }

    /// Shows how much is kept.
    pub fn show(&self, metrics: &Metrics) {
        let bytes = self.shared.kept_bytes.load(Ordering::Relaxed);
        let rows = self.shared.kept_rows.load(Ordering::Relaxed);
        metrics.journal(bytes, self.shared.capacity, rows);
    }
}
