//! How many questions the source is asked to bear at once and per second, and who goes first.
//!
//! Promises:
//! - never more than `max_in_flight` questions under way, never more than the rate over any second
//!   (with a burst of a tenth of a second), the tokens that they need included;
//! - when the budget is short, urgent questions go first; of what is left keep-alive ones get what
//!   they want up to seven of eight and active ones the rest, so that asking often for some never
//!   makes others wait; reconciliation takes what nobody else wants;
//! - while the source answers that it is asked too much, the rate is lower, and what is left of it is
//!   spent in the same order (`throttle.rs`);
//! - a question that need not wait costs one lock to begin and one to end, and no allocation.
//!
//! Knows nothing of: queues, workers, what is asked.

mod throttle;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::throttle::{News, Throttle};
use crate::schedule::Class;

/// A keep-alive question is owed by promise and there are few of them, an active one only comes
/// late.
const KEEP_ALIVES_PER_ACTIVE: u32 = 7;

/// So many questions make up what is known of how long they take.
const REMEMBERED: f64 = 16.0;
/// However long they take, a queue with more time left than that is asked.
const LONGEST_REACH: Duration = Duration::from_secs(2);

/// The shared budget of one instance. Cheap to clone.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Woken when somebody waits and only time can help.
    refill: Notify,
    /// Woken when the rate is another.
    is_another: Notify,
}

struct State {
    /// Questions per second that are this instance's; `None` is no limit.
    share: Option<f64>,
    /// How much of them the source takes.
    throttle: Throttle,
    /// Whether there was a limit when the tokens were refilled.
    is_limited: bool,
    /// What may be asked at once; below one, the next question waits.
    tokens: f64,
    refilled_at: Instant,
    free_slots: usize,
    waiting: [VecDeque<oneshot::Sender<Slot>>; Class::ALL.len()],
    /// How many keep-alive questions went ahead of an active one that waited.
    ahead_of_active: u32,
    /// What each partition's queues need.
    required: BTreeMap<i32, Required>,
    /// Seconds from leave to answer, of late.
    takes: f64,
}

/// What queues need, in requests per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Required {
    /// To be asked as often as they should be.
    pub per_second: f64,
    /// To live, when each is asked only as it becomes urgent.
    pub vital: f64,
}

/// Leave to ask one question; given back when dropped, and then the question counts as answered.
pub struct Slot {
    /// Nothing once it has been taken back by hand.
    shared: Option<Arc<Shared>>,
    given_at: Instant,
    reach: Duration,
    /// How often the rate had been lowered when it was given.
    lowerings: u32,
    /// For how long, when the source was asked too much.
    refused: Option<Duration>,
}

impl Slot {
    /// Takes the question back: it was not asked, and another one may be at once.
    pub fn give_back(mut self) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            shared.take_back(&mut state);
            shared.serve(&mut state, Instant::now());
        }
    }

    /// A queue that dies before that is hardly reached in time: twice what questions take of late.
    pub fn reach(&self) -> Duration {
        self.reach
    }

    /// The source answers that it is asked too much, and perhaps for how long to wait.
    pub fn throttled(&mut self, retry_after: Option<Duration>) {
        self.refused = Some(retry_after.unwrap_or_default());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            let now = Instant::now();
            state.free_slots += 1;
            let took = (now - self.given_at).as_secs_f64();
            state.takes += (took - state.takes) / REMEMBERED;
            let share = state.share;
            let news = state.throttle.answered(self.lowerings, self.refused, share, now);
            shared.serve(&mut state, now);
            drop(state);
            if let Some(news) = news {
                shared.is_another.notify_one();
                News::tell(&news);
            }
        }
    }
}

impl Budget {
    /// A budget of `max_in_flight` questions at once and no limit of rate yet. The rate that a
    /// throttling source took comes back within `recovery`, all of it.
    pub fn new(max_in_flight: usize, recovery: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            share: None,
            throttle: Throttle::new(recovery, now),
            is_limited: false,
            tokens: 1.0,
            refilled_at: now,
            free_slots: max_in_flight,
            waiting: Default::default(),
            ahead_of_active: 0,
            required: BTreeMap::new(),
            takes: 0.0,
        };
        let shared =
            Shared { state: Mutex::new(state), refill: Notify::new(), is_another: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the questions per second of this instance; `None` is no limit.
    pub fn limit(&self, rate: Option<f64>) {
        let mut state = self.shared.lock();
        let now = Instant::now();
        state.refill(now);
        let before = std::mem::replace(&mut state.share, rate);
        state.throttle.follow(before, rate, now);
        self.shared.serve(&mut state, now);
        self.shared.is_another.notify_one();
    }

    /// The questions per second that are left of this instance's while the source throttles.
    pub fn throttled_to(&self) -> Option<f64> {
        let state = self.shared.lock();
        state.throttle.lowered(state.share, Instant::now())
    }

    /// Notes what a partition's queues need; nothing when it is let go.
    pub fn require(&self, partition: i32, required: Required) {
        let mut state = self.shared.lock();
        state.required.insert(partition, required);
        let vital = state.required.values().map(|required| required.vital).sum();
        state.throttle.set_vital(vital);
    }

    /// How many questions per second all queues need.
    pub fn required(&self) -> f64 {
        self.shared.lock().required.values().map(|required| required.per_second).sum()
    }

    /// Takes one request off the rate that nobody had to wait for: a token, without which a question
    /// that has its leave already could not be asked. Those that come later wait for it.
    pub fn charge(&self) {
        let mut state = self.shared.lock();
        state.refill(Instant::now());
        if state.is_limited {
            state.tokens -= 1.0;
        }
    }

    /// Leave to ask right now, unless others wait or the budget is spent.
    pub fn try_take(&self, class: Class) -> Option<Slot> {
        let mut state = self.shared.lock();
        state.refill(Instant::now());
        let ahead = &state.waiting[..=class.place().max(Class::KeepAlive.place())];
        let others_wait = match class {
            Class::Urgent => !state.waiting[0].is_empty(),
            Class::Active | Class::KeepAlive | Class::Reconciliation => {
                ahead.iter().any(|waiting| !waiting.is_empty())
            }
        };
        if others_wait || !state.has_one() {
            return None;
        }
        Some(self.shared.grant(&mut state))
    }

    /// Leave to ask, as soon as it is the turn of `class`.
    pub fn take(&self, class: Class) -> oneshot::Receiver<Slot> {
        let (granted, turn) = oneshot::channel();
        let mut state = self.shared.lock();
        state.waiting[class.place()].push_back(granted);
        self.shared.serve(&mut state, Instant::now());
        turn
    }

    /// Serves the waiting as time refills the budget. Runs until dropped.
    pub async fn run(self) {
        loop {
            let pause = {
                let mut state = self.shared.lock();
                let now = Instant::now();
                self.shared.serve(&mut state, now);
                state.until_next(now)
            };
            match pause {
                // a pause by the rate of before ends when the rate changes
                Some(pause) => {
                    drop(tokio::time::timeout(pause, self.shared.is_another.notified()).await);
                }
                None => self.shared.refill.notified().await,
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // no code under this lock can leave the state half changed
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(self: &Arc<Self>, state: &mut State) -> Slot {
        state.free_slots -= 1;
        if state.is_limited {
            state.tokens -= 1.0;
        }
        Slot {
            shared: Some(Arc::clone(self)),
            given_at: state.refilled_at,
            reach: Duration::from_secs_f64(2.0 * state.takes).min(LONGEST_REACH),
            lowerings: state.throttle.lowerings(),
            refused: None,
        }
    }

    fn take_back(&self, state: &mut State) {
        state.free_slots += 1;
        if state.is_limited {
            state.tokens += 1.0;
        }
    }

    fn serve(self: &Arc<Self>, state: &mut State, now: Instant) {
        state.refill(now);
        while state.has_one() {
            let Some(waiting) = state.next_waiting() else { return };
            if waiting.is_closed() {
                continue;
            }
            let slot = self.grant(state);
            if let Err(mut slot) = waiting.send(slot) {
                // nobody waits any more: taken back by hand, as dropping it would lock again
                slot.shared = None;
                self.take_back(state);
            }
        }
        if state.until_next(now).is_some() {
            self.refill.notify_one();
        }
    }
}

impl State {
    fn has_one(&self) -> bool {
        self.free_slots > 0 && (!self.is_limited || self.tokens >= 1.0)
    }

    /// The rate as it is now: of the share what the source takes.
    fn rate(&self, now: Instant) -> Option<f64> {
        self.throttle.rate(self.share, now)
    }

    fn refill(&mut self, now: Instant) {
        let rate = self.rate(now);
        self.is_limited = rate.is_some();
        if let Some(rate) = rate {
            let earned = rate * (now - self.refilled_at).as_secs_f64();
            let burst = (rate / 10.0).max(1.0);
            self.tokens = (self.tokens + earned).min(burst);
        }
        self.refilled_at = now;
    }

    fn next_waiting(&mut self) -> Option<oneshot::Sender<Slot>> {
        let [urgent, active, keep_alive, reconciliation] = &mut self.waiting;
        if let Some(waiting) = urgent.pop_front() {
            return Some(waiting);
        }
        let both_wait = !active.is_empty() && !keep_alive.is_empty();
        if both_wait && self.ahead_of_active < KEEP_ALIVES_PER_ACTIVE {
            self.ahead_of_active += 1;
            return keep_alive.pop_front();
        }
        if !active.is_empty() {
            self.ahead_of_active = 0;
            return active.pop_front();
        }
        keep_alive.pop_front().or_else(|| reconciliation.pop_front())
    }

    /// The time until the rate allows one more, when that is all the waiting wait for.
    fn until_next(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate(now)?;
        let somebody_waits = self.waiting.iter().any(|waiting| !waiting.is_empty());
        if !somebody_waits || self.free_slots == 0 || self.tokens >= 1.0 {
            return None;
        }
        let seconds = (1.0 - self.tokens) / rate.max(f64::MIN_POSITIVE);
        Some(Duration::from_secs_f64(seconds.clamp(0.001, 60.0)))
    }
}

#[cfg(test)]
mod tests;
