//! How many questions the source is asked to bear at once and per second, and who goes first.
//!
//! Promises:
//! - never more than `max_in_flight` questions under way, never more than the rate over any second
//!   (with a burst of a tenth of a second), the tokens that they need included;
//! - when the budget is short, urgent questions go first; of what is left keep-alive ones get what
//!   they want up to seven of eight and active ones the rest, so that asking often for some never
//!   makes others wait; reconciliation takes what nobody else wants;
//! - a question that need not wait costs one lock and no allocation.
//!
//! Knows nothing of: queues, workers, what is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::schedule::Class;

/// A keep-alive question is owed by promise and there are few of them, an active one only comes
/// late.
const KEEP_ALIVES_PER_ACTIVE: u32 = 7;

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
    /// Questions per second; `None` is no limit.
    rate: Option<f64>,
    /// What may be asked at once; below one, the next question waits.
    tokens: f64,
    refilled_at: Instant,
    free_slots: usize,
    waiting: [VecDeque<oneshot::Sender<Slot>>; Class::ALL.len()],
    /// How many keep-alive questions went ahead of an active one that waited.
    ahead_of_active: u32,
    /// Questions per second that each partition's queues need.
    required: BTreeMap<i32, f64>,
}

/// Leave to ask one question; given back when dropped.
pub struct Slot {
    /// Nothing once it has been taken back by hand.
    shared: Option<Arc<Shared>>,
}

impl Slot {
    /// Takes the question back: it was not asked, and another one may be at once.
    pub fn give_back(mut self) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            shared.take_back(&mut state);
            shared.serve(&mut state);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            let mut state = shared.lock();
            state.free_slots += 1;
            shared.serve(&mut state);
        }
    }
}

impl Budget {
    /// A budget of `max_in_flight` questions at once and no limit of rate yet.
    pub fn new(max_in_flight: usize) -> Self {
        let state = State {
            rate: None,
            tokens: 1.0,
            refilled_at: Instant::now(),
            free_slots: max_in_flight,
            waiting: Default::default(),
            ahead_of_active: 0,
            required: BTreeMap::new(),
        };
        let shared =
            Shared { state: Mutex::new(state), refill: Notify::new(), is_another: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the questions per second of this instance; `None` is no limit.
    pub fn limit(&self, rate: Option<f64>) {
        let mut state = self.shared.lock();
        state.refill();
        state.rate = rate;
        self.shared.serve(&mut state);
        self.shared.is_another.notify_one();
    }

    /// Notes how many questions per second a partition's queues need; nothing when it is let go.
    pub fn require(&self, partition: i32, per_second: f64) {
        self.shared.lock().required.insert(partition, per_second);
    }

    /// How many questions per second all queues need.
    pub fn required(&self) -> f64 {
        self.shared.lock().required.values().sum()
    }

    /// Takes one request off the rate that nobody had to wait for: a token, without which a question
    /// that has its leave already could not be asked. Those that come later wait for it.
    pub fn charge(&self) {
        let mut state = self.shared.lock();
        state.refill();
        if state.rate.is_some() {
            state.tokens -= 1.0;
        }
    }

    /// Leave to ask right now, unless others wait or the budget is spent.
    pub fn try_take(&self, class: Class) -> Option<Slot> {
        let mut state = self.shared.lock();
        state.refill();
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
        self.shared.serve(&mut state);
        turn
    }

    /// Serves the waiting as time refills the budget. Runs until dropped.
    pub async fn run(self) {
        loop {
            let pause = {
                let mut state = self.shared.lock();
                self.shared.serve(&mut state);
                state.until_next()
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
        if state.rate.is_some() {
            state.tokens -= 1.0;
        }
        Slot { shared: Some(Arc::clone(self)) }
    }

    fn take_back(&self, state: &mut State) {
        state.free_slots += 1;
        if state.rate.is_some() {
            state.tokens += 1.0;
        }
    }

    fn serve(self: &Arc<Self>, state: &mut State) {
        state.refill();
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
        if state.until_next().is_some() {
            self.refill.notify_one();
        }
    }
}

impl State {
    fn has_one(&self) -> bool {
        self.free_slots > 0 && (self.rate.is_none() || self.tokens >= 1.0)
    }

    fn refill(&mut self) {
        let now = Instant::now();
        if let Some(rate) = self.rate {
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
    fn until_next(&self) -> Option<Duration> {
        let rate = self.rate?;
        let somebody_waits = self.waiting.iter().any(|waiting| !waiting.is_empty());
        if !somebody_waits || self.free_slots == 0 || self.tokens >= 1.0 {
            return None;
        }
        let seconds = (1.0 - self.tokens) / rate.max(f64::MIN_POSITIVE);
        Some(Duration::from_secs_f64(seconds.clamp(0.001, 60.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_a_second() {
        let budget = Budget::new(1000);
        budget.limit(Some(50.0));
        let serving = tokio::spawn(budget.clone().run());
        let start = Instant::now();
        for _ in 0..100 {
            let slot = budget.take(Class::Active).await;
            assert!(slot.is_ok());
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1_850), "{took:?}");
        assert!(took <= Duration::from_millis(2_200), "{took:?}");
        serving.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn urgent_goes_first_then_keep_alive_ahead_of_active_and_reconciliation_comes_last() {
        let budget = Budget::new(1);
        let only = budget.try_take(Class::KeepAlive).expect("a free budget");
        let mut turns = Vec::new();
        let others = [Class::Reconciliation, Class::Active, Class::Active, Class::Urgent];
        for class in others.into_iter().chain([Class::KeepAlive; 9]) {
            turns.push((class, budget.take(class)));
        }
        let mut order = Vec::new();
        let mut held = only;
        while !turns.is_empty() {
            drop(held);
            let place = turns
                .iter_mut()
                .position(|(_, turn)| !turn.is_empty())
                .expect("somebody is served");
            let (class, turn) = turns.swap_remove(place);
            order.push(class);
            held = turn.await.expect("a slot");
        }
        let mut wanted = vec![Class::Urgent];
        wanted.extend([Class::KeepAlive; 7]);
        // it has waited long enough, and is not the last to be served
        wanted.push(Class::Active);
        wanted.extend([Class::KeepAlive; 2]);
        wanted.extend([Class::Active, Class::Reconciliation]);
        assert_eq!(order, wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_not_asked_takes_nothing_of_the_rate() {
        let budget = Budget::new(10);
        budget.limit(Some(1.0));
        for _ in 0..10 {
            budget.try_take(Class::Active).expect("what was given back").give_back();
        }
        drop(budget.try_take(Class::Active).expect("the first of this second"));
        assert!(budget.try_take(Class::Active).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_taken_off_what_may_be_asked() {
        let budget = Budget::new(1000);
        budget.charge();
        assert!(budget.try_take(Class::Active).is_some(), "without a limit nothing is owed");
        budget.limit(Some(50.0));
        let serving = tokio::spawn(budget.clone().run());
        let start = Instant::now();
        for _ in 0..50 {
            assert!(budget.take(Class::Active).await.is_ok());
            budget.charge();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1_850), "{took:?}");
        assert!(took <= Duration::from_millis(2_200), "{took:?}");
        serving.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_no_longer_waits_takes_nothing() {
        let budget = Budget::new(1);
        let held = budget.try_take(Class::Active).expect("a free budget");
        drop(budget.take(Class::Active));
        drop(held);
        assert!(budget.try_take(Class::Active).is_some());
    }
}
