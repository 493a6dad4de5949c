//! How a request for a token is answered.
//!
//! Promises:
//! - a token is given for the client's own credentials, or for a user's name and password beside
//!   them; a password that was changed opens nothing any more;
//! - how many requests of a user are under way at once is counted until each answer was sent or
//!   given up, so that a slow answer shows who asks twice.
//!
//! Knows nothing of: HTTP.

use serde_json::json;

use crate::simulator::clock::millis;
use crate::simulator::fault::{Request, RequestKind};
use crate::simulator::reply::{Refusal, Reply, Sending, Waybill};
use crate::simulator::tokens::Bearer;
use crate::simulator::world::World;

/// The body of a request for a token; what it does not give is empty.
#[derive(Default)]
pub(in crate::simulator) struct TokenRequest {
    pub(in crate::simulator) grant: String,
    pub(in crate::simulator) client_id: String,
    pub(in crate::simulator) client_secret: String,
    pub(in crate::simulator) username: String,
    pub(in crate::simulator) password: String,
}

impl World {
    /// `POST /token`.
    pub(in crate::simulator) fn token(&mut self, asked: &TokenRequest) -> Reply {
        let now = self.advance();
        self.book.totals.token_requests += 1;
        let names_user = asked.grant == "password";
        let user = if names_user { self.named(asked) } else { None };
        if let Some(user) = user {
            self.token_is_asked(user);
        }
        let fault = self.faults.draw(&Request::of(RequestKind::Token, user), now);
        let unauthorized = if names_user { Refusal::NO_GRANT } else { Refusal::NO_CLIENT };
        let refusal = fault.as_ref().and_then(|fault| Refusal::of_fault(fault, unauthorized));
        let bearer = match refusal {
            Some(refusal) => Err(refusal),
            None => self.grant(asked, user),
        };
        let bearer = match bearer {
            Ok(bearer) => bearer,
            Err(refusal) => {
                self.book.totals.token_refusals += 1;
                if let Some(user) = user {
                    self.token_is_given(user);
                }
                return Reply::Refused(refusal);
            }
        };
        let lifetime = millis(self.options.token_lifetime);
        let token = self.tokens.issue(bearer, now, lifetime);
        let text = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": lifetime / 1000,
        })
        .to_string();
        let waybill = user.map_or(Waybill::Nothing, |user| Waybill::Token { user });
        Reply::Json { text, sending: Sending::of_fault(fault.as_ref()), waybill }
    }

    /// What the credentials of a request open.
    fn grant(&self, asked: &TokenRequest, user: Option<u32>) -> Result<Bearer, Refusal> {
        if asked.client_id != self.options.client_id
            || asked.client_secret != self.options.client_secret
        {
            return Err(Refusal::NO_CLIENT);
        }
        match asked.grant.as_str() {
            "client_credentials" => Ok(Bearer::Client),
            "password" => user
                .filter(|_| self.password_of(&asked.username) == asked.password)
                .map(Bearer::User)
                .ok_or(Refusal::NO_GRANT),
            _ => Err(Refusal::new(
                400,
                "unsupported_grant_type",
                "grant_type must be client_credentials or password",
            )),
        }
    }

    /// The user a request names, who comes into being when that is allowed and the password is
    /// the one that a new user has.
    fn named(&mut self, asked: &TokenRequest) -> Option<u32> {
        let is_new = self.options.make_users
            && !asked.username.is_empty()
            && self.password_of(&asked.username) == asked.password;
        match self.find_user(&asked.username) {
            None if is_new => self.user(&asked.username),
            known => known,
        }
    }

    fn token_is_asked(&mut self, user: u32) {
        let Some(user) = self.users.get_mut(user as usize) else { return };
        user.token_requests = user.token_requests.saturating_add(1);
        user.tokens_under_way = user.tokens_under_way.saturating_add(1);
        user.most_tokens_at_once = user.most_tokens_at_once.max(user.tokens_under_way);
        let most = &mut self.book.totals.most_token_requests_at_once;
        *most = (*most).max(user.most_tokens_at_once);
    }

    pub(super) fn token_is_given(&mut self, user: u32) {
        if let Some(user) = self.users.get_mut(user as usize) {
            user.tokens_under_way = user.tokens_under_way.saturating_sub(1);
        }
    }
}
