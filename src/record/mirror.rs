//! The event schema as serde sees it: what `apache_avro` reads and writes beside the hand-written
//! bytes, in tests and in the bench. Shares no code with them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) actions: Vec<RaisedAction>,
    pub(super) resource_type: Option<String>,
    pub(super) created_at: Option<i64>,
    pub(super) user_id: String,
    pub(super) subscription_id: String,
    pub(super) queue_id: String,
    pub(super) queue_generation: i32,
    pub(super) idempotency_key: String,
    pub(super) sequence: Option<i64>,
    pub(super) owner_epoch: i64,
    pub(super) late: bool,
    pub(super) connection_id: Option<String>,
    pub(super) channel_definition_id: Option<String>,
    pub(super) channel_mode: Option<String>,
    pub(super) connection: Option<Connection>,
    pub(super) origin: Origin,
    pub(super) received_at: i64,
    pub(super) unmapped: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RaisedAction {
    pub(super) action: Action,
    pub(super) channel_definition_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Action {
    Unknown,
    AuthFailed,
    TokenExpired,
    PasswordChangeRequired,
    UserActionRequired,
    ChallengeRequired,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Origin {
    Queue,
    Reconciliation,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) provider_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) status: Option<String>,
    pub(super) created_at: Option<i64>,
    pub(super) channels: Vec<Channel>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Channel {
    pub(super) definition_id: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) status: Option<String>,
    pub(super) expires_at: Option<i64>,
    pub(super) last_success_at: Option<i64>,
    pub(super) last_end_at: Option<i64>,
}
