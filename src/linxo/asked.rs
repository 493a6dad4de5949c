//! What one question to a queue came to.
//!
//! Promises:
//! - outcomes are the labels of `polls_total`, one to one;
//! - a body is looked at only at its ends: whether all of it is JSON is the event room's to say.
//!
//! Where a status has no outcome of its own:
//!
//! | status | outcome |
//! |---|---|
//! | one of `dead_statuses` | dead, before any other meaning of an error status |
//! | 205 | empty |
//! | any other 2xx | as 200: what it holds may have been removed from the queue |
//! | 3xx, other 4xx, 5xx | server_error: an error head, nothing was handed out |
//!
//! Knows nothing of: HTTP, what is done about an outcome.

use std::time::Duration;

use super::fault::Refused;
use super::room::Answer;
use crate::metrics::PollOutcome;

/// What one question came to.
#[derive(Debug)]
pub enum Asked {
    /// A body that begins and ends like a list (or an object, as v3 wraps its lists) and is not
    /// plainly empty. It may have been removed from the queue: keep it before all else.
    Events(Answer),
    /// The queue is alive and had nothing.
    Empty,
    /// The queue is alive and had nothing, told by an empty list.
    EmptyList,
    /// The source no longer knows the queue. Also for a queue id that no URL can hold (empty, `.`,
    /// `..`), as 404 without asking.
    Dead {
        /// The status of the answer.
        status: u16,
    },
    /// The credential is refused, by the source or by the token endpoint; a client token was renewed
    /// once before, and so was a token for a user's name and password. Nothing was handed out.
    Unauthorized(Refused),
    /// The credential does not reach this queue. Nothing was handed out.
    Forbidden(Refused),
    /// Too many requests, for queues or for tokens. Nothing was handed out.
    Throttled {
        /// The time the source asked for, at most ten minutes.
        retry_after: Option<Duration>,
    },
    /// Any other error status, of the source or of the token endpoint. Nothing was handed out.
    ServerError {
        /// The status of the answer.
        status: u16,
        /// The time the source asked for, at most ten minutes.
        retry_after: Option<Duration>,
    },
    /// No head came back in time.
    Timeout {
        /// Whether the question may have reached the source, and so have removed events.
        sent: bool,
    },
    /// The connection failed before a head came back.
    TransportError {
        /// Whether the question may have reached the source, and so have removed events.
        sent: bool,
    },
    /// A 200 head, then a body that was cut or did not end in time: events are lost.
    Broken {
        /// What was read of it, perhaps nothing.
        start: Answer,
    },
    /// A body longer than is read: events are lost.
    Oversized {
        /// `linxo.max_answer`, in bytes.
        limit: usize,
        /// Its first `limit` bytes.
        start: Answer,
    },
    /// A body that is neither a list nor an object.
    Malformed(Answer),
}

impl Asked {
    /// The outcome that is counted for it.
    pub fn outcome(&self) -> PollOutcome {
        match self {
            Self::Events(_) => PollOutcome::Events,
            Self::Empty => PollOutcome::Empty,
            Self::EmptyList => PollOutcome::EmptyList,
            Self::Dead { .. } => PollOutcome::Dead,
            Self::Unauthorized(_) => PollOutcome::Unauthorized,
            Self::Forbidden(_) => PollOutcome::Forbidden,
            Self::Throttled { .. } => PollOutcome::Throttled,
            Self::ServerError { .. } => PollOutcome::ServerError,
            Self::Timeout { .. } => PollOutcome::Timeout,
            Self::TransportError { .. } => PollOutcome::TransportError,
            Self::Broken { .. } => PollOutcome::Broken,
            Self::Oversized { .. } => PollOutcome::Oversized,
            Self::Malformed(_) => PollOutcome::Malformed,
        }
    }

    /// What a body read to its end means.
    pub(super) fn from_body(body: Answer) -> Self {
        match Shape::of(&body) {
            Shape::Filled => Self::Events(body),
            Shape::Empty => Self::EmptyList,
            Shape::Neither => Self::Malformed(body),
        }
    }
}

/// What a body looks like from its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A list or an object with something in it.
    Filled,
    /// A list with nothing in it, bare or as the only member of an object.
    Empty,
    /// No list and no object, or one that does not end.
    Neither,
}

/// An object that holds nothing but an empty list is shorter than this.
const LONGEST_EMPTY: usize = 256;

impl Shape {
    pub(super) fn of(body: &[u8]) -> Self {
        match trimmed(body) {
            [b'[', inner @ .., b']'] if trimmed(inner).is_empty() => Self::Empty,
            [b'[', .., b']'] => Self::Filled,
            [b'{', inner @ .., b'}'] if is_one_empty_list(trimmed(inner)) => Self::Empty,
            [b'{', .., b'}'] => Self::Filled,
            _ => Self::Neither,
        }
    }
}

/// Whether the inside of an object is `"name": []` and nothing else.
fn is_one_empty_list(inner: &[u8]) -> bool {
    if inner.len() > LONGEST_EMPTY {
        return false;
    }
    let Some(name) = inner.strip_suffix(b"]").map(trimmed).and_then(|rest| rest.strip_suffix(b"["))
    else {
        return false;
    };
    matches!(trimmed(name), [b'"', name @ .., b'"', b':'] | [b'"', name @ .., b'"', b' ', b':']
        if !name.contains(&b'"'))
}

/// Without the blanks of JSON at both ends.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_anything_in_it_is_filled() {
        for body in [
            "[{}]",
            " \n[ {\"id\":\"1\"} ]\r\n",
            "[[]]",
            "{\"events\":[{}]}",
            "{\"events\":[{\"a\":1}],\"more\":[]}",
            "{\"a\":[],\"b\":[]}",
            "{}",
            "{\"error\":\"x\"}",
        ] {
            assert_eq!(Shape::of(body.as_bytes()), Shape::Filled, "{body}");
        }
    }

    #[test]
    fn a_list_of_blanks_is_empty() {
        for body in ["[]", " [ \t\r\n] ", "{\"events\":[]}", "{ \"events\" : [ ] }"] {
            assert_eq!(Shape::of(body.as_bytes()), Shape::Empty, "{body}");
        }
    }

    #[test]
    fn all_else_is_neither() {
        for body in ["", "  ", "null", "[", "]", "{", "[}", "[{}", "{]", "<html></html>", "\"[]\""]
        {
            assert_eq!(Shape::of(body.as_bytes()), Shape::Neither, "{body}");
        }
    }
}
