//! The table of questions under way: who would miss an answer if the process ended now.
//!
//! A file of fixed slots, one for each question that may be under way at a time. A slot is written
//! before the question is sent and emptied when what it came to needs no memory any more. It is
//! written and not synced: the system holds it when the process ends, however it ends; when the
//! machine itself fails, the last writes may be lost.
//!
//! Promises:
//! - a question is in the table before a byte of it is sent;
//! - a slot that is dropped without a word stays as it is, and is found at the next start.
//!
//! Knows nothing of: what a question comes to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::row::RowOf;
use crate::ids::{QueueId, Timestamp};

const FILE: &str = "questions";
/// Bytes of a slot. A user id and a queue id of the greatest lengths fit.
const SLOT: usize = 16 * 1024;

/// One question to a queue, as it is written down.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Asking<'a> {
    /// Whom it is about.
    pub of: &'a RowOf,
    /// The queue that is asked.
    pub queue: &'a QueueId,
    /// When the question began.
    pub asked_at: Timestamp,
    /// Start of the last answered question.
    pub answered_before: Timestamp,
}

/// The same as it is found at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct UnderWay {
    /// Whom it is about.
    pub(super) of: RowOf,
    pub(super) queue: QueueId,
    pub(super) asked_at: Timestamp,
    pub(super) answered_before: Timestamp,
}

/// The table. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    places: Mutex<Places>,
    slots: usize,
}

#[derive(Debug)]
struct Places {
    free: Vec<usize>,
    /// Where a question becomes bytes; kept, so that no question allocates.
    bytes: Vec<u8>,
}

/// A question that is in the table until it is [`Slot::over`].
#[derive(Debug)]
#[must_use = "a slot that is dropped counts as a question whose answer was lost"]
pub struct Slot {
    shared: Option<Arc<Shared>>,
    place: usize,
}

impl Questions {
    /// Opens the table of `directory`; answers the questions that were under way when it was left,
    /// and how many slots could not be read. They stay in the table until [`Questions::clear`].
    pub(super) fn open(directory: &Path, slots: usize) -> io::Result<(Self, Vec<UnderWay>, usize)> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(directory.join(FILE))?;
        let (left, unread) = left(&file)?;
        let places = Places { free: (0..slots).rev().collect(), bytes: Vec::new() };
        let shared = Shared { file, places: Mutex::new(places), slots };
        Ok((Self { shared: Arc::new(shared) }, left, unread))
    }

    /// Empties the table, durably: what was left there is accounted for.
    pub(super) fn clear(&self) -> io::Result<()> {
        let Shared { file, slots, .. } = &*self.shared;
        file.set_len(0)?;
        file.set_len((slots * SLOT) as u64)?;
        file.sync_all()
    }

    /// How many questions are under way.
    pub(super) fn count(&self) -> usize {
        self.shared.slots - self.shared.places().free.len()
    }

    /// Writes a question down; none when there is no free slot. `is_off` keeps it out of the file.
    pub(super) fn enter(&self, question: &Asking<'_>, is_off: bool) -> io::Result<Option<Slot>> {
        let mut places = self.shared.places();
        let Some(place) = places.free.pop() else { return Ok(None) };
        let written =
            if is_off { Ok(()) } else { self.shared.write(place, question, &mut places.bytes) };
        match written {
            Ok(()) => Ok(Some(Slot { shared: Some(Arc::clone(&self.shared)), place })),
            Err(fault) => {
                places.free.push(place);
                Err(fault)
            }
        }
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, place: usize, question: &Asking<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        bytes.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *bytes, question)?;
        match u32::try_from(bytes.len() - 4) {
            Ok(length) if bytes.len() <= SLOT => {
                bytes[..4].copy_from_slice(&length.to_le_bytes());
                self.file.write_all_at(bytes, (place * SLOT) as u64)
            }
            _ => Err(io::Error::other("the ids of this user and queue are too long")),
        }
    }
}

impl Slot {
    /// The question needs no memory any more.
    pub fn over(mut self) {
        let Some(shared) = self.shared.take() else { return };
        // what cannot be emptied stays, and costs a suspicion at the next start
        if let Err(error) = shared.file.write_all_at(&[0; 4], (self.place * SLOT) as u64) {
            tracing::warn!(%error, "a question stays in the table of those under way");
        }
        shared.places().free.push(self.place);
    }
}

/// How many questions the table of a folder holds.
pub(super) fn under_way(directory: &Path) -> usize {
    let read = File::open(directory.join(FILE)).and_then(|file| left(&file));
    read.map_or(0, |(left, unread)| left.len() + unread)
}

/// The questions in a file, and how many slots hold something else.
fn left(file: &File) -> io::Result<(Vec<UnderWay>, usize)> {
    let slots = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).div_ceil(SLOT);
    let (mut left, mut unread) = (Vec::new(), 0);
    let mut bytes = vec![0; SLOT];
    for place in 0..slots {
        bytes.fill(0);
        let mut read = 0;
        while read < SLOT {
            match file.read_at(&mut bytes[read..], (place * SLOT + read) as u64)? {
                0 => break,
                more => read += more,
            }
        }
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { continue };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length == 0 {
            continue;
        }
        match rest.get(..length).and_then(|text| serde_json::from_slice(text).ok()) {
            Some(question) => left.push(question),
            None => unread += 1,
        }
    }
    Ok((left, unread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SubscriptionId, UserId};

    fn enter(questions: &Questions, user: &str) -> io::Result<Option<Slot>> {
        let UnderWay { of, queue, asked_at, answered_before } = question(user);
        let asking = Asking { of: &of, queue: &queue, asked_at, answered_before };
        questions.enter(&asking, false)
    }

    fn question(user: &str) -> UnderWay {
        UnderWay {
            of: RowOf {
                user: UserId::from(user),
                partition: 1,
                owner_epoch: 2,
                subscription_id: SubscriptionId::from("wish"),
            },
            queue: QueueId::from("q"),
            asked_at: Timestamp(5),
            answered_before: Timestamp(4),
        }
    }

    #[test]
    fn what_was_not_over_is_found_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (questions, left, unread) = Questions::open(directory.path(), 3).unwrap();
            assert_eq!((left.len(), unread), (0, 0));
            let one = enter(&questions, "one").unwrap().unwrap();
            let two = enter(&questions, "two").unwrap().unwrap();
            let three = enter(&questions, "three").unwrap().unwrap();
            assert!(enter(&questions, "four").unwrap().is_none());
            assert_eq!(questions.count(), 3);
            one.over();
            three.over();
            assert_eq!(questions.count(), 1);
            drop(two);
        }
        let (questions, left, unread) = Questions::open(directory.path(), 3).unwrap();
        assert_eq!((left, unread), (vec![question("two")], 0));
        questions.clear().unwrap();
        let (_, left, unread) = Questions::open(directory.path(), 3).unwrap();
        assert_eq!((left.len(), unread), (0, 0));
    }

    #[test]
    fn a_slot_that_holds_something_else_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), [9, 0, 0, 0, 1, 2, 3]).unwrap();
        let (_, left, unread) = Questions::open(directory.path(), 3).unwrap();
        assert_eq!((left.len(), unread), (0, 1));
    }

    #[test]
    fn ids_too_long_for_a_slot_are_refused_and_give_it_back() {
        let directory = tempfile::tempdir().unwrap();
        let (questions, ..) = Questions::open(directory.path(), 1).unwrap();
        assert!(enter(&questions, &"u".repeat(SLOT)).is_err());
        assert_eq!(questions.count(), 0);
    }
}
