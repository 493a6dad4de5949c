//! Sealed rows in an SQLite file, by number.
//!
//! Promises:
//! - [`Store::append`] answers Ok when all its rows are synced, else none of them is there after a
//!   restart;
//! - a number that was used is never taken for a new one, not when all rows are gone either
//!   (`AUTOINCREMENT`);
//! - a file that is damaged is set aside as it is, and every row before the damage is carried over
//!   into a new one.
//!
//! Knows nothing of: what the sealed bytes are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

const FILE: &str = "rows.db";
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    end INTEGER NOT NULL,
    sealed BLOB NOT NULL
) STRICT";
/// Bytes of a page. An answer of five events takes a quarter of one.
const PAGE: u32 = 16 * 1024;
/// Pages of the log that are carried over into the file at once: 16 MiB.
const CHECKPOINT: u32 = 1024;
/// What a page's cache may hold, in KiB.
const CACHE_KIB: i32 = 8 * 1024;
/// What is read back at once.
pub(super) const CHUNK_ROWS: usize = 512;
pub(super) const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// How long to wait for the other connection, which only reads.
const BUSY: Duration = Duration::from_secs(10);

/// A row as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) number: u64,
    pub(super) end: u64,
    pub(super) sealed: Vec<u8>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The greatest number that was ever given; 0 when none was.
    pub(super) last_number: u64,
    /// The end of the last row; 0 when there is none.
    pub(super) end: u64,
}

/// What setting a damaged file aside came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Salvage {
    /// Where the damaged file is now.
    pub(super) aside: PathBuf,
    /// How many rows were carried over.
    pub(super) rows: u64,
}

/// Why the file did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", self.advice())]
pub(super) struct StoreFault {
    #[from]
    source: rusqlite::Error,
}

impl StoreFault {
    fn advice(&self) -> &'static str {
        match self.source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "the journal's disk is full, make room on it",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                "the journal cannot be written, make journal.directory writable again"
            }
            _ => "the journal's file does not work, look at its disk",
        }
    }

    pub(super) fn is_damage(&self) -> bool {
        matches!(
            self.source.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    }
}

/// One connection to the file.
pub(super) struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file of `directory` for writing; makes it when it is not there, and carries over
    /// what can be read when it is damaged.
    /// `damaged` is called before anything is moved.
    pub(super) fn open(
        directory: &Path,
        damaged: impl FnOnce(&str),
    ) -> Result<(Self, Option<Salvage>), StoreFault> {
        let path = directory.join(FILE);
        match Self::sound(&path) {
            Ok(store) => Ok((store, None)),
            Err(fault) if fault.is_damage() => {
                damaged("the file of the rows was damaged");
                let (store, salvage) = salvage(directory, &path)?;
                Ok((store, Some(salvage)))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Opens the file of `directory` for reading beside the one who writes.
    pub(super) fn open_to_read(directory: &Path) -> Result<Self, StoreFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(directory.join(FILE), flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self { connection })
    }

    fn sound(path: &Path) -> Result<Self, StoreFault> {
        let store = Self::made(path)?;
        let verdict: String =
            store.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict == "ok" { Ok(store) } else { Err(damaged(&verdict)) }
    }

    fn made(path: &Path) -> Result<Self, StoreFault> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "page_size", PAGE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.execute(SCHEMA, [])?;
        Ok(Self { connection })
    }

    /// What the file holds.
    pub(super) fn extent(&self) -> Result<Extent, StoreFault> {
        let given: Option<u64> = self
            .connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'rows'", [], |row| row.get(0))
            .optional()?;
        let last: Option<(u64, u64)> = self
            .connection
            .query_row("SELECT number, end FROM rows ORDER BY number DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (number, end) = last.unwrap_or_default();
        Ok(Extent { last_number: given.unwrap_or(0).max(number), end })
    }

    /// The end of the last row up to `number`; none when there is none.
    pub(super) fn end_of(&self, number: u64) -> Result<Option<u64>, StoreFault> {
        let sql = "SELECT end FROM rows WHERE number <= ?1 ORDER BY number DESC LIMIT 1";
        let end = self.connection.query_row(sql, [number], |row| row.get(0)).optional()?;
        Ok(end)
    }

    /// The number and the end before the first row; none when there is none.
    pub(super) fn first(&self) -> Result<Option<(u64, u64)>, StoreFault> {
        let sql = "SELECT number, end - length(sealed) FROM rows ORDER BY number LIMIT 1";
        let first =
            self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(first)
    }

    /// Writes rows and syncs them; `before_sync` is called when they are written and not synced.
    pub(super) fn append(
        &mut self,
        rows: &[Stored],
        before_sync: impl FnOnce(),
    ) -> Result<(), StoreFault> {
        let transaction = self.connection.transaction()?;
        {
            let sql = "INSERT INTO rows (number, end, sealed) VALUES (?1, ?2, ?3)";
            let mut insert = transaction.prepare_cached(sql)?;
            for row in rows {
                insert.execute(params![row.number, row.end, row.sealed])?;
            }
        }
        before_sync();
        transaction.commit()?;
        Ok(())
    }

    /// Removes every row up to `number`.
    pub(super) fn forget(&self, number: u64) -> Result<usize, StoreFault> {
        let mut delete = self.connection.prepare_cached("DELETE FROM rows WHERE number <= ?1")?;
        Ok(delete.execute([number])?)
    }

    /// Shows rows after `after`, up to `until`, in order, for as long as they are wanted; whether all
    /// of them were.
    pub(super) fn walk(
        &self,
        after: u64,
        until: u64,
        mut each: impl FnMut(Stored) -> bool,
    ) -> Result<bool, StoreFault> {
        let mut last = after;
        loop {
            let rows = self.read(last, until.saturating_add(1), CHUNK_ROWS, CHUNK_BYTES)?;
            let Some(end) = rows.last() else { return Ok(true) };
            last = end.number;
            if !rows.into_iter().all(&mut each) {
                return Ok(false);
            }
        }
    }

    /// Rows after `after` and before `before`, in order, at most `rows` of them and, past the
    /// first, at most `bytes`.
    pub(super) fn read(
        &self,
        after: u64,
        before: u64,
        rows: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, StoreFault> {
        let sql = "SELECT number, end, sealed FROM rows WHERE number > ?1 AND number < ?2 \
                   ORDER BY number";
        let mut select = self.connection.prepare_cached(sql)?;
        // numbers of SQLite are signed
        let before = before.min(i64::MAX as u64);
        let mut found = select.query([after, before])?;
        let (mut stored, mut taken) = (Vec::new(), 0);
        while stored.len() < rows && taken < bytes {
            let Some(row) = found.next()? else { break };
            let sealed: Vec<u8> = row.get(2)?;
            taken += sealed.len();
            stored.push(Stored { number: row.get(0)?, end: row.get(1)?, sealed });
        }
        Ok(stored)
    }
}

fn damaged(verdict: &str) -> StoreFault {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    StoreFault { source: rusqlite::Error::SqliteFailure(code, Some(verdict.to_owned())) }
}

/// Sets a damaged file aside and carries its rows, up to the damage, over into a new one.
fn salvage(directory: &Path, path: &Path) -> Result<(Store, Salvage), StoreFault> {
    let mut number = 1;
    let aside = loop {
        let aside = directory.join(format!("{FILE}.damaged-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    for suffix in ["", "-wal", "-shm"] {
        let from = with(path, suffix);
        if from.exists() {
            std::fs::rename(&from, with(&aside, suffix)).map_err(|error| {
                damaged(&format!("the damaged file cannot be set aside: {error}"))
            })?;
        }
    }
    let mut store = Store::made(path)?;
    let mut carried = 0;
    // a file that cannot even be opened holds nothing that could be carried over
    if let Ok(old) = Connection::open(&aside).map(|connection| Store { connection }) {
        let mut last = 0;
        while let Ok(rows) = old.read(last, u64::MAX, 1, usize::MAX) {
            let Some(row) = rows.last() else { break };
            last = row.number;
            store.append(&rows, || {})?;
            carried += 1;
        }
    }
    Ok((store, Salvage { aside, rows: carried }))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64, bytes: usize) -> Stored {
        Stored {
            number,
            end: number * 100,
            sealed: vec![u8::try_from(number % 251).unwrap(); bytes],
        }
    }

    fn numbers(rows: &[Stored]) -> Vec<u64> {
        rows.iter().map(|row| row.number).collect()
    }

    #[test]
    fn rows_are_read_back_in_order_and_in_bounded_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, salvage) = Store::open(directory.path(), |_| {}).unwrap();
        assert_eq!(salvage, None);
        store.append(&[row(1, 10), row(2, 10), row(3, 10)], || {}).unwrap();
        let reader = Store::open_to_read(directory.path()).unwrap();
        assert_eq!(numbers(&reader.read(0, u64::MAX, 10, 1000).unwrap()), [1, 2, 3]);
        assert_eq!(numbers(&reader.read(1, 3, 10, 1000).unwrap()), [2]);
        assert_eq!(numbers(&reader.read(0, u64::MAX, 2, 1000).unwrap()), [1, 2]);
        assert_eq!(numbers(&reader.read(0, u64::MAX, 10, 11).unwrap()), [1, 2]);
        assert_eq!(reader.read(0, 2, 1, 1).unwrap(), [row(1, 10)]);
    }

    #[test]
    fn a_number_is_remembered_when_its_row_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut store, _) = Store::open(directory.path(), |_| {}).unwrap();
            store.append(&[row(1, 10), row(7, 10)], || {}).unwrap();
            assert_eq!(store.forget(7).unwrap(), 2);
        }
        let (store, _) = Store::open(directory.path(), |_| {}).unwrap();
        assert_eq!(store.extent().unwrap(), Extent { last_number: 7, end: 0 });
        assert_eq!(store.first().unwrap(), None);
    }

    #[test]
    fn a_torn_tail_of_the_log_costs_the_rows_that_were_not_synced_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(directory.path(), |_| {}).unwrap();
        store.append(&[row(1, 100)], || {}).unwrap();
        store.append(&[row(2, 100)], || {}).unwrap();
        // as a machine that lost its power might leave it: the log ends in the middle
        for name in ["rows.db", "rows.db-wal"] {
            std::fs::copy(directory.path().join(name), other.path().join(name)).unwrap();
        }
        let log = other.path().join("rows.db-wal");
        let length = std::fs::metadata(&log).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 9).unwrap();
        let (store, salvage) = Store::open(other.path(), |_| {}).unwrap();
        assert_eq!(salvage, None);
        assert_eq!(numbers(&store.read(0, u64::MAX, 9, 9999).unwrap()), [1]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_what_comes_before_the_damage_is_carried_over() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut store, _) = Store::open(directory.path(), |_| {}).unwrap();
            for number in 1..=40 {
                store.append(&[row(number, 9_000)], || {}).unwrap();
            }
        }
        let path = directory.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let (from, page) = (bytes.len() / 2, PAGE as usize);
        bytes[from / page * page..][..page].fill(0xA5);
        std::fs::write(&path, &bytes).unwrap();
        let mut told = false;
        let (store, salvage) = Store::open(directory.path(), |_| told = true).unwrap();
        let salvage = salvage.unwrap();
        assert!(told);
        let found = store.read(0, u64::MAX, 99, usize::MAX).unwrap();
        assert!(salvage.rows > 0 && salvage.rows < 40, "{salvage:?}");
        assert_eq!(numbers(&found), (1..=salvage.rows).collect::<Vec<u64>>());
        assert_eq!(found[0], row(1, 9_000));
        assert_eq!(std::fs::read(salvage.aside).unwrap(), bytes);
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), vec![7; 40_000]).unwrap();
        let (store, salvage) = Store::open(directory.path(), |_| {}).unwrap();
        assert_eq!(salvage.unwrap().rows, 0);
        assert_eq!(store.extent().unwrap(), Extent::default());
    }
}
