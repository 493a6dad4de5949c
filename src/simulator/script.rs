//! What a synchronization tells: the sequence of its events, channel by channel.
//!
//! Source of facts: the queues how-to of the source names SYNC_ALL_STARTED, SYNC_ALL_SUCCESS and
//! the LIST_ACCOUNTS job, REDIRECT before EMBEDDED, followed by an ALL job. The other names follow
//! the pattern job + phase, or are made up: the source's own list is not public.
//!
//! Promises:
//! - every sequence opens with SYNC_ALL_STARTED (the extras come before it) and ends with
//!   SYNC_ALL_SUCCESS or SYNC_ALL_FAILED;
//! - a failing end shows as an event of that name, or as a channel status only, as asked.
//!
//! Knows nothing of: queues, time, HTTP.

use serde::{Deserialize, Serialize};

/// How a bank is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Over the bank's own API; the definition id is the provider's followed by `01`.
    Redirect,
    /// By reading the bank's pages; the definition id is the provider's followed by `00`.
    Embedded,
}

impl Mode {
    /// Both, in the order in which they are synchronized.
    pub const BOTH: [Self; 2] = [Self::Redirect, Self::Embedded];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::Embedded => "EMBEDDED",
        }
    }

    /// What follows the provider id in a channel definition id.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Redirect => "01",
            Self::Embedded => "00",
        }
    }

    pub(super) fn place(self) -> usize {
        match self {
            Self::Redirect => 0,
            Self::Embedded => 1,
        }
    }
}

/// The status of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the source's and say what they are")]
pub enum Status {
    Running,
    #[default]
    Success,
    PartialSuccess,
    Empty,
    Closed,
    TokenExpired,
    PasswordChangeRequired,
    ChallengeRequired,
    UserActionRequired,
    AuthFailed,
}

impl Status {
    /// Those that ask the user to act.
    pub const ASKING: [Self; 5] = [
        Self::TokenExpired,
        Self::PasswordChangeRequired,
        Self::ChallengeRequired,
        Self::UserActionRequired,
        Self::AuthFailed,
    ];

    /// The name the source uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Success => "SUCCESS",
            Self::PartialSuccess => "PARTIAL_SUCCESS",
            Self::Empty => "EMPTY",
            Self::Closed => "CLOSED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::PasswordChangeRequired => "PASSWORD_CHANGE_REQUIRED",
            Self::ChallengeRequired => "CHALLENGE_REQUIRED",
            Self::UserActionRequired => "USER_ACTION_REQUIRED",
            Self::AuthFailed => "AUTH_FAILED",
        }
    }

    /// Is the user asked to act?
    pub fn asks_the_user(self) -> bool {
        match self {
            Self::TokenExpired
            | Self::PasswordChangeRequired
            | Self::ChallengeRequired
            | Self::UserActionRequired
            | Self::AuthFailed => true,
            Self::Running | Self::Success | Self::PartialSuccess | Self::Empty | Self::Closed => {
                false
            }
        }
    }
}

/// A synchronization to run for a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The connection to synchronize; none: every connection of the user.
    pub connection: Option<String>,
    /// How the channel in question ends.
    pub ending: Status,
    /// The channel that ends so; none: the first. The others succeed.
    pub channel: Option<Mode>,
    /// An ending that asks the user to act is an event of that name; false: it is a channel
    /// status only, in an event LIST_ACCOUNTS_FAILED.
    pub as_event: bool,
    /// Login, choose-bank and consent events, a kind nobody knows, an event without connection.
    pub extras: bool,
    /// Milliseconds from the first event to the last; 0: all at once.
    pub over_ms: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            connection: None,
            ending: Status::Success,
            channel: None,
            as_event: true,
            extras: false,
            over_ms: 0,
        }
    }
}

impl Sync {
    /// One that ends with this status, as an event of its own where it asks the user to act.
    pub fn ending(ending: Status) -> Self {
        Self { ending, ..Self::default() }
    }
}

/// What a step does to the connection before its snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    All(Status),
    One(Mode, Status),
}

/// One event of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) event_type: &'static str,
    /// The channel the event is about; none: the whole connection.
    pub(super) mode: Option<Mode>,
    pub(super) change: Change,
    /// The event carries the connection.
    pub(super) with_connection: bool,
}

impl Step {
    const fn new(event_type: &'static str, mode: Option<Mode>, change: Change) -> Self {
        Self { event_type, mode, change, with_connection: true }
    }

    const fn without_connection(event_type: &'static str) -> Self {
        Self { event_type, mode: None, change: Change::Nothing, with_connection: false }
    }
}

/// The events of a synchronization of a connection that has these channels.
pub(super) fn steps(sync: &Sync, channels: &[Mode]) -> Vec<Step> {
    let affected =
        sync.channel.filter(|mode| channels.contains(mode)).or_else(|| channels.first().copied());
    let mut steps = Vec::with_capacity(16);
    if sync.extras {
        steps.push(Step::without_connection("CHOOSE_BANK_SUCCESS"));
        steps.push(Step::new("LOGIN_STARTED", affected, Change::Nothing));
        steps.push(Step::new("LOGIN_SUCCESS", affected, Change::Nothing));
        if channels.contains(&Mode::Redirect) {
            steps.push(Step::new("CONSENT_SUCCESS", Some(Mode::Redirect), Change::Nothing));
        }
        steps.push(Step::without_connection("SIMULATOR_NOTICE"));
    }
    steps.push(Step::new("SYNC_ALL_STARTED", None, Change::All(Status::Running)));
    let mut failed = false;
    for mode in channels.iter().copied() {
        let about = Some(mode);
        let ending = if about == affected { sync.ending } else { Status::Success };
        let end = Change::One(mode, ending);
        steps.push(Step::new("LIST_ACCOUNTS_STARTED", about, Change::Nothing));
        if ending.asks_the_user() {
            let name = if sync.as_event { ending.as_str() } else { "LIST_ACCOUNTS_FAILED" };
            steps.push(Step::new(name, about, end));
            failed = true;
            continue;
        }
        steps.push(Step::new("LIST_ACCOUNTS_SUCCESS", about, Change::Nothing));
        steps.push(Step::new("ALL_STARTED", about, Change::Nothing));
        if sync.extras {
            steps.push(Step::new("SIMULATOR_NOVELTY", about, Change::Nothing));
        }
        steps.push(Step::new("ALL_SUCCESS", about, end));
    }
    let last = if failed { "SYNC_ALL_FAILED" } else { "SYNC_ALL_SUCCESS" };
    steps.push(Step::new(last, None, Change::Nothing));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sync: &Sync, channels: &[Mode]) -> Vec<&'static str> {
        steps(sync, channels).iter().map(|step| step.event_type).collect()
    }

    #[test]
    fn a_success_goes_through_redirect_then_embedded() {
        assert_eq!(
            names(&Sync::default(), &Mode::BOTH),
            [
                "SYNC_ALL_STARTED",
                "LIST_ACCOUNTS_STARTED",
                "LIST_ACCOUNTS_SUCCESS",
                "ALL_STARTED",
                "ALL_SUCCESS",
                "LIST_ACCOUNTS_STARTED",
                "LIST_ACCOUNTS_SUCCESS",
                "ALL_STARTED",
                "ALL_SUCCESS",
                "SYNC_ALL_SUCCESS",
            ]
        );
        let modes: Vec<_> =
            steps(&Sync::default(), &Mode::BOTH).iter().map(|step| step.mode).collect();
        assert_eq!(modes[1], Some(Mode::Redirect));
        assert_eq!(modes[5], Some(Mode::Embedded));
        assert_eq!((modes[0], modes[9]), (None, None));
    }

    #[test]
    fn a_failing_end_is_an_event_or_a_status_only() {
        let sync = Sync::ending(Status::AuthFailed);
        assert!(names(&sync, &Mode::BOTH).contains(&"AUTH_FAILED"));
        let quiet = Sync { as_event: false, ..sync };
        let steps = steps(&quiet, &Mode::BOTH);
        assert!(steps.iter().all(|step| step.event_type != "AUTH_FAILED"));
        assert!(steps.iter().any(|step| step.event_type == "LIST_ACCOUNTS_FAILED"
            && step.change == Change::One(Mode::Redirect, Status::AuthFailed)));
        assert_eq!(steps.last().map(|step| step.event_type), Some("SYNC_ALL_FAILED"));
    }

    #[test]
    fn the_channel_that_fails_can_be_chosen_and_the_other_succeeds() {
        let sync =
            Sync { channel: Some(Mode::Embedded), ..Sync::ending(Status::UserActionRequired) };
        let changes: Vec<_> = steps(&sync, &Mode::BOTH).iter().map(|step| step.change).collect();
        assert!(changes.contains(&Change::One(Mode::Redirect, Status::Success)));
        assert!(changes.contains(&Change::One(Mode::Embedded, Status::UserActionRequired)));
    }

    #[test]
    fn extras_bring_unknown_kinds_and_events_without_a_connection() {
        let steps = steps(&Sync { extras: true, ..Sync::default() }, &[Mode::Embedded]);
        assert!(steps.iter().any(|step| !step.with_connection));
        assert!(steps.iter().any(|step| step.event_type == "SIMULATOR_NOVELTY"));
    }
}
