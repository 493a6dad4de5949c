//! The faults that can be asked for, and which request meets which.
//!
//! What each does to the queue. An error head (401, 403, 429, 5xx) comes from in front of the
//! queue: it removes nothing and does **not** reset the expiry timer. A 200 head with a broken body
//! has removed the events that waited, and the ledger calls them lost on the wire.
//!
//! | fault | list | meets | answer | events that waited | timer |
//! |---|---|---|---|---|---|
//! | `unauthorized` | L2 | all | 401 | stay | not reset |
//! | `revoke_token` | L2 | all but token | 401, the token shown is dead from now on | stay | not reset |
//! | `forbidden` | L3 | all | 403 | stay | not reset |
//! | `kill_queue` | L4 | ask | 404 or 410, the queue is dead from now on | die with it | - |
//! | `throttle` | L5 | all | 429, with `Retry-After` in seconds or without | stay | not reset |
//! | `server_error` | L6 | all | 5xx | stay | not reset |
//! | `slow` | L7 | all but subscribe | 200, the body in drops over a time | handed out; lost when the client leaves first | reset |
//! | `hang` | L7 | all but subscribe | 200 and a length, then nothing until the client leaves | lost | reset |
//! | `cut` | L7 | all but subscribe | 200, half of the promised body, connection closed | lost | reset |
//! | `oversized` | L7 | all but subscribe | 200, a body of so many bytes that holds no event | lost | reset |
//! | `invalid_json` | L11 | all but subscribe | 200, the body less its last byte | lost | reset |
//! | `html` | L11 | all but subscribe | 200, a page of HTML | lost | reset |
//! | `location` | L12 | subscribe | 201, `Location` in that form or none; the queue exists | - | starts |
//! | `empty_list` | L15 | ask, connections | 200 `[]` | stay | reset |
//! | `reorder` | L10 | ask | the events in reverse order | handed out | reset |
//! | `unknown_type` | L10 | ask | every event of a type nobody knows | handed out | reset |
//! | `missing_field` | L10 | ask | the first event lacks that field | handed out | reset |
//!
//! L1 is a user without synchronizations. On a queue in which nothing waits, the faults with a body
//! break the body `[]`.
//!
//! Promises:
//! - orders for a user come before orders for all; among them the oldest that fits is carried out;
//! - a fault that acts on a queue is not used up by a request that names no live queue;
//! - healing forgets every order.
//!
//! Knows nothing of: queues, HTTP.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::Error;
use super::names::Names;
use super::options::LocationForm;

/// The requests that a fault can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// `GET /queues/{id}`.
    Ask,
    /// `POST /queues/subscribe`.
    Subscribe,
    /// `GET /connections`.
    Connections,
    /// `POST /token`; it names no user.
    Token,
}

/// What goes wrong. The table in the head of `fault.rs` says what each does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields are named for what they hold")]
pub enum Fault {
    /// 401.
    Unauthorized,
    /// 401, and the token shown is revoked.
    RevokeToken,
    /// 403.
    Forbidden,
    /// The queue dies now.
    KillQueue,
    /// 429, with `Retry-After` in seconds or without.
    Throttle {
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// An answer of this status, 500 to 599.
    ServerError { status: u16 },
    /// The body takes so many milliseconds.
    Slow { over_ms: u64 },
    /// A head, then nothing until the client leaves.
    Hang,
    /// Half of the promised body.
    Cut,
    /// A body of so many bytes; `declared`: its length is in the head.
    Oversized {
        bytes: u64,
        #[serde(default)]
        declared: bool,
    },
    /// The body less its last byte.
    InvalidJson,
    /// A page of HTML.
    Html,
    /// A `Location` in another form, or none.
    Location { form: LocationForm },
    /// `[]`, and what waits goes on waiting.
    EmptyList,
    /// The events in reverse order.
    Reorder,
    /// Every event of a type nobody knows.
    UnknownType,
    /// The first event lacks this field.
    MissingField { field: String },
}

/// The name of a fault, as it stands in the ledger and the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the same names as of `Fault`")]
pub enum FaultName {
    Unauthorized,
    RevokeToken,
    Forbidden,
    KillQueue,
    Throttle,
    ServerError,
    Slow,
    Hang,
    Cut,
    Oversized,
    InvalidJson,
    Html,
    Location,
    EmptyList,
    Reorder,
    UnknownType,
    MissingField,
}

impl Fault {
    /// Its name.
    pub fn name(&self) -> FaultName {
        match self {
            Self::Unauthorized => FaultName::Unauthorized,
            Self::RevokeToken => FaultName::RevokeToken,
            Self::Forbidden => FaultName::Forbidden,
            Self::KillQueue => FaultName::KillQueue,
            Self::Throttle { .. } => FaultName::Throttle,
            Self::ServerError { .. } => FaultName::ServerError,
            Self::Slow { .. } => FaultName::Slow,
            Self::Hang => FaultName::Hang,
            Self::Cut => FaultName::Cut,
            Self::Oversized { .. } => FaultName::Oversized,
            Self::InvalidJson => FaultName::InvalidJson,
            Self::Html => FaultName::Html,
            Self::Location { .. } => FaultName::Location,
            Self::EmptyList => FaultName::EmptyList,
            Self::Reorder => FaultName::Reorder,
            Self::UnknownType => FaultName::UnknownType,
            Self::MissingField { .. } => FaultName::MissingField,
        }
    }

    /// Can it meet such a request?
    pub fn fits(&self, kind: RequestKind) -> bool {
        match self {
            Self::Unauthorized
            | Self::Forbidden
            | Self::Throttle { .. }
            | Self::ServerError { .. } => true,
            Self::RevokeToken => kind != RequestKind::Token,
            Self::Slow { .. }
            | Self::Hang
            | Self::Cut
            | Self::Oversized { .. }
            | Self::InvalidJson
            | Self::Html => kind != RequestKind::Subscribe,
            Self::KillQueue | Self::Reorder | Self::UnknownType | Self::MissingField { .. } => {
                kind == RequestKind::Ask
            }
            Self::Location { .. } => kind == RequestKind::Subscribe,
            Self::EmptyList => matches!(kind, RequestKind::Ask | RequestKind::Connections),
        }
    }

    /// Does it answer with an error head, before the queue is reached?
    fn is_head(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::RevokeToken
                | Self::Forbidden
                | Self::Throttle { .. }
                | Self::ServerError { .. }
        )
    }
}

/// An order for a fault: which requests meet it, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What goes wrong.
    pub fault: Fault,
    /// For this user only; none: for all, and for the requests that name no user.
    #[serde(default)]
    pub user: Option<String>,
    /// For these requests only; empty: for all that the fault fits.
    #[serde(default)]
    pub on: Vec<RequestKind>,
    /// For so many requests; none: until healed.
    #[serde(default)]
    pub times: Option<u32>,
    /// For this share of the requests, 0 to 1; none: for each.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Only for a question to a queue in which events wait.
    #[serde(default)]
    pub with_events: bool,
}

impl Order {
    /// Each request that the fault fits meets it, until healed.
    pub fn always(fault: Fault) -> Self {
        Self { fault, user: None, on: Vec::new(), times: None, rate: None, with_events: false }
    }

    /// The next so many requests meet it.
    pub fn next(times: u32, fault: Fault) -> Self {
        Self { times: Some(times), ..Self::always(fault) }
    }

    /// This share of the requests meets it, 0 to 1, until healed.
    pub fn share(rate: f64, fault: Fault) -> Self {
        Self { rate: Some(rate), ..Self::always(fault) }
    }

    /// For this user only.
    pub fn of(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// For this kind of request; may be said more than once.
    pub fn on(mut self, kind: RequestKind) -> Self {
        self.on.push(kind);
        self
    }

    /// Only for a question to a queue in which events wait.
    pub fn with_events(mut self) -> Self {
        self.with_events = true;
        self
    }

    /// Says what is wrong with the order.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |reason: &str| Err(Error::BadOrder(reason.to_owned()));
        if let Fault::ServerError { status } = self.fault
            && !(500..=599).contains(&status)
        {
            return wrong("status of server_error must be 500 to 599");
        }
        if let Some(rate) = self.rate
            && !(0.0..=1.0).contains(&rate)
        {
            return wrong("rate must be 0 to 1");
        }
        if self.on.iter().any(|kind| !self.fault.fits(*kind)) {
            return wrong("this fault cannot meet a request named in `on`");
        }
        if self.with_events && !self.fault.fits(RequestKind::Ask) {
            return wrong("with_events is for faults of ask only");
        }
        if self.user.is_some() && self.on == [RequestKind::Token] {
            return wrong("a token request names no user");
        }
        Ok(())
    }

    fn meets(&self, request: &Request) -> bool {
        let kind = request.kind;
        let on_queue = kind != RequestKind::Ask || self.fault.is_head() || request.live_queue;
        self.fault.fits(kind)
            && (self.on.is_empty() || self.on.contains(&kind))
            && on_queue
            && (!self.with_events || request.events_wait)
    }
}

/// A request, as far as faults ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) user: Option<u32>,
    /// It names a live queue of its own user.
    pub(super) live_queue: bool,
    /// And events wait in it.
    pub(super) events_wait: bool,
}

#[derive(Debug)]
struct Standing {
    order: Order,
    left: Option<u32>,
}

/// The orders that stand.
#[derive(Debug)]
pub(super) struct Faults {
    of_user: HashMap<u32, Vec<Standing>>,
    of_all: Vec<Standing>,
    names: Names,
    draws: u64,
    /// How often each fault was met.
    pub(super) met: BTreeMap<FaultName, u64>,
}

/// Orders that may stand at once, for all and for each user.
const MOST_ORDERS: usize = 1000;

impl Faults {
    pub(super) fn new(names: Names) -> Self {
        Self { of_user: HashMap::new(), of_all: Vec::new(), names, draws: 0, met: BTreeMap::new() }
    }

    /// Adds an order; `user` is the number of the user it names.
    pub(super) fn add(&mut self, order: Order, user: Option<u32>) -> Result<(), Error> {
        let orders = match user {
            Some(user) => self.of_user.entry(user).or_default(),
            None => &mut self.of_all,
        };
        if orders.len() >= MOST_ORDERS {
            return Err(Error::BadOrder(format!("{MOST_ORDERS} orders stand already; heal first")));
        }
        orders.push(Standing { left: order.times, order });
        Ok(())
    }

    /// Forgets every order.
    pub(super) fn heal(&mut self) {
        self.of_user.clear();
        self.of_all.clear();
    }

    /// The fault that this request meets.
    pub(super) fn draw(&mut self, request: &Request) -> Option<Fault> {
        if self.of_all.is_empty() && self.of_user.is_empty() {
            return None;
        }
        let mut found = None;
        if let Some(user) = request.user
            && let Some(orders) = self.of_user.get_mut(&user)
        {
            found = Self::first(orders, request, self.names, &mut self.draws);
            if orders.is_empty() {
                self.of_user.remove(&user);
            }
        }
        if found.is_none() {
            found = Self::first(&mut self.of_all, request, self.names, &mut self.draws);
        }
        if let Some(fault) = &found {
            *self.met.entry(fault.name()).or_default() += 1;
        }
        found
    }

    fn first(
        orders: &mut Vec<Standing>,
        request: &Request,
        names: Names,
        draws: &mut u64,
    ) -> Option<Fault> {
        let place = orders.iter().position(|standing| {
            standing.left != Some(0)
                && standing.order.meets(request)
                && standing.order.rate.is_none_or(|rate| {
                    *draws += 1;
                    names.draw(*draws) < rate
                })
        })?;
        let standing = &mut orders[place];
        let fault = standing.order.fault.clone();
        if let Some(left) = &mut standing.left {
            *left = left.saturating_sub(1);
        }
        orders.retain(|standing| standing.left != Some(0));
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(user: u32) -> Request {
        Request { kind: RequestKind::Ask, user: Some(user), live_queue: true, events_wait: false }
    }

    #[test]
    fn orders_are_used_up_one_after_the_other_and_healing_forgets_them() {
        let mut faults = Faults::new(Names::new(1));
        faults.add(Order::next(2, Fault::Forbidden), Some(5)).unwrap();
        faults.add(Order::next(1, Fault::Cut), Some(5)).unwrap();
        faults.add(Order::always(Fault::Hang), None).unwrap();
        assert_eq!(faults.draw(&ask(5)), Some(Fault::Forbidden));
        assert_eq!(faults.draw(&ask(6)), Some(Fault::Hang));
        assert_eq!(faults.draw(&ask(5)), Some(Fault::Forbidden));
        assert_eq!(faults.draw(&ask(5)), Some(Fault::Cut));
        assert_eq!(faults.draw(&ask(5)), Some(Fault::Hang));
        faults.heal();
        assert_eq!(faults.draw(&ask(5)), None);
        assert_eq!(faults.met[&FaultName::Forbidden], 2);
    }

    #[test]
    fn a_fault_waits_for_a_request_that_it_fits() {
        let mut faults = Faults::new(Names::new(1));
        faults.add(Order::next(1, Fault::Cut).with_events(), None).unwrap();
        assert_eq!(faults.draw(&ask(1)), None);
        assert_eq!(faults.draw(&Request { live_queue: false, ..ask(1) }), None);
        assert_eq!(faults.draw(&Request { kind: RequestKind::Subscribe, ..ask(1) }), None);
        assert_eq!(faults.draw(&Request { events_wait: true, ..ask(1) }), Some(Fault::Cut));
    }

    #[test]
    fn a_share_of_the_requests_meets_a_fault_by_rate() {
        let mut faults = Faults::new(Names::new(3));
        faults.add(Order::share(0.25, Fault::Forbidden), None).unwrap();
        let met = (0..10_000).filter(|user| faults.draw(&ask(*user)).is_some()).count();
        assert!((2_300..2_700).contains(&met), "{met}");
    }

    #[test]
    fn an_order_that_cannot_be_carried_out_is_refused() {
        assert!(Order::always(Fault::ServerError { status: 404 }).check().is_err());
        assert!(Order::share(1.5, Fault::Cut).check().is_err());
        assert!(Order::always(Fault::Cut).on(RequestKind::Subscribe).check().is_err());
        assert!(Order::always(Fault::Cut).on(RequestKind::Ask).check().is_ok());
    }

    #[test]
    fn an_order_reads_as_json() {
        let text =
            r#"{"user":"u","on":["ask"],"times":3,"fault":{"name":"throttle","retry_after":2}}"#;
        let order: Order = serde_json::from_str(text).unwrap();
        assert_eq!(order.fault, Fault::Throttle { retry_after: Some(2) });
        assert_eq!(order.times, Some(3));
        assert!(serde_json::from_str::<Order>(r#"{"fault":{"name":"cut"},"tims":1}"#).is_err());
    }
}
