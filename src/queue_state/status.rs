//! A channel's status, cheap to hold a million times.
//!
//! Promises:
//! - any text is held as it came; the names that are known take no memory of their own.
//!
//! Knows nothing of: what a status means.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

/// The status of a channel in the source's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ChannelStatus(Cow<'static, str>);

/// Source: linxo-api.md 5.
const KNOWN: [&str; 10] = [
    "SUCCESS",
    "RUNNING",
    "PARTIAL_SUCCESS",
    "EMPTY",
    "CLOSED",
    "TOKEN_EXPIRED",
    "PASSWORD_CHANGE_REQUIRED",
    "CHALLENGE_REQUIRED",
    "USER_ACTION_REQUIRED",
    "AUTH_FAILED",
];

impl ChannelStatus {
    /// The text of the status.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChannelStatus {
    fn from(text: &str) -> Self {
        match KNOWN.iter().find(|known| **known == text) {
            Some(known) => Self(Cow::Borrowed(known)),
            None => Self(Cow::Owned(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for ChannelStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_take_no_memory_and_others_are_kept() {
        for known in KNOWN {
            assert!(matches!(ChannelStatus::from(known).0, Cow::Borrowed(_)));
        }
        assert_eq!(ChannelStatus::from("BANK_DOWN").as_str(), "BANK_DOWN");
        let read: ChannelStatus = serde_json::from_str("\"EMPTY\"").unwrap();
        assert!(matches!(read.0, Cow::Borrowed("EMPTY")));
    }
}
