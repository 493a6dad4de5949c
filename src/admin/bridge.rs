//! What the admin API needs of the rest of the bridge, and the words in which it is answered.
//!
//! Promises:
//! - no view holds a secret;
//! - each reason why a call is not served is named for what the caller does about it.
//!
//! Knows nothing of: HTTP.

use std::future::Future;
use std::time::Duration;

use super::request::PutRequest;
use crate::ids::{JournalId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::metrics::{PollOutcome, QueueCondition};

/// The rest of the bridge, as the admin API sees it.
///
/// A call's future may be dropped at any await, when the caller went away or took too long; what it
/// has begun must then either happen or not, without harm.
pub trait Bridge: Clone + Send + Sync + 'static {
    /// Makes a user's queue and writes the subscription durably, or gives an existing one a new
    /// credential.
    fn put(
        &self,
        user: UserId,
        request: PutRequest,
    ) -> impl Future<Output = Result<PutDone, Unserved>> + Send;

    /// A user's subscription.
    fn show(&self, user: UserId)
    -> impl Future<Output = Result<SubscriptionView, Unserved>> + Send;

    /// Removes a user's subscription durably.
    fn remove(&self, user: UserId) -> impl Future<Output = Result<(), Unserved>> + Send;

    /// Asks a user's queue often for a while.
    fn hint(&self, user: UserId) -> impl Future<Output = Result<(), Unserved>> + Send;

    /// The subscriptions of **this instance's** partitions with a user id above `after`, the lowest
    /// `limit` of them, in the order of the ids' bytes. The admin API merges the pages of all
    /// instances, and refuses to when their partitions are not all there.
    fn page(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, Unserved>> + Send;

    /// The instances known from their marks, this one included.
    fn instances(&self) -> impl Future<Output = Vec<InstanceView>> + Send;

    /// Whether the scheduler makes progress.
    fn liveness(&self) -> Liveness;

    /// Whether calls can be served.
    fn readiness(&self) -> Readiness;

    /// The metrics as Prometheus reads them.
    fn metrics_text(&self) -> impl Future<Output = String> + Send;

    /// Which log lines this instance writes.
    fn log_filter(&self) -> String;

    /// Has this instance write other log lines until it ends; else what would be right.
    fn change_log_filter(&self, filter: &str) -> Result<(), String>;
}

/// A subscription was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// Whether there was a subscription before.
    pub existed: bool,
    /// The wish's id.
    pub subscription_id: SubscriptionId,
    /// The queue that is asked now.
    pub queue_id: QueueId,
    /// The control partition of the user.
    pub partition: i32,
}

/// A subscription as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionView {
    /// Whose it is.
    pub user_id: UserId,
    /// The wish's id.
    pub subscription_id: SubscriptionId,
    /// The present queue.
    pub queue_id: QueueId,
    /// The number of that queue among the subscription's.
    pub generation: u32,
    /// The control partition of the user.
    pub partition: i32,
    /// The id of the instance that owns the partition.
    pub owner: String,
    /// What is being done with the queue.
    pub state: QueueCondition,
    /// Why the user is blocked, without secrets; none when not blocked.
    pub blocked_reason: Option<String>,
    /// The latest answer to a question; none before the first.
    pub last_answer: Option<LastAnswer>,
    /// Time until the queue would die if it were not asked; none when there is no live queue.
    pub headroom: Option<Duration>,
    /// When the queue is asked next; none when it is not scheduled.
    pub next_due: Option<Timestamp>,
    /// Which kind of credential the user has.
    pub credential: CredentialKind,
}

/// An answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastAnswer {
    /// When it was received.
    pub at: Timestamp,
    /// What it was.
    pub outcome: PollOutcome,
}

/// The kind of a credential, never its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A token the integrator got for the user.
    AccessToken,
    /// The user's name and password.
    Password,
    /// The bridge's own client credentials.
    Client,
}

impl CredentialKind {
    /// The kind as `type` has it in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::Password => "password",
            Self::Client => "client",
        }
    }
}

/// Some of this instance's subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of the user ids' bytes.
    pub subscriptions: Vec<SubscriptionView>,
    /// Whether this instance has more after the last.
    pub has_more: bool,
    /// The partitions that were looked through: those owned and loaded.
    pub partitions: Vec<i32>,
    /// The number of control partitions there are.
    pub partitions_total: usize,
}

/// An instance as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// Its configured id.
    pub instance_id: String,
    /// Its journal.
    pub journal_id: JournalId,
    /// The base of its admin API.
    pub url: String,
    /// The control partitions it owns, by its last mark.
    pub partitions: Vec<i32>,
    /// When it last committed a mark.
    pub marked_at: Option<Timestamp>,
    /// Until when it has asked.
    pub asked_until: Option<Timestamp>,
    /// Until when it has published.
    pub published_until: Option<Timestamp>,
    /// Whether its last mark is fresh.
    pub is_alive: bool,
    /// Whether it is the instance that answers.
    pub is_self: bool,
}

/// Whether the scheduler makes progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It does.
    Alive,
    /// It has not for too long; what stalls.
    Stalled(String),
}

/// Whether calls can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// They cannot; each reason.
    NotReady(Vec<String>),
}

/// Why a call is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// There is no subscription: the caller puts one first.
    #[error("the user has no subscription")]
    UnknownUser,
    /// Another instance owns the user's partition, or none does just now.
    #[error("this instance does not own the user's partition")]
    NotOwned {
        /// The base of the owner's admin API; none while the owner is not known.
        owner_url: Option<String>,
        /// When to try again.
        retry_after: Duration,
    },
    /// Kafka is away; nothing was created.
    #[error("kafka cannot be reached; nothing was changed")]
    KafkaAway,
    /// Whether the change was made cannot be learned; the caller repeats it, which is safe.
    #[error("whether the change was made cannot be learned; repeat the call, which is safe")]
    OutcomeUnknown,
    /// Linxo refused the credential.
    #[error("linxo refused the credential: {what}")]
    CredentialRefused {
        /// What Linxo said, without secrets.
        what: String,
    },
    /// The credential cannot be used with this configuration.
    #[error("the credential cannot be used: {what}")]
    InvalidCredential {
        /// What is wrong with it, without secrets.
        what: String,
    },
    /// Linxo does not answer, or asks us to wait.
    #[error("linxo does not answer now: {what}")]
    SourceAway {
        /// What happened.
        what: String,
    },
    /// Linxo answers in a way that cannot be used.
    #[error("linxo's answer cannot be used: {what}")]
    SourceUnusable {
        /// What was wrong with it.
        what: String,
    },
    /// Too much is under way.
    #[error("too much is under way")]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The call contradicts the present state, for instance a queue to adopt that is another user's.
    #[error("{what}")]
    Conflict {
        /// The contradiction.
        what: String,
    },
}
