//! What an answer that serves no call means for the caller.
//!
//! Promises: each is named for what to do about it; what is told of it is what the bridge said, or that
//! it was no bridge, never a request.
//!
//! Knows nothing of: the calls.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::causes::innermost;

/// Why a call was not served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// It may be in a moment.
    #[error("{why}")]
    Later {
        /// What was said, or happened.
        why: Why,
        /// For how long the door asks to be left alone.
        after: Option<Duration>,
    },
    /// It never will be: what it asks for is at fault.
    #[error("{0}")]
    Refused(Why),
    /// Nor will any other: the token is wrong, or this is no door of a bridge.
    #[error("{0}")]
    Closed(Why),
}

/// What a door said, or what happened to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The status of the answer; none when there was none.
    pub status: Option<u16>,
    /// What kind of refusal it is; empty when there was no answer of a bridge.
    pub title: String,
    /// What in this case.
    pub detail: String,
}

impl fmt::Display for Why {
    fn fmt(&self, page: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(page, "{status}: {}", self.detail),
            None => page.write_str(&self.detail),
        }
    }
}

impl NotServed {
    /// What an answer with this status means.
    pub(super) fn of(status: u16, why: Why, after: Option<Duration>) -> Self {
        match status {
            // the last two are of a path that a proxy finds too long
            400 | 409 | 413 | 422 | 414 | 431 => Self::Refused(why),
            408 | 425 | 429 | 500..600 => Self::Later { why, after },
            _ => Self::Closed(why),
        }
    }
}

impl Why {
    /// The call came to no answer.
    pub(super) fn broken(url: &str, error: &reqwest::Error) -> Self {
        // the innermost cause; what is around it names the path, and with it the user
        let cause = innermost(error);
        let what = if error.is_timeout() {
            "does not answer in time".to_owned()
        } else if cause.is::<reqwest::Error>() {
            "does not answer".to_owned()
        } else {
            format!("does not answer: {cause}")
        };
        Self { status: None, title: String::new(), detail: format!("{url} {what}") }
    }

    /// The call was given up before there was an answer.
    pub(super) fn silent(url: &str) -> Self {
        let detail = format!("{url} does not answer in time");
        Self { status: None, title: String::new(), detail }
    }

    /// There is nobody to call.
    pub(super) fn nobody() -> Self {
        Self { status: None, title: String::new(), detail: "no bridge is named".to_owned() }
    }

    /// An answer that no bridge gives.
    pub(super) fn stranger(url: &str, status: u16) -> Self {
        let detail = format!("what answers at {url} is not the admin API of a bridge");
        Self { status: Some(status), title: String::new(), detail }
    }

    /// A refusal as it was told.
    pub(super) fn told(url: &str, status: u16, text: &[u8]) -> Self {
        let problem: Value = serde_json::from_slice(text).unwrap_or_default();
        match (problem["title"].as_str(), problem["detail"].as_str()) {
            (Some(title), Some(detail)) => {
                Self { status: Some(status), title: title.to_owned(), detail: detail.to_owned() }
            }
            _ => Self::stranger(url, status),
        }
    }
}

/// The seconds of a `Retry-After`, as bridges give them; a day at most.
pub(super) fn wait(value: &str) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    value.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://door";

    #[test]
    fn an_answer_is_named_for_what_to_do_about_it() {
        let named = |status| {
            let why = Why::stranger(URL, status);
            match NotServed::of(status, why, None) {
                NotServed::Later { .. } => "later",
                NotServed::Refused(_) => "refused",
                NotServed::Closed(_) => "closed",
            }
        };
        for status in [400, 409, 413, 414, 422, 431] {
            assert_eq!(named(status), "refused", "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(named(status), "later", "{status}");
        }
        for status in [301, 307, 401, 403, 404, 405, 415] {
            assert_eq!(named(status), "closed", "{status}");
        }
    }

    #[test]
    fn a_problem_document_is_told_and_anything_else_is_no_bridge() {
        let text = br#"{"type":"t","title":"It is busy","status":503,"detail":"too much"}"#;
        let told = Why::told(URL, 503, text);
        assert_eq!(
            (told.title.as_str(), told.to_string().as_str()),
            ("It is busy", "503: too much")
        );
        for text in ["<html>", "", "[]", r#"{"title":"x"}"#] {
            assert_eq!(Why::told(URL, 502, text.as_bytes()), Why::stranger(URL, 502), "{text}");
        }
    }

    #[test]
    fn a_wait_is_whole_seconds() {
        assert_eq!(wait(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(wait("18446744073709551615"), Some(Duration::from_secs(86_400)));
        for text in ["", "-1", "1.5", "Sun, 06 Nov 1994 08:50:07 GMT"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }
}
