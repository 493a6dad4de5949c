//! The bridge's own token, kept.
//!
//! Promises:
//! - it is asked for once, however many wait for it, and again shortly before it runs out; if that
//!   fails, the old one serves to its end;
//! - a 401 throws away the token it was given to and no newer one, at most once a second;
//! - after a failure nobody asks for a while: 3 s when refused, else from 0.5 s doubling to 10 s.
//!
//! Knows nothing of: users, queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::endpoint::{Grant, TokenEndpoint};
use super::{Span, TokenFault, header};
use crate::linxo::fault::CallFault;
use crate::linxo::wire::Wire;

/// The least time between two tokens thrown away for a 401.
const DISCARD_SPACING: Duration = Duration::from_secs(1);

/// The bridge's own token, kept.
pub(in crate::linxo) struct ClientToken {
    kept: Mutex<Kept>,
    flight: tokio::sync::Mutex<()>,
}

/// One token of the bridge.
pub(in crate::linxo) struct Token {
    pub(in crate::linxo) authorization: HeaderValue,
    span: Span,
}

#[derive(Default)]
struct Kept {
    token: Option<Arc<Token>>,
    fault: Option<(TokenFault, Instant)>,
    failures: u32,
    discarded_at: Option<Instant>,
}

/// What is to be done for a token.
enum Next {
    Use(Arc<Token>),
    Renew(Arc<Token>),
    Fail(TokenFault),
    Ask,
}

impl Kept {
    fn next(&self, now: Instant) -> Next {
        let paused = self.fault.as_ref().filter(|(_, until)| now < *until);
        match (&self.token, paused) {
            (Some(token), _) if now < token.span.renew_at => Next::Use(Arc::clone(token)),
            (Some(token), Some(_)) if now < token.span.ends_at => Next::Use(Arc::clone(token)),
            (Some(token), None) if now < token.span.ends_at => Next::Renew(Arc::clone(token)),
            (_, Some((fault, _))) => Next::Fail(fault.clone()),
            (_, None) => Next::Ask,
        }
    }

    fn granted(&mut self, authorization: HeaderValue, life: Option<Duration>, asked_at: Instant) {
        let span = Span::new(life, asked_at);
        self.token = Some(Arc::new(Token { authorization, span }));
        self.fault = None;
        self.failures = 0;
    }

    fn failed(&mut self, fault: TokenFault, now: Instant) {
        let pause = fault.pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.fault = Some((fault, now + pause));
    }

    /// Whether another try is worth it, with another token than the one used.
    fn discard(&mut self, used: &Arc<Token>, now: Instant) -> bool {
        let Some(kept) = &self.token else { return true };
        if !Arc::ptr_eq(kept, used) {
            return true;
        }
        if self.discarded_at.is_some_and(|at| now < at + DISCARD_SPACING) {
            return false;
        }
        self.discarded_at = Some(now);
        self.token = None;
        true
    }
}

impl ClientToken {
    pub(in crate::linxo) fn new() -> Self {
        Self { kept: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// A token that is good by now, asked for when there is none.
    pub(in crate::linxo) async fn current(
        &self,
        wire: &Wire,
        endpoint: &TokenEndpoint,
    ) -> Result<Arc<Token>, TokenFault> {
        // Not inside the match: the guard would live on through the wait below.
        let next = self.kept().next(Instant::now());
        let _flight = match next {
            Next::Use(token) => return Ok(token),
            Next::Fail(fault) => return Err(fault),
            Next::Renew(token) => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(token),
            },
            Next::Ask => self.flight.lock().await,
        };
        // Another may have asked while this one waited for its turn.
        let next = self.kept().next(Instant::now());
        let old = match next {
            Next::Use(token) => return Ok(token),
            Next::Fail(fault) => return Err(fault),
            Next::Renew(token) => Some(token),
            Next::Ask => None,
        };
        let asked_at = Instant::now();
        // boxed, as every question has room for what is done once an hour
        let fault = match Box::pin(endpoint.request(wire, Grant::Client)).await {
            Ok(given) => {
                let authorization = header(&given.access_token)
                    .unwrap_or_else(|| HeaderValue::from_static("Bearer"));
                let mut kept = self.kept();
                if kept.failures > 0 {
                    tracing::info!(attempt = kept.failures + 1, "got a client token again");
                }
                kept.granted(authorization, given.expires_in, asked_at);
                None
            }
            Err(fault) => {
                let mut kept = self.kept();
                if kept.failures == 0 {
                    tracing::warn!(error = %CallFault::from(fault.clone()), "got no client token");
                }
                kept.failed(fault.clone(), Instant::now());
                Some(fault)
            }
        };
        let kept = self.kept();
        match (&kept.token, fault, old) {
            (Some(token), None, _) => Ok(Arc::clone(token)),
            (_, Some(_), Some(old)) => Ok(old),
            (_, Some(fault), None) => Err(fault),
            // Thrown away by another in this very moment.
            (None, None, _) => Err(TokenFault::Answered { status: 200 }),
        }
    }

    /// Throws away the token that was answered with 401; false when trying again is of no use.
    pub(in crate::linxo) fn discard(&self, used: &Arc<Token>) -> bool {
        self.kept().discard(used, Instant::now())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::FIRST_PAUSE;
    use super::*;
    use crate::linxo::fault::{Refusal, Refused};

    fn granted(kept: &mut Kept, life: u64, now: Instant) -> Arc<Token> {
        kept.granted(HeaderValue::from_static("Bearer x"), Some(Duration::from_secs(life)), now);
        Arc::clone(kept.token.as_ref().unwrap())
    }

    fn away() -> TokenFault {
        TokenFault::Answered { status: 503 }
    }

    #[test]
    fn a_token_is_renewed_ahead_of_its_end() {
        let now = Instant::now();
        let mut kept = Kept::default();
        assert!(matches!(kept.next(now), Next::Ask));
        granted(&mut kept, 3600, now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(matches!(kept.next(at(3569)), Next::Use(_)));
        assert!(matches!(kept.next(at(3570)), Next::Renew(_)));
        assert!(matches!(kept.next(at(3600)), Next::Ask));
        granted(&mut kept, 10, now);
        assert!(matches!(kept.next(at(8)), Next::Use(_)));
        assert!(matches!(kept.next(at(9)), Next::Renew(_)));
    }

    #[test]
    fn an_old_token_serves_while_its_renewal_fails() {
        let now = Instant::now();
        let mut kept = Kept::default();
        granted(&mut kept, 3600, now);
        let late = now + Duration::from_secs(3590);
        kept.failed(away(), late);
        assert!(matches!(kept.next(late), Next::Use(_)));
        assert!(matches!(kept.next(late + FIRST_PAUSE), Next::Renew(_)));
        kept.failed(away(), now + Duration::from_secs(3600));
        assert!(matches!(kept.next(now + Duration::from_secs(3600)), Next::Fail(_)));
    }

    #[test]
    fn failures_are_spaced_ever_wider_and_refusals_evenly() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            kept.failed(away(), now);
            pauses.push((kept.fault.as_ref().unwrap().1 - now).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        let refused = Refused { what: Refusal::Client, how: "401".to_owned() };
        kept.failed(TokenFault::Refused(refused), now);
        assert!(matches!(kept.next(now + Duration::from_millis(2999)), Next::Fail(_)));
        assert!(matches!(kept.next(now + Duration::from_secs(3)), Next::Ask));
    }

    #[test]
    fn only_the_token_that_was_used_is_thrown_away_and_not_too_often() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let first = granted(&mut kept, 3600, now);
        assert!(kept.discard(&first, now));
        assert!(kept.discard(&first, now), "another threw it away: the next one is worth a try");
        let second = granted(&mut kept, 3600, now);
        assert!(kept.discard(&first, now));
        assert!(kept.token.is_some(), "the newer one stays");
        assert!(!kept.discard(&second, now), "too soon");
        assert!(kept.discard(&second, now + DISCARD_SPACING));
        assert!(kept.token.is_none());
    }
}
