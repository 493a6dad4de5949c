//! How each request over the source API is answered.
//!
//! Promises:
//! - a question that reaches a live queue resets its timer and takes what waits (`handing.rs`);
//! - a question to a queue of another user is answered 403 and touches nothing; to one that is dead
//!   or was never there, the dead status;
//! - what a fault does to the events is written down in the same step.
//!
//! Knows nothing of: HTTP.

mod granting;
mod handing;
#[cfg(test)]
mod tests;

pub(super) use granting::TokenRequest;

use std::borrow::Cow;

use super::fault::{Fault, Request, RequestKind};
use super::options::Version;
use super::reply::{Refusal, Reply, Sending, Waybill};
use super::tokens::Bearer;
use super::world::World;

/// Who sent a request.
#[derive(Debug, Default)]
pub(super) struct Caller<'a> {
    pub(super) token: Option<&'a str>,
    /// The user named by header or parameter.
    pub(super) user: Option<Cow<'a, str>>,
    /// What it calls itself.
    pub(super) agent: &'a str,
}

impl World {
    /// `GET /queues/{id}`.
    pub(super) fn ask(&mut self, caller: &Caller<'_>, id: &str) -> Reply {
        let now = self.advance();
        let number =
            self.names.queue_number(id).filter(|number| (*number as usize) < self.queues.len());
        let reply = self.answer(caller, number, now);
        self.book.totals.polls += 1;
        *self.book.totals.answers.entry(reply.outcome()).or_default() += 1;
        reply
    }

    fn answer(&mut self, caller: &Caller<'_>, number: Option<u32>, now: u64) -> Reply {
        let user = match self.identify(caller, now) {
            Ok(user) => user,
            Err(refusal) => {
                if let Some(number) = number {
                    self.bury_if_expired(number, now);
                    self.note_question(number, caller.agent, now);
                }
                return Reply::Refused(refusal);
            }
        };
        let own = number.and_then(|number| {
            self.bury_if_expired(number, now);
            let queue = self.queues.get(number as usize)?;
            let is_own = Some(queue.user) == user;
            let own_live = is_own && queue.is_live();
            let request = Request {
                live_queue: own_live,
                events_wait: own_live && !queue.waiting.is_empty(),
                can_repeat: own_live && queue.can_repeat(),
                ..Request::of(RequestKind::Ask, user)
            };
            if is_own {
                self.note_question(number, caller.agent, now);
            }
            Some((is_own, request))
        });
        let request = own.map_or(Request::of(RequestKind::Ask, user), |(_, request)| request);
        let fault = self.faults.draw(&request, now);
        if let Some(refusal) = self.error_head(fault.as_ref(), caller) {
            return Reply::Refused(refusal);
        }
        match (number, own) {
            (Some(_), Some((false, _))) => Reply::Refused(Refusal::FORBIDDEN),
            (Some(number), Some((true, request))) if request.live_queue => {
                self.hand_out(number, fault, now)
            }
            (Some(_) | None, _) => Reply::Refused(self.dead()),
        }
    }

    /// `POST /queues/subscribe`.
    pub(super) fn subscribe(&mut self, caller: &Caller<'_>) -> Reply {
        let now = self.advance();
        let (user, fault) = match self.admit(caller, RequestKind::Subscribe, now) {
            Ok(admitted) => admitted,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let Some(number) = self.open_queue(user, now) else {
            return Reply::Refused(Refusal::FULL);
        };
        self.book.totals.subscribes += 1;
        if let Some(user) = self.users.get_mut(user as usize) {
            user.subscribes = user.subscribes.saturating_add(1);
        }
        let sending = Sending::of_fault(fault.as_ref());
        let location = match fault {
            Some(Fault::Location { form }) => form,
            Some(_) | None => self.options.location,
        };
        Reply::Created { queue: self.names.queue(number), location, sending }
    }

    /// `GET /connections`.
    pub(super) fn list(&mut self, caller: &Caller<'_>) -> Reply {
        let now = self.advance();
        self.book.totals.listings += 1;
        let (user, fault) = match self.admit(caller, RequestKind::Connections, now) {
            Ok(admitted) => admitted,
            Err(refusal) => return Reply::Refused(refusal),
        };
        let (version, extras) = (self.options.version, self.options.extra_fields);
        self.make_connections(user, now);
        let mut text = String::from("[");
        if let Some(user) = self.users.get(user as usize)
            && fault != Some(Fault::EmptyList)
        {
            for (place, connection) in user.connections.iter().flatten().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                connection.write(&mut text, &user.name, version, extras);
            }
        }
        text.push(']');
        if version == Version::V3 {
            text = format!("{{\"connections\":{text}}}");
        }
        let sending = Sending::of_fault(fault.as_ref());
        Reply::Json { text, sending, waybill: Waybill::Nothing }
    }

    /// The user a request is for; none when a client token names one that is not known.
    fn identify(&mut self, caller: &Caller<'_>, now: u64) -> Result<Option<u32>, Refusal> {
        let bearer = caller.token.and_then(|token| self.tokens.open(token, now));
        match (bearer, caller.user.as_deref()) {
            (None, _) => Err(Refusal::UNAUTHORIZED),
            (Some(Bearer::User(user)), None) => Ok(Some(user)),
            (Some(Bearer::User(user)), Some(named)) => {
                if self.user_numbers.get(named) == Some(&user) {
                    Ok(Some(user))
                } else {
                    self.book.totals.mismatched += 1;
                    Err(Refusal::FORBIDDEN)
                }
            }
            (Some(Bearer::Client), None) => Err(Refusal::NO_USER_NAMED),
            (Some(Bearer::Client), Some(named)) => Ok(self.user_numbers.get(named).copied()),
        }
    }

    /// Identifies the user, makes them when that is allowed, and draws the fault.
    fn admit(
        &mut self,
        caller: &Caller<'_>,
        kind: RequestKind,
        now: u64,
    ) -> Result<(u32, Option<Fault>), Refusal> {
        let user = match (self.identify(caller, now)?, caller.user.as_deref()) {
            (Some(user), _) => user,
            (None, Some(named)) if self.options.make_users => {
                self.user(named).ok_or(Refusal::FULL)?
            }
            (None, _) => return Err(Refusal::NO_SUCH_USER),
        };
        let fault = self.faults.draw(&Request::of(kind, Some(user)), now);
        match self.error_head(fault.as_ref(), caller) {
            Some(refusal) => Err(refusal),
            None => Ok((user, fault)),
        }
    }

    fn error_head(&mut self, fault: Option<&Fault>, caller: &Caller<'_>) -> Option<Refusal> {
        let fault = fault?;
        if let (Fault::RevokeToken, Some(token)) = (fault, caller.token) {
            self.tokens.revoke(token);
        }
        Refusal::of_fault(fault, Refusal::UNAUTHORIZED)
    }

    fn dead(&self) -> Refusal {
        Refusal::new(self.options.dead_status, "RESOURCE_UNKNOWN", "there is no such queue")
    }
}
