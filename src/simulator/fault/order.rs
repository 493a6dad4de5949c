//! Orders for faults, and which request meets which.
//!
//! Promises:
//! - what the head of this room promises of orders;
//! - the same seed gives the same draws for the same sequence of requests.
//!
//! Knows nothing of: what a fault does.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Fault, FaultName, RequestKind};
use crate::simulator::Error;
use crate::simulator::names::Names;

/// An order for a fault: which requests meet it, and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What goes wrong.
    pub fault: Fault,
    /// For this user only, a token request being of the user whose name it gives; none: for all.
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
    pub(in crate::simulator) fn check(&self) -> Result<(), Error> {
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
        if matches!(self.fault, Fault::RateLimit { .. })
            && (self.rate.is_some() || self.times.is_some())
        {
            return wrong("rate_limit meets what is too much, and takes neither rate nor times");
        }
        if self.on.iter().any(|kind| !self.fault.fits(*kind)) {
            return wrong("this fault cannot meet a request named in `on`");
        }
        if self.with_events && !self.fault.fits(RequestKind::Ask) {
            return wrong("with_events is for faults of ask only");
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
            && (self.fault != Fault::Duplicate || request.events_wait)
            && (self.fault != Fault::Repeat || request.can_repeat)
    }
}

/// A request, as far as faults ask for it.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulator) struct Request {
    pub(in crate::simulator) kind: RequestKind,
    pub(in crate::simulator) user: Option<u32>,
    /// It names a live queue of its own user.
    pub(in crate::simulator) live_queue: bool,
    /// And events wait in it.
    pub(in crate::simulator) events_wait: bool,
    /// And the events of its last answer are remembered.
    pub(in crate::simulator) can_repeat: bool,
}

impl Request {
    /// One that asks no queue.
    pub(in crate::simulator) fn of(kind: RequestKind, user: Option<u32>) -> Self {
        Self { kind, user, live_queue: false, events_wait: false, can_repeat: false }
    }
}

#[derive(Debug)]
struct Standing {
    order: Order,
    left: Option<u32>,
    /// Of a limit of rate: the second that is counted, and the requests in it.
    counted: (u64, u32),
}

impl Standing {
    /// Whether a request of `now` is one too many; counted when it is not.
    fn is_exceeded(&mut self, now: u64) -> bool {
        let Fault::RateLimit { per_second } = self.order.fault else { return true };
        if self.counted.0 != now / 1000 {
            self.counted = (now / 1000, 0);
        }
        let is_exceeded = self.counted.1 >= per_second;
        if !is_exceeded {
            self.counted.1 += 1;
        }
        is_exceeded
    }
}

/// The orders that stand.
#[derive(Debug)]
pub(in crate::simulator) struct Faults {
    of_user: HashMap<u32, Vec<Standing>>,
    of_all: Vec<Standing>,
    names: Names,
    draws: u64,
    /// How often each fault was met.
    pub(in crate::simulator) met: BTreeMap<FaultName, u64>,
}

/// Orders that may stand at once, for all and for each user.
const MOST_ORDERS: usize = 1000;

impl Faults {
    pub(in crate::simulator) fn new(names: Names) -> Self {
        Self { of_user: HashMap::new(), of_all: Vec::new(), names, draws: 0, met: BTreeMap::new() }
    }

    /// Adds an order; `user` is the number of the user it names.
    pub(in crate::simulator) fn add(
        &mut self,
        order: Order,
        user: Option<u32>,
    ) -> Result<(), Error> {
        let orders = match user {
            Some(user) => self.of_user.entry(user).or_default(),
            None => &mut self.of_all,
        };
        if orders.len() >= MOST_ORDERS {
            return Err(Error::BadOrder(format!("{MOST_ORDERS} orders stand already; heal first")));
        }
        orders.push(Standing { left: order.times, order, counted: (0, 0) });
        Ok(())
    }

    /// Forgets every order.
    pub(in crate::simulator) fn heal(&mut self) {
        self.of_user.clear();
        self.of_all.clear();
    }

    /// The fault that this request of `now` meets, in milliseconds.
    pub(in crate::simulator) fn draw(&mut self, request: &Request, now: u64) -> Option<Fault> {
        if self.of_all.is_empty() && self.of_user.is_empty() {
            return None;
        }
        let mut found = None;
        if let Some(user) = request.user
            && let Some(orders) = self.of_user.get_mut(&user)
        {
            found = Self::first(orders, request, now, self.names, &mut self.draws);
            if orders.is_empty() {
                self.of_user.remove(&user);
            }
        }
        if found.is_none() {
            found = Self::first(&mut self.of_all, request, now, self.names, &mut self.draws);
        }
        if let Some(fault) = &found {
            *self.met.entry(fault.name()).or_default() += 1;
        }
        found
    }

    /// Does an order stand that may repeat an answer to this user?
    pub(in crate::simulator) fn may_repeat(&self, user: u32) -> bool {
        let of_user = self.of_user.get(&user).into_iter().flatten();
        self.of_all.iter().chain(of_user).any(|standing| standing.order.fault == Fault::Repeat)
    }

    fn first(
        orders: &mut Vec<Standing>,
        request: &Request,
        now: u64,
        names: Names,
        draws: &mut u64,
    ) -> Option<Fault> {
        let place = orders.iter_mut().position(|standing| {
            standing.left != Some(0)
                && standing.order.meets(request)
                && standing.order.rate.is_none_or(|rate| {
                    *draws += 1;
                    names.draw(*draws) < rate
                })
                && standing.is_exceeded(now)
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
