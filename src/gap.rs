//! A span of time in which events of a user were or may have been lost.
//!
//! Promises:
//! - cause and certainty are closed sets with one name each, in records and in metrics alike;
//! - a gap has the fields of its schema and no others.
//!
//! Knows nothing of: how gaps are found, topics.

use serde::{Deserialize, Serialize};

use crate::ids::{ConnectionId, GapId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::metrics::{self, GapCause};

/// Why events were or may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cause {
    /// The queue was asked too late.
    QueueExpired,
    /// The queue was dead though asked in time.
    QueueGone,
    /// The source did not let us ask.
    CredentialRefused,
    /// An answer was lost on the way.
    AnswerLost,
    /// An instance was lost with what it had received.
    InstanceLost,
    /// Ids that are consecutive left some out.
    EventIdJump,
    /// None of these.
    Other,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 7] = [
        Self::QueueExpired,
        Self::QueueGone,
        Self::CredentialRefused,
        Self::AnswerLost,
        Self::InstanceLost,
        Self::EventIdJump,
        Self::Other,
    ];

    /// The name in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueExpired => "QUEUE_EXPIRED",
            Self::QueueGone => "QUEUE_GONE",
            Self::CredentialRefused => "CREDENTIAL_REFUSED",
            Self::AnswerLost => "ANSWER_LOST",
            Self::InstanceLost => "INSTANCE_LOST",
            Self::EventIdJump => "EVENT_ID_JUMP",
            Self::Other => "OTHER",
        }
    }
}

/// Whether events were lost or only may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Certainty {
    /// What was in the queue is lost.
    Certain,
    /// It may be that nothing was lost.
    Possible,
}

impl Certainty {
    /// Both certainties.
    pub const ALL: [Self; 2] = [Self::Certain, Self::Possible];

    /// The name in records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "CERTAIN",
            Self::Possible => "POSSIBLE",
        }
    }
}

impl From<Cause> for GapCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::QueueExpired => Self::QueueExpired,
            Cause::QueueGone => Self::QueueGone,
            Cause::CredentialRefused => Self::CredentialRefused,
            Cause::AnswerLost => Self::AnswerLost,
            Cause::InstanceLost => Self::InstanceLost,
            Cause::EventIdJump => Self::EventIdJump,
            Cause::Other => Self::Other,
        }
    }
}

impl From<Certainty> for metrics::Certainty {
    fn from(certainty: Certainty) -> Self {
        match certainty {
            Certainty::Certain => Self::Certain,
            Certainty::Possible => Self::Possible,
        }
    }
}

/// A gap as it is published: once keyed by the user, once for each connection known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The same in all records of the gap.
    pub gap_id: GapId,
    /// The user concerned.
    pub user_id: UserId,
    /// The subscription under which the queue was drained.
    pub subscription_id: SubscriptionId,
    /// None in the record keyed by the user.
    pub connection_id: Option<ConnectionId>,
    /// Why.
    pub cause: Cause,
    /// How sure.
    pub certainty: Certainty,
    /// Start of the last question that was answered, by our clock.
    pub from: Timestamp,
    /// When the new queue answered, by our clock.
    pub to: Timestamp,
    /// The queue that events were lost from.
    pub queue_id: QueueId,
    /// Which of the subscription's queues that is, from 1.
    pub queue_generation: i32,
    /// The queue that took its place, if one did.
    pub next_queue_id: Option<QueueId>,
    /// The last event received before.
    pub last_event_id: Option<String>,
    /// The first event received after, where it is known.
    pub next_event_id: Option<String>,
    /// The sequence of this record's key after which the gap stands.
    pub after_sequence: Option<i64>,
    /// Whether the present state of the connections has been published.
    pub reconciled: bool,
}

impl Gap {
    /// The key of its record: the connection, else the user.
    pub fn key(&self) -> &str {
        self.connection_id.as_ref().map_or(self.user_id.as_str(), ConnectionId::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_records_and_in_metrics_are_the_same() {
        for cause in Cause::ALL {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
        for certainty in Certainty::ALL {
            assert_eq!(serde_json::to_value(certainty).unwrap(), certainty.as_str());
        }
    }
}
