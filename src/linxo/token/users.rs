//! Users' tokens by the password grant, kept sealed within a bound.
//!
//! A token costs its length and about [`OVERHEAD_BYTES`] more. When [`MOST_BYTES`] are full, what was
//! used least lately goes, an eighth at once; who comes again asks again. The key that seals is made
//! with the process and never leaves it, as tokens neither do.
//!
//! Promises:
//! - a user's token is opened for that user alone, and for the very name and password that it was
//!   given for;
//! - one request for a user at a time: whoever else needs the token waits for that one and takes what
//!   it comes to;
//! - a token is asked for when somebody needs it, shortly before the old one ends; if that fails, the
//!   old one serves to its end, and is not asked for again for 0.5 s doubling to 10 s; when refused,
//!   not before its end, since a wrong password told too often may lock the user out;
//! - what was thrown away or forgotten is not brought back by a request that was under way.
//!
//! Knows nothing of: queues, how often a user without a token tries again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::endpoint::{Given, Grant, TokenEndpoint};
use super::{Span, TokenFault, header};
use crate::credential::KeyRing;
use crate::ids::UserId;
use crate::linxo::fault::{CallFault, SourceError};
use crate::linxo::wire::Wire;

/// What all users' tokens may take, in bytes: some 200,000 of a kilobyte.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// What a kept token takes beside its sealed bytes: its place in a map that is half full.
pub(super) const OVERHEAD_BYTES: usize = 2 * size_of::<(UserId, Kept)>();
const PURPOSE: &str = "user token";
/// The time between two requests for a user's token before any token told its life: the source's
/// samples live an hour (`linxo-api.md` 2).
const USUAL_RENEWAL: Duration = Duration::from_secs(3570);
/// So long after good tokens had to go it counts as crowded.
const CROWDED_FOR: Duration = Duration::from_secs(600);
/// So many tokens may be there before those are looked for whose time is over.
const CLEAN_FIRST_AT: usize = 1024;

/// What tokens for users' names and passwords cost in requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenPace {
    /// The time from one request for a user's token to the next.
    renewal: Duration,
    /// Whether there are more users than tokens can be kept: then each question may take a token.
    is_crowded: bool,
}

impl Default for TokenPace {
    /// Before any token told its life.
    fn default() -> Self {
        Self { renewal: USUAL_RENEWAL, is_crowded: false }
    }
}

impl TokenPace {
    /// With tokens that live so long, and room for all of them.
    pub fn of_life(life: Duration) -> Self {
        let now = Instant::now();
        Self { renewal: Span::new(Some(life), now).renew_at - now, is_crowded: false }
    }

    /// Token requests per second for a user whose queue is asked every `pause`.
    pub fn per_second(&self, pause: Duration) -> f64 {
        let every = if self.is_crowded { pause } else { pause.max(self.renewal) };
        1.0 / every.as_secs_f64().max(0.001)
    }
}

/// Users' tokens.
pub(in crate::linxo) struct UserTokens {
    keys: KeyRing,
    /// Tells credentials apart, by hashes that mean nothing outside of this process.
    hasher: RandomState,
    most_bytes: usize,
    state: Mutex<State>,
}

/// One user's token, open.
pub(in crate::linxo) struct UserToken {
    pub(in crate::linxo) authorization: HeaderValue,
    serial: u64,
    ends_at: Instant,
}

struct State {
    by_user: HashMap<UserId, Kept>,
    flights: HashMap<UserId, Arc<Flight>>,
    bytes: usize,
    clean_at: usize,
    serial: u64,
    renewal: Duration,
    crowded_at: Option<Instant>,
    is_failing: bool,
}

struct Kept {
    sealed: Box<[u8]>,
    /// Which name and password it was given for.
    of: u64,
    serial: u64,
    span: Span,
    used_at: Instant,
    failures: u32,
}

/// A request for a user's token, and all who wait for it.
struct Flight {
    of: u64,
    landed: OnceCell<Result<Arc<UserToken>, TokenFault>>,
}

enum Next {
    Use(Arc<UserToken>),
    /// Take part in a request; what serves if it fails.
    Wait(Arc<Flight>, Option<Arc<UserToken>>),
}

impl UserTokens {
    pub(in crate::linxo) fn new() -> Result<Self, SourceError> {
        Self::within(MOST_BYTES)
    }

    fn within(most_bytes: usize) -> Result<Self, SourceError> {
        let keys = KeyRing::random().map_err(|source| SourceError::NoKey { source })?;
        let state = State {
            by_user: HashMap::new(),
            flights: HashMap::new(),
            bytes: 0,
            clean_at: CLEAN_FIRST_AT,
            serial: 0,
            renewal: USUAL_RENEWAL,
            crowded_at: None,
            is_failing: false,
        };
        let state = Mutex::new(state);
        Ok(Self { keys, hasher: RandomState::new(), most_bytes, state })
    }

    /// A token of this user that is good by now, asked for when there is none.
    pub(in crate::linxo) async fn current(
        &self,
        user: &UserId,
        username: &str,
        password: &str,
        wire: &Wire,
        endpoint: &TokenEndpoint,
    ) -> Result<Arc<UserToken>, TokenFault> {
        let of = self.hasher.hash_one((username, password));
        // boxed, as every question has room for what is done once an hour
        let grant = Grant::Password { username, password };
        let asking = async { Box::pin(endpoint.request(wire, grant)).await };
        self.current_or(user, of, asking).await
    }

    /// The same; `asking` is polled only when it falls to this call to ask.
    async fn current_or(
        &self,
        user: &UserId,
        of: u64,
        asking: impl Future<Output = Result<Given, TokenFault>>,
    ) -> Result<Arc<UserToken>, TokenFault> {
        let (flight, old) = match self.next(user, of) {
            Next::Use(token) => return Ok(token),
            Next::Wait(flight, old) => (flight, old),
        };
        let landed = flight.landed.get_or_init(|| async {
            let asked_at = Instant::now();
            let outcome = asking.await;
            self.land(user, &flight, asked_at, outcome)
        });
        match (landed.await.clone(), old) {
            (Ok(token), _) => Ok(token),
            (Err(_), Some(old)) if Instant::now() < old.ends_at => Ok(old),
            (Err(fault), _) => Err(fault),
        }
    }

    /// Throws away the token that was answered with 401, and no newer one.
    pub(in crate::linxo) fn discard(&self, user: &UserId, used: &UserToken) {
        let mut state = self.state();
        if state.by_user.get(user).is_some_and(|kept| kept.serial == used.serial) {
            state.remove(user);
        }
    }

    /// Forgets a user: what is kept, and what is under way.
    pub(in crate::linxo) fn forget(&self, user: &UserId) {
        let mut state = self.state();
        state.flights.remove(user);
        state.remove(user);
    }

    pub(in crate::linxo) fn pace(&self) -> TokenPace {
        let state = self.state();
        let is_crowded = state.crowded_at.is_some_and(|at| at.elapsed() < CROWDED_FOR);
        TokenPace { renewal: state.renewal, is_crowded }
    }

    fn next(&self, user: &UserId, of: u64) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        let mut old = None;
        match state.by_user.get_mut(user) {
            Some(kept) if kept.of == of && now < kept.span.ends_at => {
                kept.used_at = now;
                let token = self.open(user, kept).map(Arc::new);
                if let Some(token) = &token
                    && now < kept.span.renew_at
                {
                    return Next::Use(Arc::clone(token));
                }
                old = token;
            }
            Some(_) => state.remove(user),
            None => {}
        }
        let flight = match state.flights.get(user) {
            Some(flight) if flight.of == of => Arc::clone(flight),
            _ => {
                let flight = Arc::new(Flight { of, landed: OnceCell::new() });
                state.flights.insert(user.clone(), Arc::clone(&flight));
                flight
            }
        };
        Next::Wait(flight, old)
    }

    /// Takes in what a request came to, unless the user was forgotten meanwhile.
    fn land(
        &self,
        user: &UserId,
        flight: &Arc<Flight>,
        asked_at: Instant,
        outcome: Result<Given, TokenFault>,
    ) -> Result<Arc<UserToken>, TokenFault> {
        let mut state = self.state();
        state.note(&outcome);
        let is_wanted = state.flights.get(user).is_some_and(|wanted| Arc::ptr_eq(wanted, flight));
        if is_wanted {
            state.flights.remove(user);
        }
        let given = match outcome {
            Ok(given) => given,
            Err(fault) => {
                if is_wanted && let Some(kept) = state.by_user.get_mut(user) {
                    kept.postpone(&fault);
                }
                return Err(fault);
            }
        };
        let span = Span::new(given.expires_in, asked_at);
        let unusable = TokenFault::Answered { status: 200 };
        let authorization = header(&given.access_token).ok_or(unusable)?;
        state.serial += 1;
        state.renewal = span.renew_at - asked_at;
        let serial = state.serial;
        // what cannot be sealed is not kept: it serves this once
        let sealed = self.keys.seal_bytes(PURPOSE, user.as_str(), given.access_token.as_bytes());
        if is_wanted && let Ok(sealed) = sealed {
            let sealed = sealed.into_boxed_slice();
            let used_at = Instant::now();
            let kept = Kept { sealed, of: flight.of, serial, span, used_at, failures: 0 };
            state.keep(user, kept, self.most_bytes);
        }
        Ok(Arc::new(UserToken { authorization, serial, ends_at: span.ends_at }))
    }

    fn open(&self, user: &UserId, kept: &Kept) -> Option<UserToken> {
        let text = self.keys.open_bytes(PURPOSE, user.as_str(), &kept.sealed).ok()?;
        let authorization = header(std::str::from_utf8(&text).ok()?)?;
        Some(UserToken { authorization, serial: kept.serial, ends_at: kept.span.ends_at })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.sealed.len() + OVERHEAD_BYTES
    }

    fn postpone(&mut self, fault: &TokenFault) {
        self.span.renew_at = match fault {
            TokenFault::Refused(_) => self.span.ends_at,
            TokenFault::Throttled { .. }
            | TokenFault::Answered { .. }
            | TokenFault::Unreachable(_) => Instant::now() + fault.pause(self.failures),
        };
        self.failures = self.failures.saturating_add(1);
    }
}

impl State {
    fn keep(&mut self, user: &UserId, kept: Kept, most_bytes: usize) {
        self.remove(user);
        if self.bytes + kept.bytes() > most_bytes || self.by_user.len() >= self.clean_at {
            self.make_room(kept.bytes(), most_bytes);
        }
        self.bytes += kept.bytes();
        self.by_user.insert(user.clone(), kept);
    }

    /// Lets go of what has ended, and when that is too little, of what was used least lately.
    fn make_room(&mut self, wanted: usize, most_bytes: usize) {
        let now = Instant::now();
        self.by_user.retain(|_, kept| {
            let is_good = now < kept.span.ends_at;
            if !is_good {
                self.bytes -= kept.bytes();
            }
            is_good
        });
        self.clean_at = CLEAN_FIRST_AT.max(self.by_user.len() * 2);
        if self.bytes + wanted <= most_bytes {
            return;
        }
        if self.crowded_at.is_none_or(|at| now >= at + CROWDED_FOR) {
            tracing::warn!(
                users = self.by_user.len(),
                "more users with passwords than tokens can be kept, some are asked for anew"
            );
        }
        self.crowded_at = Some(now);
        let mut by_age: Vec<(Instant, UserId)> =
            self.by_user.iter().map(|(user, kept)| (kept.used_at, user.clone())).collect();
        by_age.sort_unstable();
        for (_, user) in by_age {
            if self.bytes + wanted <= most_bytes - most_bytes / 8 {
                break;
            }
            self.remove(&user);
        }
    }

    fn remove(&mut self, user: &UserId) {
        if let Some(kept) = self.by_user.remove(user) {
            self.bytes -= kept.bytes();
        }
    }

    /// Says when the token endpoint goes away and comes back, once for all users.
    fn note(&mut self, outcome: &Result<Given, TokenFault>) {
        match outcome {
            Err(TokenFault::Refused(refused)) => {
                tracing::debug!(reason = %refused, "got no token for a user");
            }
            Err(fault) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(error = %CallFault::from(fault.clone()), "got no tokens for users");
            }
            Err(_) => {}
            Ok(_) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("got tokens for users again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
