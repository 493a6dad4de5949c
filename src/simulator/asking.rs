//! How each request over the source API is answered.
//!
//! Promises:
//! - a question that reaches a live queue resets its timer and takes what waits, once;
//! - a question to a queue of another user is answered 403 and touches nothing; to one that is dead
//!   or was never there, the dead status;
//! - what a fault does to the events is written down in the same step.
//!
//! Knows nothing of: HTTP.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::clock::millis;
use super::fault::{Fault, Request, RequestKind};
use super::ledger::Fate;
use super::options::Version;
use super::queue::DeathCause;
use super::reply::{Delivery, Refusal, Reply};
use super::tokens::Bearer;
use super::world::World;

/// The type that a fault gives to events.
const UNKNOWN_TYPE: &str = "SIMULATOR_UNKNOWN_TYPE";

/// Who sent a request.
#[derive(Debug, Default)]
pub(super) struct Caller<'a> {
    pub(super) token: Option<&'a str>,
    /// The user named by header or parameter.
    pub(super) user: Option<Cow<'a, str>>,
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
                    self.note_question(number, now);
                }
                return Reply::Refused(refusal);
            }
        };
        let own = number.and_then(|number| {
            self.bury_if_expired(number, now);
            let queue = self.queues.get(number as usize)?;
            let own = (Some(queue.user) == user, queue.is_live(), !queue.waiting.is_empty());
            if own.0 {
                self.note_question(number, now);
            }
            Some(own)
        });
        let request = Request {
            kind: RequestKind::Ask,
            user,
            live_queue: matches!(own, Some((true, true, _))),
            events_wait: matches!(own, Some((true, true, true))),
        };
        let fault = self.faults.draw(&request);
        if let Some(refusal) = self.error_head(fault.as_ref(), caller) {
            return Reply::Refused(refusal);
        }
        match (number, own) {
            (Some(_), Some((false, _, _))) => Reply::Refused(Refusal::FORBIDDEN),
            (Some(number), Some((true, true, _))) => self.hand_out(number, fault, now),
            (Some(_) | None, _) => Reply::Refused(self.dead()),
        }
    }

    /// Takes what waits in a live queue and writes down what becomes of it.
    fn hand_out(&mut self, number: u32, fault: Option<Fault>, now: u64) -> Reply {
        if fault == Some(Fault::KillQueue) {
            self.bury(number, now, DeathCause::Killed);
            return Reply::Refused(self.dead());
        }
        let Some(queue) = self.queues.get_mut(number as usize) else {
            return Reply::Refused(self.dead());
        };
        queue.reached = now;
        if fault == Some(Fault::EmptyList) {
            return Reply::Events {
                texts: Vec::new(),
                records: Vec::new(),
                delivery: Delivery::Whole,
            };
        }
        let delivery = Delivery::of_fault(fault.as_ref());
        if queue.waiting.is_empty() && delivery == Delivery::Whole {
            return Reply::Nothing;
        }
        let answer = queue.questions;
        let mut taken = queue.take();
        if fault == Some(Fault::Reorder) {
            taken.reverse();
        }
        let fate = if delivery.loses() { Fate::LostOnTheWire } else { Fate::HandedOut };
        let name = fault.as_ref().map(Fault::name);
        let mut texts = Vec::with_capacity(taken.len());
        let mut records = Vec::with_capacity(taken.len());
        for (place, event) in taken.into_iter().enumerate() {
            self.book.hand_out(event.record, now, answer, name, fate);
            records.push(event.record);
            texts.push(match &fault {
                Some(Fault::UnknownType) => {
                    self.book.retype(event.record, UNKNOWN_TYPE);
                    altered(&event.text, "event_type", Some(UNKNOWN_TYPE))
                }
                Some(Fault::MissingField { field }) if place == 0 => {
                    self.book.note_without(event.record, field);
                    altered(&event.text, field, None)
                }
                _ => event.text,
            });
        }
        Reply::Events { texts, records, delivery }
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
        let location = match fault {
            Some(Fault::Location { form }) => form,
            Some(_) | None => self.options.location,
        };
        Reply::Created { queue: self.names.queue(number), location }
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
        Reply::Json { text, delivery: Delivery::of_fault(fault.as_ref()) }
    }

    /// `POST /token` with the client's own credentials.
    pub(super) fn token(&mut self, grant: &str, client_id: &str, client_secret: &str) -> Reply {
        let now = self.advance();
        self.book.totals.token_requests += 1;
        let request =
            Request { kind: RequestKind::Token, user: None, live_queue: false, events_wait: false };
        let fault = self.faults.draw(&request);
        if let Some(refusal) = fault.as_ref().and_then(|fault| Refusal::of_fault(fault, true)) {
            return Reply::Refused(refusal);
        }
        if client_id != self.options.client_id || client_secret != self.options.client_secret {
            return Reply::Refused(Refusal::NO_CLIENT);
        }
        if grant != "client_credentials" {
            return Reply::Refused(Refusal::new(
                400,
                "unsupported_grant_type",
                "grant_type must be client_credentials",
            ));
        }
        let lifetime = millis(self.options.token_lifetime);
        let token = self.tokens.issue(Bearer::Client, now, lifetime);
        let text = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": lifetime / 1000,
        })
        .to_string();
        Reply::Json { text, delivery: Delivery::of_fault(fault.as_ref()) }
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
        let request = Request { kind, user: Some(user), live_queue: false, events_wait: false };
        let fault = self.faults.draw(&request);
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
        Refusal::of_fault(fault, false)
    }

    fn dead(&self) -> Refusal {
        Refusal::new(self.options.dead_status, "RESOURCE_UNKNOWN", "there is no such queue")
    }
}

/// An event with another value in a field, or without the field.
fn altered(text: &str, field: &str, value: Option<&str>) -> Box<str> {
    let Ok(Value::Object(mut event)) = serde_json::from_str(text) else {
        return text.into();
    };
    match value {
        Some(value) => {
            event.insert(field.to_owned(), value.into());
        }
        None => {
            event.remove(field);
        }
    }
    Value::Object(event).to_string().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::advance;

    use super::super::fault::Order;
    use super::super::ledger::{Extract, Ledger, Outcome};
    use super::super::options::{EventIds, Options};
    use super::super::script::{Status, Sync};
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Desk {
        world: World,
        token: String,
    }

    impl Desk {
        fn new(options: Options) -> Self {
            let mut world = World::new(Arc::new(options));
            let token = world.issue_for(None, None).unwrap().0;
            Self { world, token }
        }

        fn subscribe(&mut self, user: &str) -> String {
            let token = self.token.clone();
            let reply = self.world.subscribe(&caller(&token, user));
            let Reply::Created { queue, .. } = reply else { panic!("{reply:?}") };
            queue
        }

        fn ledger(&mut self) -> Ledger {
            self.world.ledger(&Extract::default())
        }

        fn ask(&mut self, user: &str, queue: &str) -> Reply {
            let token = self.token.clone();
            self.world.ask(&caller(&token, user), queue)
        }

        fn outcome(&mut self, user: &str, queue: &str) -> Outcome {
            self.ask(user, queue).outcome()
        }

        fn event_ids(&mut self, user: &str, queue: &str) -> Vec<String> {
            let Reply::Events { texts, .. } = self.ask(user, queue) else { return Vec::new() };
            texts
                .iter()
                .map(|text| serde_json::from_str::<Value>(text).unwrap())
                .map(|event| event["id"].as_str().unwrap().to_owned())
                .collect()
        }
    }

    fn caller<'a>(token: &'a str, user: &'a str) -> Caller<'a> {
        Caller { token: Some(token), user: Some(user.into()) }
    }

    fn desk() -> Desk {
        let hours = Duration::from_secs(24 * 3600);
        Desk::new(Options { token_lifetime: hours, ..Options::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_dies_15_minutes_after_the_last_question_and_each_question_resets_that() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        for _ in 0..3 {
            advance(14 * MINUTE + Duration::from_millis(59_999)).await;
            assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
        }
        desk.world.push_events("u", None, 2).unwrap();
        advance(15 * MINUTE).await;
        assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
        let ledger = desk.ledger();
        let death = &ledger.deaths[0];
        assert_eq!(death.cause, DeathCause::Expired);
        assert_eq!(death.undelivered, [Some("1".into()), Some("2".into())]);
        assert_eq!(death.at, ledger.queues[0].last_reached_at + 900_000);
        assert_eq!(ledger.queues[0].longest_pause_ms, 899_999);
        assert_eq!(desk.world.stats().longest_pause_ms, 899_999);
        assert_eq!(desk.world.stats().died_with_queue, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_nobody_asks_again_is_dead_in_the_ledger_at_its_own_time() {
        let mut desk = desk();
        desk.subscribe("u");
        advance(60 * MINUTE).await;
        assert_eq!(desk.world.stats().live_queues, 0);
        let ledger = desk.ledger();
        assert_eq!(ledger.deaths[0].at, ledger.queues[0].opened_at + 900_000);
        let stranger = Extract { user: Some("stranger".to_owned()), ..Extract::default() };
        assert_eq!(desk.world.ledger(&stranger).queues, []);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_head_neither_removes_events_nor_resets_the_timer() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 1).unwrap();
        let heads = [
            (Fault::Unauthorized, Outcome::Unauthorized),
            (Fault::Forbidden, Outcome::Forbidden),
            (Fault::Throttle { retry_after: Some(3) }, Outcome::Throttled),
            (Fault::ServerError { status: 503 }, Outcome::ServerError),
        ];
        for (fault, outcome) in heads {
            desk.world.inflict(Order::next(1, fault).of("u")).unwrap();
            assert_eq!(desk.outcome("u", &queue), outcome);
        }
        assert_eq!(desk.world.stats().waiting, 1);
        advance(14 * MINUTE).await;
        desk.world.inflict(Order::next(1, Fault::Forbidden)).unwrap();
        assert_eq!(desk.outcome("u", &queue), Outcome::Forbidden);
        advance(MINUTE).await;
        assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
        assert_eq!(desk.ledger().queues[0].questions, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_handed_out_once_in_order_and_to_each_queue_of_the_user() {
        let mut desk = desk();
        let (first, second) = (desk.subscribe("u"), desk.subscribe("u"));
        let foreign = desk.subscribe("v");
        desk.world.push_events("u", None, 3).unwrap();
        assert_eq!(desk.event_ids("u", &first), ["1", "2", "3"]);
        assert_eq!(desk.outcome("u", &first), Outcome::Empty);
        desk.world.push_events("u", None, 1).unwrap();
        assert_eq!(desk.event_ids("u", &first), ["4"]);
        assert_eq!(desk.event_ids("u", &second), ["1", "2", "3", "4"]);
        assert_eq!(desk.outcome("v", &foreign), Outcome::Empty);
        let ledger = desk.ledger();
        assert_eq!(ledger.events.len(), 8);
        assert!(ledger.events.iter().all(|event| event.fate == Fate::HandedOut));
        let answers: Vec<_> = ledger
            .taken_from(&first)
            .iter()
            .map(|event| event.handed_out.as_ref().unwrap().answer)
            .collect();
        assert_eq!(answers, [1, 1, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_without_a_live_queue_is_written_down_and_handed_to_nobody() {
        let mut desk = desk();
        assert_eq!(desk.world.push_events("u", None, 1).unwrap(), 0);
        let queue = desk.subscribe("u");
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
        let ledger = desk.ledger();
        assert_eq!(ledger.events[0].fate, Fate::NoQueue);
        assert_eq!(ledger.events[0].queue, None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_users_queue_is_forbidden_and_not_touched() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 1).unwrap();
        desk.subscribe("v");
        assert_eq!(desk.outcome("v", &queue), Outcome::Forbidden);
        assert_eq!(desk.outcome("u", "no-such-queue"), Outcome::Dead);
        assert_eq!(desk.event_ids("u", &queue), ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_token_opens_their_own_queue_only_and_runs_out() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        let (own, _) = desk.world.issue_for(Some("u"), Some(1_000)).unwrap();
        let alone = Caller { token: Some(&own), user: None };
        assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Empty);
        let wrong = caller(&own, "v");
        assert_eq!(desk.world.ask(&wrong, &queue).outcome(), Outcome::Forbidden);
        assert_eq!(desk.world.stats().mismatched, 1);
        let unnamed = Caller { token: Some(&desk.token.clone()), user: None };
        assert_eq!(desk.world.ask(&unnamed, &queue).outcome(), Outcome::BadRequest);
        advance(Duration::from_secs(1)).await;
        assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Unauthorized);
        assert_eq!(desk.world.ask(&Caller::default(), &queue).outcome(), Outcome::Unauthorized);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spread_synchronization_makes_each_event_at_its_own_moment() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        let sync = Sync { over_ms: 9_000, ..Sync::default() };
        assert_eq!(desk.world.start_sync("u", &sync).unwrap(), 10);
        assert_eq!(desk.event_ids("u", &queue), ["1"]);
        advance(Duration::from_millis(1_999)).await;
        assert_eq!(desk.event_ids("u", &queue), ["2"]);
        advance(Duration::from_secs(60)).await;
        assert_eq!(desk.event_ids("u", &queue).len(), 8);
        let ledger = desk.ledger();
        let first = ledger.events[0].made_at;
        let moments: Vec<_> = ledger.events.iter().map(|event| event.made_at - first).collect();
        assert_eq!(moments, (0..10).map(|step| step * 1_000).collect::<Vec<u64>>());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_spread_synchronization_makes_before_a_queue_expires_dies_with_it() {
        let mut desk = desk();
        desk.subscribe("u");
        advance(14 * MINUTE).await;
        let sync = Sync { over_ms: 180_000, ..Sync::default() };
        desk.world.start_sync("u", &sync).unwrap();
        advance(10 * MINUTE).await;
        let stats = desk.world.stats();
        assert_eq!((stats.died_with_queue, stats.no_queue), (3, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_stays_in_the_snapshots_until_the_next_synchronization() {
        let mut desk = desk();
        desk.subscribe("u");
        desk.world.start_sync("u", &Sync::ending(Status::TokenExpired)).unwrap();
        desk.world.push_events("u", None, 1).unwrap();
        let statuses: Vec<_> = desk.ledger().events.iter().map(|event| event.redirect).collect();
        assert_eq!(statuses.first(), Some(&Some(Status::Running)));
        assert_eq!(statuses.last(), Some(&Some(Status::TokenExpired)));
        desk.world.start_sync("u", &Sync::default()).unwrap();
        let ledger = desk.ledger();
        assert_eq!(ledger.events.last().unwrap().redirect, Some(Status::Success));
    }

    #[tokio::test(start_paused = true)]
    async fn opaque_event_ids_agree_with_the_ledger() {
        let mut desk = Desk::new(Options { event_ids: EventIds::Opaque, ..Options::default() });
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 2).unwrap();
        let ids = desk.event_ids("u", &queue);
        assert!(ids[0].starts_with("evt_") && ids[0] != ids[1]);
        let ledger = desk.ledger();
        let written: Vec<_> =
            ledger.events.iter().map(|event| event.event_id.as_deref().unwrap()).collect();
        assert_eq!(written, ids);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_takes_no_more_and_the_missing_id_shows_it() {
        let mut desk = Desk::new(Options { max_waiting: 2, ..Options::default() });
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 3).unwrap();
        assert_eq!(desk.event_ids("u", &queue), ["1", "2"]);
        desk.world.push_events("u", None, 1).unwrap();
        assert_eq!(desk.event_ids("u", &queue), ["4"]);
        assert_eq!(desk.ledger().events[2].fate, Fate::Overflow);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_makes_the_same_queues() {
        let (mut first, mut second) = (desk(), desk());
        assert_eq!(first.subscribe("u"), second.subscribe("u"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_ledger_is_read_page_by_page_and_nothing_is_left_out() {
        let mut desk = desk();
        desk.subscribe("u");
        desk.subscribe("v");
        for user in ["u", "v", "u", "v", "u"] {
            desk.world.push_events(user, None, 1).unwrap();
        }
        let whole = desk.ledger();
        let mut extract = Extract { limit: Some(2), ..Extract::default() };
        let mut pages = vec![desk.world.ledger(&extract)];
        while let Some(next) = pages.last().unwrap().next {
            extract.from = next;
            pages.push(desk.world.ledger(&extract));
        }
        let sizes: Vec<_> =
            pages.iter().map(|page| (page.events.len(), page.queues.len())).collect();
        assert_eq!(sizes, [(2, 2), (2, 0), (1, 0)]);
        let events: Vec<_> = pages.into_iter().flat_map(|page| page.events).collect();
        assert_eq!(events, whole.events);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_to_a_dead_queue_are_no_pauses() {
        let mut desk = desk();
        let queue = desk.subscribe("u");
        desk.world.kill(&queue);
        advance(MINUTE).await;
        assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
        assert_eq!(desk.world.ask(&Caller::default(), &queue).outcome(), Outcome::Unauthorized);
        let entry = desk.ledger().queues[0].clone();
        assert_eq!((entry.questions, entry.longest_pause_ms, entry.silent_ms), (0, 0, 0));
        assert_eq!(desk.world.stats().answers[&Outcome::Dead], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn users_and_queues_are_bounded() {
        let mut desk = Desk::new(Options { max_users: 1, max_queues: 1, ..Options::default() });
        desk.subscribe("u");
        for user in ["u", "v"] {
            let token = desk.token.clone();
            let reply = desk.world.subscribe(&caller(&token, user));
            assert!(matches!(reply, Reply::Refused(refusal) if refusal.status == 503));
        }
    }
}
