//! Who may call: one bearer token for the whole fleet.
//!
//! Promises:
//! - the token is kept as a hash only, and compared in a time that does not tell how much of a guess
//!   is right;
//! - `Debug` shows nothing of it.
//!
//! Knows nothing of: where the token comes from.

use std::fmt;

use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The token that opens the admin API.
#[derive(Clone)]
pub struct AdminToken {
    sha256: [u8; 32],
}

impl AdminToken {
    /// The token with this text, as it stands after `Bearer `.
    pub fn new(text: &str) -> Self {
        Self { sha256: Sha256::digest(text).into() }
    }

    /// Whether an `Authorization` header carries this token.
    pub(super) fn is_in(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some((scheme, guess)) = authorization
            .map(HeaderValue::as_bytes)
            .and_then(|header| header.split_at_checked("Bearer ".len()))
        else {
            return false;
        };
        let guess: [u8; 32] = Sha256::digest(guess).into();
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(self.sha256.ct_eq(&guess))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_after_the_bearer_scheme_opens() {
        let token = AdminToken::new("s3cret");
        let is_in = |header: &'static str| token.is_in(Some(&HeaderValue::from_static(header)));
        assert!(is_in("Bearer s3cret"));
        assert!(is_in("bearer s3cret"));
        for header in ["Bearer s3cre", "Bearer s3cret ", "Basic s3cret", "s3cret", "Bearer ", ""] {
            assert!(!is_in(header), "{header:?}");
        }
        assert!(!token.is_in(None));
    }

    #[test]
    fn debug_shows_neither_token_nor_hash() {
        assert_eq!(format!("{:?}", AdminToken::new("s3cret")), "AdminToken(..)");
    }
}
