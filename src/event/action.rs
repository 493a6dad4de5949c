//! What an event asks of its user, and what it says about a synchronization.
//!
//! Promises:
//! - the set of actions is closed: five, each with its name at the source and its part of a topic's name;
//! - a value of the source that is not known asks nothing.
//!
//! Knows nothing of: topics, schemas, states.

use crate::metrics::ActionLabel;

/// What a user can be asked to do. Source: linxo-api.md 4 and 5 (channel events and statuses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The bank refused the user's credentials.
    AuthFailed,
    /// The consent ran out.
    TokenExpired,
    /// The bank wants a new password.
    PasswordChangeRequired,
    /// The user has to do something at the bank.
    UserActionRequired,
    /// The bank asked for a challenge while the user was away.
    ChallengeRequired,
}

impl Action {
    /// Every action; the position of one is its `index`.
    pub const ALL: [Self; 5] = [
        Self::AuthFailed,
        Self::TokenExpired,
        Self::PasswordChangeRequired,
        Self::UserActionRequired,
        Self::ChallengeRequired,
    ];

    /// The action that an event type or a channel status of the source names, if it is one.
    pub fn from_source(text: &str) -> Option<Self> {
        Some(match text {
            "AUTH_FAILED" => Self::AuthFailed,
            "TOKEN_EXPIRED" => Self::TokenExpired,
            "PASSWORD_CHANGE_REQUIRED" => Self::PasswordChangeRequired,
            "USER_ACTION_REQUIRED" => Self::UserActionRequired,
            "CHALLENGE_REQUIRED" => Self::ChallengeRequired,
            _ => return None,
        })
    }

    /// The name at the source, in the schema and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthFailed => "AUTH_FAILED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::PasswordChangeRequired => "PASSWORD_CHANGE_REQUIRED",
            Self::UserActionRequired => "USER_ACTION_REQUIRED",
            Self::ChallengeRequired => "CHALLENGE_REQUIRED",
        }
    }

    /// What stands for `{action}` in the name of a topic.
    pub const fn topic_part(self) -> &'static str {
        match self {
            Self::AuthFailed => "auth-failed",
            Self::TokenExpired => "token-expired",
            Self::PasswordChangeRequired => "password-change-required",
            Self::UserActionRequired => "user-action-required",
            Self::ChallengeRequired => "challenge-required",
        }
    }

    /// The position in `ALL`.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One thing that the user is newly asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RaisedAction {
    /// What the user has to do.
    pub action: Action,
    /// The channel that needs it, where the source named one.
    pub channel_definition_id: Option<String>,
}

/// What an event says about the synchronization of a user's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncSign {
    /// A synchronization runs: ask often.
    Started,
    /// It is over, well or not.
    Ended,
}

/// The sign that an event type gives, if any.
///
/// `SYNC_ALL_STARTED` and `SYNC_ALL_SUCCESS` are documented, the names of the other ends are not
/// (linxo-api.md 4): every other `SYNC_ALL_` is taken for an end.
pub fn sync_sign(event_type: &str) -> Option<SyncSign> {
    match event_type.strip_prefix("SYNC_ALL_")? {
        "" => None,
        "STARTED" => Some(SyncSign::Started),
        _ => Some(SyncSign::Ended),
    }
}

/// The sign of the last event in an answer that gives one, by the look of its bytes: what it gets
/// wrong changes how often a queue is asked, never what is published.
pub fn sync_sign_of_answer(body: &[u8]) -> Option<SyncSign> {
    let sign = memchr::memmem::rfind(body, b"\"SYNC_ALL_")?;
    let text = &body[sign + 1..];
    let end = memchr::memchr(b'"', text)?;
    sync_sign(std::str::from_utf8(&text[..end]).ok()?)
}

impl From<Action> for ActionLabel {
    fn from(action: Action) -> Self {
        match action {
            Action::AuthFailed => Self::AuthFailed,
            Action::TokenExpired => Self::TokenExpired,
            Action::PasswordChangeRequired => Self::PasswordChangeRequired,
            Action::UserActionRequired => Self::UserActionRequired,
            Action::ChallengeRequired => Self::ChallengeRequired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_again_by_its_name_and_stands_at_its_index() {
        for (index, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(Action::from_source(action.as_str()), Some(action));
            assert_eq!(action.index(), index);
            assert_eq!(action.topic_part(), action.as_str().to_lowercase().replace('_', "-"));
        }
        assert_eq!(Action::from_source("SUCCESS"), None);
        assert_eq!(Action::from_source("auth_failed"), None);
    }

    #[test]
    fn the_last_sign_of_an_answer_counts() {
        let answer = br#"[{"event_type": "SYNC_ALL_STARTED"}, {"event_type":"SYNC_ALL_SUCCESS"}, {"event_type":"X"}]"#;
        assert_eq!(sync_sign_of_answer(answer), Some(SyncSign::Ended));
        assert_eq!(sync_sign_of_answer(&answer[..40]), Some(SyncSign::Started));
        assert_eq!(sync_sign_of_answer(br#"[{"event_type":"X"}]"#), None);
        assert_eq!(sync_sign_of_answer(br#"["SYNC_ALL_"#), None);
    }

    #[test]
    fn a_synchronization_starts_once_and_ends_in_any_other_way() {
        assert_eq!(sync_sign("SYNC_ALL_STARTED"), Some(SyncSign::Started));
        for end in ["SYNC_ALL_SUCCESS", "SYNC_ALL_FAILED", "SYNC_ALL_PARTIAL_SUCCESS"] {
            assert_eq!(sync_sign(end), Some(SyncSign::Ended), "{end}");
        }
        for other in ["LIST_ACCOUNTS_STARTED", "SYNC_ALL_", "SYNC_ALL", ""] {
            assert_eq!(sync_sign(other), None, "{other}");
        }
    }
}
