//! What a folder holds, for a person; whoever writes it may go on.
//!
//! Promises: reads only; shows ids, times and lengths, never what was received.
//!
//! Knows nothing of: what is published already, which only Kafka knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::folder::{Damage, Folder, JournalError};
use super::questions;
use super::row::Change;
use super::seal::Seal;
use super::store::Store;
use super::{form, writer};
use crate::credential::KeyRing;
use crate::ids::{JournalId, Timestamp, UserId};

/// What a journal's folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// The journal's UUID.
    pub id: Option<JournalId>,
    /// How many rows there are, published ones that are not removed yet among them.
    pub rows: u64,
    /// The first and the last number; none when there is no row.
    pub numbers: Option<(u64, u64)>,
    /// The last number that was ever given.
    pub last_given: u64,
    /// What the rows take, in bytes.
    pub bytes: u64,
    /// How many rows of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// How many users they are about.
    pub users: usize,
    /// When the first and the last of the answers were received.
    pub received: Option<(Timestamp, Timestamp)>,
    /// Rows that no key of ours opens, or that this version cannot read.
    pub unread: u64,
    /// Questions that are under way, or were when the process ended.
    pub under_way: usize,
    /// What made rows unreadable, as long as not every user was told.
    pub damage: Option<Damage>,
}

/// Looks into the folder `directory`.
pub fn inspect(directory: &Path, keys: KeyRing) -> Result<Holdings, JournalError> {
    let id = Folder::read_id(directory)?;
    let unreadable = |fault: super::store::StoreFault| JournalError::unreadable(&fault);
    let store = Store::open_to_read(directory).map_err(unreadable)?;
    let seal = Seal { keys: Arc::new(keys), journal: id.clone() };
    let mut holdings = Holdings {
        last_given: store.extent().map_err(unreadable)?.last_number,
        under_way: questions::under_way(directory),
        damage: Folder::read_damage(directory),
        ..Holdings::default()
    };
    let mut users: BTreeSet<UserId> = BTreeSet::new();
    let walked = store.walk(0, u64::MAX, |row| {
        let first = holdings.numbers.map_or(row.number, |(first, _)| first);
        holdings.numbers = Some((first, row.number));
        holdings.rows += 1;
        holdings.bytes += row.sealed.len() as u64 + writer::ROW_BYTES;
        let plain = seal.open(row.number, &row.sealed).ok();
        let Some((of, change)) = plain.and_then(|plain| form::read(&plain)) else {
            holdings.unread += 1;
            return true;
        };
        users.insert(of.user);
        *holdings.kinds.entry(kind_of(&change)).or_default() += 1;
        if let Some(answer) = change.answer() {
            let at = answer.received_at;
            let (first, last) = holdings.received.unwrap_or((at, at));
            holdings.received = Some((first.min(at), last.max(at)));
        }
        true
    });
    walked.map_err(unreadable)?;
    holdings.users = users.len();
    holdings.id = Some(id);
    Ok(holdings)
}

impl fmt::Display for Holdings {
    fn fmt(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = &self.id {
            writeln!(page, "journal: {id}")?;
        }
        match self.numbers {
            None => writeln!(page, "rows: none")?,
            Some((first, last)) => {
                writeln!(page, "rows: {} ({first} to {last}), {} bytes", self.rows, self.bytes)?;
            }
        }
        for (kind, count) in &self.kinds {
            writeln!(page, "  {kind}: {count}")?;
        }
        if let Some((first, last)) = self.received {
            writeln!(page, "received: {first} to {last}")?;
        }
        writeln!(page, "users: {}", self.users)?;
        writeln!(page, "last number given: {}", self.last_given)?;
        if self.unread > 0 {
            let advice = "put the key they were sealed by back into credentials.key_file";
            writeln!(page, "cannot be opened: {} rows; {advice}", self.unread)?;
        }
        if let Some(damage) = &self.damage {
            writeln!(page, "damaged: {}", damage.what)?;
        }
        write!(page, "questions under way: {}", self.under_way)
    }
}

fn kind_of(change: &Change) -> &'static str {
    match change {
        Change::Answered(_) => "answers",
        Change::AnswerLost(..) => "answers lost in part",
        Change::Missed(_) => "losses",
        Change::QueueReplaced { .. } => "dead queues replaced",
        Change::Suspected { .. } => "suspicions",
        Change::Unsuspected => "suspicions lifted",
        Change::Subscribed(_)
        | Change::CredentialChanged(_)
        | Change::Adopted(..)
        | Change::Removed
        | Change::Withdrawn => "changes asked for",
    }
}
