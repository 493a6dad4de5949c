//! The names by which things are called, and the one clock reading that leaves the process.
//!
//! Promises:
//! - every id is its own type, so that a queue cannot be passed where a user is meant;
//! - ids are opaque text: nothing here or elsewhere looks inside one;
//! - a clone of an id copies a pointer, not the text.
//!
//! Knows nothing of: any other room.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }
    };
}

text_id! {
    /// The end-user a queue belongs to, as the integrator calls them.
    UserId
}
text_id! {
    /// What `/queues/{id}` names at the source.
    QueueId
}
text_id! {
    /// A bank connection of a user at the source.
    ConnectionId
}
text_id! {
    /// The wish that a user's queue be drained; made anew when the wish is new.
    SubscriptionId
}
text_id! {
    /// One gap: the same in its record before and after reconciliation.
    GapId
}
text_id! {
    /// The UUID of a journal, made with its folder; part of the transactional id.
    JournalId
}

impl SubscriptionId {
    /// An id that was never given before.
    pub fn random() -> Self {
        Self::from(uuid::Uuid::new_v4().to_string())
    }
}

impl GapId {
    /// An id that was never given before.
    pub fn random() -> Self {
        Self::from(uuid::Uuid::new_v4().to_string())
    }
}

impl JournalId {
    /// An id that was never given before.
    pub fn random() -> Self {
        Self::from(uuid::Uuid::new_v4().to_string())
    }
}

/// A moment of the wall clock in milliseconds since 1970, as Avro's `timestamp-millis` has it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// As RFC 3339, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(formatter, "{moment:.3}"),
            // out of the range of the calendar
            Err(_) => write!(formatter, "{} ms", self.0),
        }
    }
}

impl Timestamp {
    /// What the wall clock of this machine says.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment so long before; 1970 at the earliest.
    pub fn before(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(0))
    }

    /// Seconds since 1970, as metrics show moments.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}
