//! Keeps answers, in order, from the moment they are received until they are published.
//!
//! The seam between asking and publishing: [`Journal::keep`] takes a change and answers when it is
//! on disk and synced, which is when its queue may be asked again; a change that somebody asked for
//! is answered when it is published. The publisher takes the rows from a [`Feed`].
//!
//! Promises:
//! - rows are numbered in the order in which they are handed on, and a number never repeats, not
//!   across restarts either;
//! - what is kept is on disk until it is published, sealed, whatever ends the process;
//! - the bytes of rows not yet published never exceed `journal.max_bytes`: a question is admitted
//!   only when there is room for the longest answer it may have;
//! - who was being asked when the process ended is known at the next start;
//! - the folder belongs to one process: it is locked, and its UUID names the transactional id.
//!
//! Knows nothing of: what an answer means, Kafka.

mod feed;
mod folder;
mod form;
mod inspect;
mod questions;
mod row;
mod seal;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use feed::Feed;
pub use folder::{Damage, Folder, JournalError};
pub use inspect::{Holdings, inspect};
pub use questions::{Asking, Slot};
pub use row::{Answer, AnswerKind, Change, Lost, Row, RowOf, Settled, Unsettled};

use crate::credential::KeyRing;
use crate::ids::Timestamp;
use crate::metrics::Metrics;
use crate::sabotage::{self, Guard};
use feed::Tail;
use questions::{Questions, UnderWay};
use seal::Seal;
use store::{Extent, Store, Stored};
use writer::{Intake, Kept, Writer};

/// Unpublished rows from which on asking does not hurry.
const BACKLOG: u64 = 20_000;

/// How much may be kept, and asked at a time.
#[derive(Clone, Copy, Debug)]
pub struct JournalSettings {
    /// The most bytes of unpublished rows.
    pub max_bytes: u64,
    /// The most questions under way.
    pub max_in_flight: usize,
    /// What an ordinary answer takes in memory.
    pub share: u64,
    /// The longest answer that is read.
    pub max_answer: u64,
}

/// How much room there is for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stock {
    /// None: nothing may be asked.
    None,
    /// So little that it is for queues which had nothing to say last: most of them need none.
    Last,
    /// Little: for queues that would die else.
    Scarce,
    /// Enough.
    Plenty,
}

/// Takes changes and says when they are kept. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    intake: mpsc::Sender<Intake>,
    questions: Questions,
    settings: JournalSettings,
}

/// What the writer, the feed and the journal's clones see.
struct Shared {
    folder: Folder,
    tail: Tail,
    /// The last number that was given, on disk.
    last_number: AtomicU64,
    /// Numbers given from now on are greater than this.
    floor: AtomicU64,
    /// The end of the last row on disk, and of the last one that is published.
    written_end: AtomicU64,
    published_end: AtomicU64,
    /// The last row that is published.
    published: watch::Sender<u64>,
    is_failing: AtomicBool,
    is_held_up: AtomicBool,
    published_until: OnceLock<Option<Timestamp>>,
    damage: Mutex<Option<Damage>>,
}

impl Shared {
    /// Remembers, across restarts, that rows are lost and nobody knows whose they were.
    fn note_damage(&self, what: &str) {
        self.note_damage_since(what, None);
    }

    /// The same when everything before `since` is known to be published.
    fn note_damage_since(&self, what: &str, since: Option<Timestamp>) {
        tracing::error!(reason = what, "rows of the journal are lost, its users get gaps");
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        let before = damage.take().and_then(|before| before.since);
        let since = before.into_iter().chain(since).min();
        let since = since.or_else(|| *self.published_until.get()?);
        let noted = damage.insert(Damage { what: what.to_owned(), since });
        if let Err(error) = self.folder.note_damage(noted) {
            tracing::error!(%error, "the damage cannot be written down");
        }
    }

    /// Until when everything was published, as the last mark says, at the start.
    fn note_published_until(&self, until: Option<Timestamp>) {
        // it is told once
        self.published_until.set(until).ok();
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(damage) = damage.as_mut().filter(|damage| damage.since.is_none()) {
            damage.since = until;
            if let Err(error) = self.folder.note_damage(damage) {
                tracing::error!(%error, "the time of the damage cannot be written down");
            }
        }
    }
}

impl Journal {
    /// Opens the rows of `folder` and starts the thread that writes them. Whoever was being asked
    /// when the folder was left, without the answer being on disk, is written down as suspected.
    pub fn open(
        folder: Folder,
        keys: Arc<KeyRing>,
        settings: JournalSettings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Feed), JournalError> {
        let directory = folder.directory().to_owned();
        let directory = directory.as_path();
        let seal = Arc::new(Seal { keys, journal: folder.id().clone() });
        let unreadable = |fault: store::StoreFault| JournalError::unreadable(&fault);
        let (mut store, salvage) = Store::open(directory, |what| {
            // before anything is moved: a kill in the middle must not hide it
            let damage = Damage { what: what.to_owned(), since: None };
            if let Err(error) = folder.note_damage(&folder.damage().unwrap_or(damage)) {
                tracing::error!(%error, "the damage cannot be written down");
            }
        })
        .map_err(unreadable)?;
        let reader = Store::open_to_read(directory).map_err(unreadable)?;
        let extent = store.extent().map_err(unreadable)?;
        let extent = if sabotage::is_off(Guard::RowNumbers) {
            let first = store.first().map_err(unreadable)?;
            Extent { last_number: first.map_or(0, |_| extent.last_number), ..extent }
        } else {
            extent
        };
        let shared = Arc::new(Shared {
            tail: Tail::default(),
            last_number: AtomicU64::new(extent.last_number),
            floor: AtomicU64::new(0),
            written_end: AtomicU64::new(extent.end),
            published_end: AtomicU64::new(0),
            published: watch::channel(0).0,
            is_failing: AtomicBool::new(false),
            is_held_up: AtomicBool::new(false),
            published_until: OnceLock::new(),
            damage: Mutex::new(folder.damage()),
            folder,
        });
        if let Some(salvage) = salvage {
            shared.note_damage(&format!(
                "the file was damaged and is now {}, {} rows before the damage are kept",
                salvage.aside.display(),
                salvage.rows
            ));
        }
        let is_kept = !sabotage::is_off(Guard::RowNumbers);
        if extent.last_number < shared.folder.last_synced() && is_kept {
            shared.note_damage("rows that were synced are gone, the log of the rows was damaged");
        }
        let unusable = |source| JournalError::Unusable { directory: directory.to_owned(), source };
        let (questions, left, unread) =
            Questions::open(directory, settings.max_in_flight).map_err(unusable)?;
        if unread > 0 {
            shared.note_damage("the table of questions under way cannot be read");
        }
        let mut last = extent;
        // a source that repeats what did not arrive cannot know that who had it was killed
        if !left.is_empty() {
            last = suspect(&mut store, &seal, &left, extent).map_err(unreadable)?;
        }
        questions.clear().map_err(unusable)?;
        shared.last_number.store(last.last_number, Ordering::Release);
        shared.written_end.store(last.end, Ordering::Release);
        shared.tail.hold(last.last_number);

        let (intake, taken) = mpsc::channel(settings.max_in_flight.clamp(64, 65_536));
        let feed = Feed {
            shared: Arc::clone(&shared),
            store: reader,
            seal: Arc::clone(&seal),
            tidy: intake.downgrade(),
            last: 0,
            back: None,
            loaded: std::collections::VecDeque::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(unusable)?;
        let noted = shared.folder.last().map_err(unusable)?;
        let shared_by_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let writing = async {
                    let writer = Writer {
                        store,
                        seal,
                        shared: shared_by_writer,
                        intake: taken,
                        metrics,
                        number: last.last_number,
                        end: last.end,
                        last: noted,
                        tidied: Instant::now(),
                        to_forget: 0,
                    };
                    writer.run().await;
                };
                runtime.block_on(writing);
            })
            .map_err(unusable)?;
        Ok((Self { shared, intake, questions, settings }, feed))
    }

    /// Has a change kept: on disk and synced, or, when somebody asked for it, published.
    pub async fn keep(&self, of: RowOf, change: Change) -> Settled {
        let (settle, settled) = oneshot::channel();
        let kept = Kept { of, change, came: Instant::now(), settle };
        let sent = self.intake.send(Intake::Keep(Box::new(kept))).await;
        sent.map_err(|_| Unsettled::Stopped)?;
        settled.await.unwrap_or(Err(Unsettled::Stopped))
    }

    /// Writes down that a queue is asked from now on; none when it may not be asked, for want of a
    /// slot or of a table that can be written.
    pub fn enter(&self, question: &Asking<'_>) -> Option<Slot> {
        match self.questions.enter(question, sabotage::is_off(Guard::Questions)) {
            Ok(slot) => slot,
            Err(error) => {
                tracing::error!(user = %question.of.user, %error, "a queue cannot be asked, the table of questions cannot be written");
                None
            }
        }
    }

    /// How much room there is for one more answer.
    pub fn stock(&self) -> Stock {
        if self.shared.is_failing.load(Ordering::Acquire) {
            return Stock::None;
        }
        let JournalSettings { max_bytes, share, max_answer, .. } = self.settings;
        let expected = (self.questions.count() as u64 + 1) * share + max_answer;
        let left = max_bytes.saturating_sub(self.bytes());
        if left < expected {
            Stock::None
        } else if left < max_bytes / 16 {
            Stock::Last
        } else if left < max_bytes / 4 {
            Stock::Scarce
        } else {
            Stock::Plenty
        }
    }

    /// Whether publishing is held up or far behind: asking should go on, and not hurry.
    pub fn is_behind(&self) -> bool {
        self.shared.is_held_up.load(Ordering::Relaxed) || self.rows() > BACKLOG
    }

    /// The last number that was given.
    pub fn last_number(&self) -> u64 {
        self.shared.last_number.load(Ordering::Acquire)
    }

    /// Waits until everything that is on disk now is published.
    pub async fn drained(&self) {
        let last = self.shared.last_number.load(Ordering::Acquire);
        let mut published = self.shared.published.subscribe();
        // the sender is in our own hands
        drop(published.wait_for(|number| *number >= last).await);
    }

    /// What made rows unreadable, if that happened and not every user has been told.
    pub fn damage(&self) -> Option<Damage> {
        self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every user has been told of the damage.
    pub fn damage_is_told(&self) {
        *self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.shared.folder.forget_damage() {
            tracing::warn!(%error, "the users are told of the damage once more at the next start");
        }
    }

    /// Shows how much is kept.
    pub fn show(&self, metrics: &Metrics) {
        let is_failing = self.shared.is_failing.load(Ordering::Acquire);
        metrics.journal(self.bytes(), self.settings.max_bytes, self.rows(), is_failing);
    }

    fn bytes(&self) -> u64 {
        let published = self.shared.published_end.load(Ordering::Acquire);
        self.shared.written_end.load(Ordering::Acquire).saturating_sub(published)
    }

    fn rows(&self) -> u64 {
        let published = *self.shared.published.borrow();
        self.shared.last_number.load(Ordering::Acquire).saturating_sub(published)
    }
}

/// Writes down who was being asked and has no answer on disk; answers what the file holds then.
fn suspect(
    store: &mut Store,
    seal: &Seal,
    left: &[UnderWay],
    extent: Extent,
) -> Result<Extent, store::StoreFault> {
    let mut missing: Vec<&UnderWay> = left.iter().collect();
    store.walk(0, u64::MAX, |row| {
        // what cannot be opened is told by the feed
        let opened = seal.open(row.number, &row.sealed).ok().and_then(|plain| form::read(&plain));
        let Some((of, change)) = opened else { return true };
        let Some(answer) = change.answer() else { return true };
        // an answer that is no list is followed by a suspicion, which may be missing
        if matches!(change, Change::Answered(_)) && matches!(answer.kind, AnswerKind::Unreadable(_))
        {
            return true;
        }
        missing.retain(|question| {
            question.of.user != of.user
                || question.queue != answer.queue
                || question.asked_at != answer.asked_at
        });
        true
    })?;
    let at = Timestamp::now();
    let Extent { last_number: mut number, mut end } = extent;
    let mut rows = Vec::with_capacity(missing.len());
    let mut plain = Vec::new();
    for question in missing {
        let change = Change::Suspected { since: question.answered_before, at };
        plain.clear();
        number += 1;
        if form::write(&question.of, &change, &mut plain)
            && let Ok(sealed) = seal.close(number, &plain)
        {
            end += sealed.len() as u64 + writer::ROW_BYTES;
            rows.push(Stored { number, end, sealed });
        }
    }
    if !rows.is_empty() {
        tracing::warn!(
            users = rows.len(),
            "queues were being asked when the last process ended, what they may have given is suspected lost"
        );
        store.append(&rows, || {})?;
    }
    Ok(Extent { last_number: number, end })
}
