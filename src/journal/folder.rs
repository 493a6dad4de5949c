//! The journal's folder: its UUID, its format version, its lock.
//!
//! Promises:
//! - one process at a time: the lock is held until the folder is dropped, and the system lets go
//!   of it when the process ends, however it ends;
//! - the UUID is written durably before it is used, and never changes.
//!
//! Knows nothing of: rows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ids::{JournalId, Timestamp};

/// Holds the format and the UUID.
const JOURNAL: &str = "journal";
const FORMAT: &str = "linxo-bridge journal 1";
/// Holds the last number whose row is synced, so that a log which ends before it is noticed: its
/// reader takes a damaged frame for the end.
const LAST: &str = "last";
/// Holds who publishes from the folder, and, on the second line, the position that it found.
const PUBLISHER: &str = "publisher";
/// Is there as long as users have to be told that rows were lost.
const DAMAGE: &str = "damage";

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error(
        "the journal in {} is in use by another process; give each instance a folder of its own \
         (journal.directory)", .0.display()
    )]
    InUse(PathBuf),
    /// The folder cannot be used.
    #[error("the journal in {} cannot be used; make journal.directory a writable folder on a local disk", .directory.display())]
    Unusable {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder was written by another version, or is no journal.
    #[error(
        "the folder {} holds no journal that this version can read; restore it, or give \
         journal.directory another folder", .0.display()
    )]
    Unknown(PathBuf),
    /// The rows cannot be read or written.
    #[error("the journal's rows cannot be used: {0}")]
    Rows(String),
}

impl JournalError {
    pub(super) fn unreadable(fault: &super::store::StoreFault) -> Self {
        Self::Rows(fault.to_string())
    }
}

/// Rows are lost, and nobody knows whose they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What happened.
    pub what: String,
    /// All that was received before is published; none when that is not known.
    pub since: Option<Timestamp>,
}

/// The locked folder.
#[derive(Debug)]
pub struct Folder {
    id: JournalId,
    directory: PathBuf,
    #[expect(dead_code, reason = "held for its lock")]
    lock: File,
}

impl Folder {
    /// Opens the journal in `directory`, or makes one there.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let unusable = |source| JournalError::Unusable { directory: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse(directory.to_owned()));
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let id = match std::fs::read_to_string(directory.join(JOURNAL)) {
            Ok(text) => parse(&text).ok_or_else(|| JournalError::Unknown(directory.to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(directory).map_err(unusable)?
            }
            Err(source) => return Err(unusable(source)),
        };
        Ok(Self { id, directory: directory.to_owned(), lock })
    }

    /// Opens the journal that is in `directory`; makes none.
    pub fn open_existing(directory: &Path) -> Result<Self, JournalError> {
        Self::read_id(directory)?;
        Self::open(directory)
    }

    /// The UUID of the journal in `directory`, whoever uses it.
    pub(super) fn read_id(directory: &Path) -> Result<JournalId, JournalError> {
        let text = std::fs::read_to_string(directory.join(JOURNAL))
            .map_err(|source| JournalError::Unusable { directory: directory.to_owned(), source })?;
        parse(&text).ok_or_else(|| JournalError::Unknown(directory.to_owned()))
    }

    /// What made rows of the journal in `directory` unreadable.
    pub(super) fn read_damage(directory: &Path) -> Option<Damage> {
        let text = std::fs::read_to_string(directory.join(DAMAGE)).ok()?;
        let (since, what) = text.split_once(' ').unwrap_or(("", &text));
        let since = since.parse().ok().map(Timestamp);
        Some(Damage { what: what.to_owned(), since })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What made rows unreadable, as long as not every user has been told.
    pub(super) fn damage(&self) -> Option<Damage> {
        Self::read_damage(&self.directory)
    }

    /// Writes down, durably, that rows are lost.
    pub(super) fn note_damage(&self, damage: &Damage) -> io::Result<()> {
        let since = damage.since.map_or_else(|| "-".to_owned(), |since| since.0.to_string());
        write_durably(&self.directory, DAMAGE, format!("{since} {}", damage.what).as_bytes())
    }

    /// The last number whose row is synced, as far as was noted. It is written and not synced: a
    /// killed process leaves it exact, a machine without power may leave it behind.
    pub(super) fn last_synced(&self) -> u64 {
        let bytes = std::fs::read(self.directory.join(LAST)).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// Where the last number is noted.
    pub(super) fn last(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).open(self.directory.join(LAST))
    }

    /// Whether a position that `incarnation` wrote came from this folder, and not from a copy of it:
    /// from who published last, or as that one found it.
    pub(super) fn has_published(&self, incarnation: &str, position: u64) -> io::Result<bool> {
        let text = match std::fs::read_to_string(self.directory.join(PUBLISHER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read?,
        };
        let mut lines = text.lines();
        let is_last = lines.next() == Some(incarnation);
        let found = lines.next().and_then(|line| line.split_once(' '));
        let is_found = found.is_some_and(|(before, number)| {
            before == incarnation && number.parse().is_ok_and(|number: u64| position <= number)
        });
        Ok(is_last || is_found)
    }

    /// Writes down, durably, that `ours` publishes from now on, and what it found.
    pub(super) fn note_publisher(&self, ours: &str, found: Option<(&str, u64)>) -> io::Result<()> {
        let found = found.map(|(before, number)| format!("{before} {number}\n"));
        let text = format!("{ours}\n{}", found.unwrap_or_default());
        write_durably(&self.directory, PUBLISHER, text.as_bytes())
    }

    /// Every user has been told.
    pub(super) fn forget_damage(&self) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(DAMAGE))
    }

    /// The journal's UUID.
    pub fn id(&self) -> &JournalId {
        &self.id
    }
}

fn parse(text: &str) -> Option<JournalId> {
    let id = text.strip_prefix(FORMAT)?.strip_prefix('\n')?.strip_suffix('\n')?;
    uuid::Uuid::parse_str(id).ok()?;
    Some(JournalId::from(id))
}

fn make(directory: &Path) -> io::Result<JournalId> {
    let id = JournalId::random();
    write_durably(directory, JOURNAL, format!("{FORMAT}\n{id}\n").as_bytes())?;
    Ok(id)
}

/// Writes a file of the folder whole or not at all.
fn write_durably(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_made_once_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let first = Folder::open(directory.path()).unwrap().id().clone();
        let second = Folder::open(directory.path()).unwrap().id().clone();
        assert_eq!(first, second);
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_lives() {
        let directory = tempfile::tempdir().unwrap();
        let first = Folder::open(directory.path()).unwrap();
        let second = Folder::open(directory.path());
        assert!(matches!(second, Err(JournalError::InUse(_))));
        drop(first);
        assert!(Folder::open(directory.path()).is_ok());
    }

    #[test]
    fn a_position_that_came_from_a_copy_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path()).unwrap();
        assert!(!folder.has_published("stranger", 1).unwrap());
        folder.note_publisher("first", None).unwrap();
        assert!(folder.has_published("first", 9).unwrap());
        // a process that found what the first one wrote, and has not published yet
        folder.note_publisher("second", Some(("first", 9))).unwrap();
        assert!(folder.has_published("first", 9).unwrap());
        assert!(folder.has_published("second", 12).unwrap());
        assert!(!folder.has_published("first", 10).unwrap(), "the first one lives, with a copy");
        assert!(!folder.has_published("stranger", 12).unwrap());
    }

    #[test]
    fn a_folder_of_another_format_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        std::fs::write(&path, "linxo-bridge journal 9\nsomething\n").unwrap();
        assert!(matches!(Folder::open(directory.path()), Err(JournalError::Unknown(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "linxo-bridge journal 9\nsomething\n");
    }
}
