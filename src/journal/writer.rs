//! Writes rows to disk, as many at a time as came while the last ones were synced.
//!
//! Promises:
//! - whoever waits is told that a row is kept only when it is synced;
//! - a disk that does not take rows is tried again for as long as it takes, and nothing is asked
//!   meanwhile; no row is dropped for it.
//!
//! Knows nothing of: what the rows say.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::row::{Change, Row, RowOf, Settled};
use super::seal::Seal;
use super::store::{Store, Stored};
use super::{Shared, form};
use crate::metrics::{Metrics, Stage};
use crate::sabotage::{self, CrashPoint, Guard};

/// Rows that are synced at once.
const GROUP: usize = 1024;
/// What a row takes on disk beside its sealed bytes.
pub(super) const ROW_BYTES: u64 = 64;
const TIDY_EVERY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the writer is told.
pub(super) enum Intake {
    /// Keep this.
    Keep(Box<Kept>),
    /// Rows were published: what is not needed may go.
    Tidy,
}

/// A change on its way to disk.
pub(super) struct Kept {
    pub(super) of: RowOf,
    pub(super) change: Change,
    pub(super) came: Instant,
    pub(super) settle: oneshot::Sender<Settled>,
}

pub(super) struct Writer {
    pub(super) store: Store,
    pub(super) seal: Arc<Seal>,
    pub(super) shared: Arc<Shared>,
    pub(super) intake: mpsc::Receiver<Intake>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) number: u64,
    pub(super) end: u64,
    /// Holds the last number whose row is synced.
    pub(super) last: File,
    pub(super) tidied: Instant,
    /// What was published when the file was tidied last. It goes at the next time: what the table
    /// of questions may still name is there for a while longer.
    pub(super) to_forget: u64,
}

impl Writer {
    /// Runs until nobody can keep anything any more.
    pub(super) async fn run(mut self) {
        let mut came = Vec::with_capacity(GROUP);
        while self.intake.recv_many(&mut came, GROUP).await > 0 {
            let is_tidy = came.iter().any(|intake| matches!(intake, Intake::Tidy));
            let kept = came.drain(..).filter_map(|intake| match intake {
                Intake::Keep(kept) => Some(*kept),
                Intake::Tidy => None,
            });
            let kept: Vec<Kept> = kept.collect();
            if !kept.is_empty() {
                self.keep(kept).await;
            }
            if is_tidy {
                self.tidy();
            }
        }
        self.tidy();
        self.shared.tail.close();
    }

    async fn keep(&mut self, kept: Vec<Kept>) {
        self.number = self.number.max(self.shared.floor.load(Ordering::Acquire));
        let mut stored = Vec::with_capacity(kept.len());
        let mut plain = Vec::new();
        for Kept { of, change, .. } in &kept {
            self.number += 1;
            plain.clear();
            let sealed = loop {
                // neither fails but for a system without random bytes
                if form::write(of, change, &mut plain)
                    && let Ok(sealed) = self.seal.close(self.number, &plain)
                {
                    break sealed;
                }
                self.fail("a row cannot be sealed, the system may have no random bytes");
                tokio::time::sleep(LONGEST_PAUSE).await;
                plain.clear();
            };
            self.end += sealed.len() as u64 + ROW_BYTES;
            stored.push(Stored { number: self.number, end: self.end, sealed });
        }
        self.write(&stored).await;
        self.shared.last_number.store(self.number, Ordering::Release);
        self.shared.written_end.store(self.end, Ordering::Release);
        sabotage::pass(CrashPoint::AfterSync);
        let synced = Some(Instant::now());
        let mut waiting = Vec::with_capacity(kept.len());
        let rows = kept.into_iter().zip(&stored).map(|(kept, stored)| {
            let Kept { of, change, came, settle } = kept;
            let settle = if change.is_asked() {
                Some(settle)
            } else {
                waiting.push((came, settle));
                None
            };
            Row { number: stored.number, end: stored.end, of, change, synced, settle }
        });
        self.shared.tail.push(rows);
        for (came, settle) in waiting {
            self.metrics.stage(Stage::Journal, came.elapsed());
            // whoever waited may have gone
            settle.send(Ok(())).ok();
        }
    }

    /// Writes and syncs, for as long as it takes.
    async fn write(&mut self, stored: &[Stored]) {
        if sabotage::is_off(Guard::Journal) {
            return;
        }
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            let began = Instant::now();
            match self.store.append(stored, || sabotage::pass(CrashPoint::BeforeSync)) {
                Ok(()) => {
                    self.metrics.journal_sync(began.elapsed());
                    let last = stored.last().map_or(0, |row| row.number).to_le_bytes();
                    if let Err(error) = self.last.write_all_at(&last, 0) {
                        tracing::debug!(%error, "the last number cannot be noted");
                    }
                    break;
                }
                Err(fault) if fault.is_damage() => {
                    // the next start carries over what can be read, and tells every user
                    tracing::error!(error = %fault, "the journal is damaged, the process ends to mend it at its next start");
                    std::process::exit(1);
                }
                Err(fault) if attempt == 1 || attempt.is_multiple_of(20) => {
                    self.fail(&fault.to_string());
                }
                Err(_) => {}
            }
            // what is published already may make the room that is missing
            self.forget(*self.shared.published.borrow());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if self.shared.is_failing.swap(false, Ordering::AcqRel) {
            tracing::info!(attempt, "the journal takes answers again");
        }
    }

    fn fail(&self, what: &str) {
        self.shared.is_failing.store(true, Ordering::Release);
        tracing::error!(reason = what, "the journal does not take answers, asking waits");
    }

    fn tidy(&mut self) {
        if self.tidied.elapsed() < TIDY_EVERY {
            return;
        }
        self.tidied = Instant::now();
        self.forget(self.to_forget);
        self.to_forget = *self.shared.published.borrow();
    }

    fn forget(&self, number: u64) {
        if let Err(fault) = self.store.forget(number) {
            tracing::warn!(error = %fault, "published rows stay in the journal for now");
        }
    }
}
