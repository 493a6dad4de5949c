//! The other instances, as their marks show them.
//!
//! Promises:
//! - what is told of an instance is what its last committed mark says; an instance is alive while its
//!   marks are fresh, and whether they are is told by our own clock;
//! - a mark that cannot be read is passed over: its instance is not known, and nothing else suffers.
//!
//! Knows nothing of: HTTP, workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::admin::InstanceView;
use crate::ids::{JournalId, Timestamp};
use crate::journal_mark::JournalMark;
use crate::kafka::{self, Clients, Followed, Following};
use crate::record::Decoder;

/// For how long a mark is fresh: three times as long as an instance may be without one.
const FRESH: Duration = Duration::from_secs(30);

/// What the other instances say. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Peers {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    heard: HashMap<JournalId, Heard>,
    /// Whether what was there at the start has been read.
    is_complete: bool,
    decoder: Option<Arc<Decoder>>,
}

/// A mark as it came. It is read when somebody wants to know: marks come with each transaction.
struct Heard {
    value: Vec<u8>,
    at: Instant,
    marked_at: Option<Timestamp>,
    mark: Option<Arc<JournalMark>>,
}

/// An instance by its mark.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) mark: Arc<JournalMark>,
    pub(super) marked_at: Option<Timestamp>,
    /// When its last mark came.
    pub(super) heard: Instant,
}

impl Peer {
    /// Whether its last mark is fresh.
    pub(super) fn is_alive(&self) -> bool {
        self.heard.elapsed() < FRESH
    }
}

impl Peer {
    /// Whether its journal may hold answers that are not published, and of whose loss nobody was told.
    pub(super) fn owes(&self, told_until: impl Fn(i32) -> Timestamp) -> bool {
        let mark = &self.mark;
        mark.asked().any(|(partition, _)| mark.owed(partition, told_until(partition)).is_some())
    }

    /// As the admin API shows it.
    pub(super) fn view(&self) -> InstanceView {
        let mark = &self.mark;
        InstanceView {
            instance_id: mark.instance_id.clone(),
            journal_id: mark.journal_id.clone(),
            url: mark.url.clone(),
            partitions: mark.partitions.clone(),
            marked_at: self.marked_at,
            asked_until: Some(mark.asked_until),
            published_until: Some(mark.published_until),
            is_alive: self.is_alive(),
            is_self: false,
        }
    }
}

impl Peers {
    /// Listens from now on, until the answer is dropped.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn listen(
        &self,
        clients: &Clients,
        topic: &str,
        decoder: &Arc<Decoder>,
    ) -> std::io::Result<Following> {
        self.lock().decoder = Some(Arc::clone(decoder));
        let peers = self.clone();
        kafka::follow(clients, topic, move |followed| match followed {
            Followed::Record { key, value, written_at } => peers.hear(key, value, written_at),
            Followed::End => peers.lock().is_complete = true,
        })
    }

    fn hear(&self, key: &[u8], value: Option<&[u8]>, written_at: Option<i64>) {
        let journal = JournalId::from(String::from_utf8_lossy(key).into_owned());
        let mut state = self.lock();
        let Some(value) = value else {
            state.heard.remove(&journal);
            return;
        };
        let marked_at = written_at.map(Timestamp);
        // of what was there before us only its own time tells how old it is
        let age = marked_at.filter(|_| !state.is_complete).map(|at| Timestamp::now().since(at));
        let at = Instant::now();
        let at = age.map_or(at, |age| at.checked_sub(age).unwrap_or(at));
        state.heard.insert(journal, Heard { value: value.to_vec(), at, marked_at, mark: None });
    }

    /// Every instance that ever wrote a mark.
    pub(super) fn all(&self) -> Vec<Peer> {
        let mut state = self.lock();
        let Some(decoder) = state.decoder.clone() else { return Vec::new() };
        state.heard.values_mut().filter_map(|heard| heard.peer(&decoder)).collect()
    }

    /// The instance with this journal.
    pub(super) fn with(&self, journal: &JournalId) -> Option<Peer> {
        let mut state = self.lock();
        let decoder = state.decoder.clone()?;
        state.heard.get_mut(journal)?.peer(&decoder)
    }

    /// Where the owner of a partition is reached, as the freshest mark but our own says.
    pub(super) fn owner(&self, partition: i32, ourselves: &JournalId) -> Option<String> {
        let owns = |peer: &Peer| {
            peer.is_alive()
                && peer.mark.partitions.contains(&partition)
                && peer.mark.journal_id != *ourselves
        };
        let owner = self.all().into_iter().filter(owns).max_by_key(|peer| peer.heard);
        owner.map(|peer| peer.mark.url.clone()).filter(|url| !url.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn peer(&mut self, decoder: &Decoder) -> Option<Peer> {
        if self.mark.is_none() {
            match decoder.journal_mark(&self.value) {
                Ok(mark) => self.mark = Some(Arc::new(mark)),
                Err(error) => tracing::debug!(%error, "a mark cannot be read"),
            }
        }
        let mark = Arc::clone(self.mark.as_ref()?);
        Some(Peer { mark, marked_at: self.marked_at, heard: self.at })
    }
}
