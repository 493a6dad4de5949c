//! How far the start has come, for `/readyz` and the log.
//!
//! Promises: names what is waited for, in words an operator can act on.
//!
//! Knows nothing of: how the steps are done.

use std::sync::{Mutex, PoisonError};

/// What is still waited for; nothing when the service is ready.
#[derive(Debug)]
pub(super) struct Progress {
    waiting: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Some("the start has begun".to_owned())) }
    }

    /// Says what is waited for; logs it when it is news.
    pub(super) fn wait_for(&self, what: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.as_deref() != Some(what) {
            tracing::info!(reason = what, "waiting");
            *waiting = Some(what.to_owned());
        }
    }

    /// The same during the start; once it is done, nothing changes.
    pub(super) fn still_waits_for(&self, what: &str) {
        if !self.missing().is_empty() {
            self.wait_for(what);
        }
    }

    /// Nothing is waited for any more.
    pub(super) fn is_done(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn missing(&self) -> Vec<String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
