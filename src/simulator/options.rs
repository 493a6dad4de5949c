//! What a simulator can be told at its start.
//!
//! Promises:
//! - every default is what is known, or thought likely, of the real source;
//! - the client secret is not shown by `Debug`.
//!
//! Knows nothing of: how any of it is carried out.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which version of the source's API is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Path prefix `/v2.1`, lists are bare arrays, dates are epoch seconds.
    #[default]
    #[serde(rename = "v2.1")]
    V21,
    /// Path prefix `/v3`, lists are wrapped, dates are ISO 8601 text, `provider_logo_url`.
    #[serde(rename = "v3")]
    V3,
}

impl Version {
    /// The path under which the API answers.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::V21 => "/v2.1",
            Self::V3 => "/v3",
        }
    }
}

/// What the `Location` of a new queue looks like (fault L12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationForm {
    /// `/queues/ID`, as the source documents it.
    #[default]
    Relative,
    /// With the version, as `/v2.1/queues/ID`.
    Prefixed,
    /// With scheme and host.
    Absolute,
    /// No such header; the queue exists all the same.
    Missing,
}

/// Whether a queue keeps what it handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// A question removes what it hands out: an answer lost on the wire is lost.
    #[default]
    Once,
    /// An event stays until it was sent whole and a later question reached its queue: an answer
    /// lost on the wire is handed out again by the next question, before what is new.
    Repeatable,
}

/// How the events of a queue are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventIds {
    /// `1`, `2`, `3`, in each queue.
    #[default]
    Consecutive,
    /// Numbers that rise, from one counter for all queues, which leaves some out at random: in
    /// each queue they rise with holes. An event has the same number in every queue.
    Rising,
    /// Text without an order.
    Opaque,
}

/// What a simulator is told at its start.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; a loopback address, port 0 for any free one.
    pub listen: SocketAddr,
    /// Where the control API listens beside, so that it is reached when the source is not; a
    /// loopback address, port 0 for any free one.
    pub control_listen: SocketAddr,
    /// Other addresses than those of loopback may be listened on: in a network of one's own, as
    /// whoever reaches them rules the simulator.
    pub any_address: bool,
    /// Which version of the API is spoken.
    pub version: Version,
    /// How long a queue lives that nobody asks.
    pub queue_lifetime: Duration,
    /// How long an access token is valid when nothing else is said.
    pub token_lifetime: Duration,
    /// The client that may ask for client tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The header that names the user beside a client token. The user id in it is
    /// percent-encoded UTF-8; what needs no encoding may stand as it is.
    pub user_header: String,
    /// The query parameter that names the user beside a client token.
    pub user_parameter: String,
    /// What the `Location` of a new queue looks like.
    pub location: LocationForm,
    /// The status of a dead or unknown queue, 404 or 410.
    pub dead_status: u16,
    /// Whether a queue keeps what it handed out.
    pub delivery: Delivery,
    /// How events are numbered.
    pub event_ids: EventIds,
    /// By how many milliseconds the source's clock is ahead (or behind, when negative): in every
    /// date it makes and in its `Date` header, never in the ledger.
    pub clock_skew_ms: i64,
    /// Connections and events carry fields beyond the documented sample: owner, logo,
    /// `auto_sync`, and credentials with [`FAKE_SECRET`](super::FAKE_SECRET).
    pub extra_fields: bool,
    /// A user named beside a client token comes into being when unknown.
    pub make_users: bool,
    /// From it come all ids and all draws.
    pub seed: u64,
    /// How many events the ledger keeps; more are handed out all the same, and it says so.
    pub max_events: usize,
    /// How many events may wait in one queue; more are not put in, and the ledger says so.
    pub max_waiting: usize,
    /// How many queues may be made; more subscriptions are answered 503.
    pub max_queues: usize,
    /// How many users may exist; more are answered 503.
    pub max_users: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            any_address: false,
            version: Version::V21,
            queue_lifetime: Duration::from_secs(15 * 60),
            token_lifetime: Duration::from_secs(3600),
            client_id: "simulated-client".to_owned(),
            client_secret: "simulated-client-secret".to_owned(),
            user_header: "x-linxo-user-id".to_owned(),
            user_parameter: "user_id".to_owned(),
            location: LocationForm::Relative,
            dead_status: 404,
            delivery: Delivery::Once,
            event_ids: EventIds::Consecutive,
            clock_skew_ms: 0,
            extra_fields: true,
            make_users: true,
            seed: 1,
            max_events: 5_000_000,
            max_waiting: 100_000,
            max_queues: 10_000_000,
            max_users: 2_000_000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("listen", &self.listen)
            .field("version", &self.version)
            .field("queue_lifetime", &self.queue_lifetime)
            .field("client_id", &self.client_id)
            .field("delivery", &self.delivery)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
