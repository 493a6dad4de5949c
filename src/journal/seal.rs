//! Seals rows for one journal, each for its number.
//!
//! Promises: a row opens only in the journal and under the number that it was sealed for.
//!
//! Knows nothing of: what a row says.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::credential::{KeyRing, SealError};
use crate::ids::JournalId;

const PURPOSE: &str = "journal";

pub(super) struct Seal {
    pub(super) keys: Arc<KeyRing>,
    pub(super) journal: JournalId,
}

impl Seal {
    pub(super) fn close(&self, number: u64, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.keys.seal_bytes(PURPOSE, &self.owner(number), plain)
    }

    pub(super) fn open(&self, number: u64, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.keys.open_bytes(PURPOSE, &self.owner(number), sealed)
    }

    fn owner(&self, number: u64) -> String {
        format!("{}/{number}", self.journal)
    }
}
