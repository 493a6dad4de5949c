//! The access tokens that were given out, and the passwords for which they are.
//!
//! Promises:
//! - a password is not shown by `Debug`;
//! - a token is valid until its time is over or it is revoked, and not a moment longer;
//! - tokens whose time is over do not pile up.
//!
//! Knows nothing of: queues, faults, HTTP.

use std::collections::HashMap;
use std::fmt;

use super::names::Names;

/// What a valid token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Everything of this user.
    User(u32),
    /// Everything of the user named beside it.
    Client,
}

/// A user's password.
pub(super) struct Password(pub(super) Box<str>);

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

#[derive(Debug)]
struct Token {
    bearer: Bearer,
    expires: u64,
}

/// The tokens that are valid.
#[derive(Debug)]
pub(super) struct Tokens {
    names: Names,
    issued: u64,
    by_text: HashMap<Box<str>, Token>,
    clean_at: usize,
}

/// So many tokens may be there before those are looked for whose time is over.
const CLEAN_FIRST_AT: usize = 1024;

impl Tokens {
    pub(super) fn new(names: Names) -> Self {
        Self { names, issued: 0, by_text: HashMap::new(), clean_at: CLEAN_FIRST_AT }
    }

    /// A new token that is valid for `lifetime` milliseconds.
    pub(super) fn issue(&mut self, bearer: Bearer, now: u64, lifetime: u64) -> String {
        if self.by_text.len() >= self.clean_at {
            self.by_text.retain(|_, token| token.expires > now);
            self.clean_at = CLEAN_FIRST_AT.max(self.by_text.len() * 2);
        }
        self.issued += 1;
        let text = self.names.token(self.issued);
        let expires = now.saturating_add(lifetime);
        self.by_text.insert(text.as_str().into(), Token { bearer, expires });
        text
    }

    /// What a token opens now.
    pub(super) fn open(&self, text: &str, now: u64) -> Option<Bearer> {
        self.by_text.get(text).filter(|token| token.expires > now).map(|token| token.bearer)
    }

    /// Revokes one token; was it there?
    pub(super) fn revoke(&mut self, text: &str) -> bool {
        self.by_text.remove(text).is_some()
    }

    /// Revokes all tokens of a bearer; answers how many.
    pub(super) fn revoke_all(&mut self, bearer: Bearer) -> usize {
        let before = self.by_text.len();
        self.by_text.retain(|_, token| token.bearer != bearer);
        before - self.by_text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_to_the_end_of_its_time_or_until_revoked() {
        let mut tokens = Tokens::new(Names::new(1));
        let token = tokens.issue(Bearer::User(3), 100, 50);
        assert_eq!(tokens.open(&token, 149), Some(Bearer::User(3)));
        assert_eq!(tokens.open(&token, 150), None);
        let other = tokens.issue(Bearer::Client, 100, 50);
        assert_ne!(token, other);
        assert_eq!(tokens.revoke_all(Bearer::Client), 1);
        assert_eq!(tokens.open(&other, 100), None);
    }

    #[test]
    fn tokens_whose_time_is_over_do_not_pile_up() {
        let mut tokens = Tokens::new(Names::new(1));
        for now in 0..10_000 {
            tokens.issue(Bearer::Client, now, 10);
        }
        assert!(tokens.by_text.len() <= CLEAN_FIRST_AT);
    }
}
