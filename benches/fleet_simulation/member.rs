//! One instance: its queues, its wheel, its budget, and the loop of a worker around them.
//!
//! Promises: what `worker/mod.rs` does with the wheel, the budget and those that wait, one step of the
//! clock at a time, and no other order.
//!
//! Knows nothing of: scenes.

use std::collections::VecDeque;
use std::time::Duration;

use linxo_kafka_bridge::budget::{Budget, Slot};
use linxo_kafka_bridge::ids::Timestamp;
use linxo_kafka_bridge::schedule::{Class, Ready, Wheel};
use tokio::sync::oneshot::{Receiver, error::TryRecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};

use super::tally::Tally;
use super::world::PACE;

/// A step of the clock, in milliseconds.
pub(super) const STEP: u32 = 25;
/// How far the clock is when a scene begins: queues were asked before.
pub(super) const START: u32 = 2_400_000;
/// The wall clock at the beginning: a multiple of the keep-alive interval.
const WALL: i64 = 1_800_000_000_000;
const MAX_TURNS: usize = 16;
const RECOVERY: Duration = Duration::from_secs(60);
const CLASSES: usize = Class::ALL.len();

#[derive(Clone, Copy, PartialEq)]
enum Doing {
    Idle,
    Waiting(Class),
    Busy,
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    Nothing,
    NewQueue,
    Listing,
}

#[derive(Clone, Copy)]
struct Queue {
    phase: u32,
    /// When it was asked last, in milliseconds of the scene's clock.
    asked: u32,
    doing: Doing,
    need: Need,
    /// Its turn came before it was loaded, and it was not asked since.
    is_overdue: bool,
}

struct Flight {
    ends: u32,
    index: u32,
    started: u32,
    slot: Slot,
}

pub(super) struct Member {
    /// The clock, in milliseconds.
    now: u32,
    epoch: Instant,
    queues: Vec<Queue>,
    wheel: Wheel,
    budget: Budget,
    serving: JoinHandle<()>,
    ready: Ready,
    turns: [VecDeque<Receiver<Slot>>; CLASSES],
    flights: VecDeque<Flight>,
    latency: u32,
    due: Vec<u32>,
    waiting: usize,
    overdue: usize,
    loaded_at: u32,
    pub(super) tally: Tally,
}

impl Member {
    /// An instance without queues, at [`START`].
    pub(super) async fn new(budget: f64, max_in_flight: usize, latency: u32) -> Self {
        let epoch = Instant::now();
        advance(Duration::from_millis(u64::from(START))).await;
        let of_instance = Budget::new(max_in_flight, RECOVERY);
        of_instance.limit(Some(budget));
        let serving = tokio::spawn(of_instance.clone().run());
        Self {
            now: START,
            epoch,
            queues: Vec::new(),
            wheel: Wheel::new(epoch),
            budget: of_instance,
            serving,
            ready: Ready::default(),
            turns: Default::default(),
            flights: VecDeque::new(),
            latency,
            due: Vec::new(),
            waiting: 0,
            overdue: 0,
            loaded_at: START,
            tally: Tally::default(),
        }
    }

    /// Has the budget follow partitions that moved.
    pub(super) fn limit(&self, budget: f64) {
        self.budget.limit(Some(budget));
    }

    /// Takes queues that were asked in turn until `asked`, as is known up to `known`: those whose
    /// turn came since then are due at once, as in `Worker::load`.
    pub(super) fn load(&mut self, phases: &[u32], asked: u32, known: u32) {
        self.loaded_at = self.now;
        for &phase in phases {
            let index = self.queues.len() as u32;
            let now = wall(self.now);
            let is_missed = PACE.was_missed(wall(known), now, u64::from(phase));
            self.queues.push(Queue {
                phase,
                asked: asked_before(phase, asked),
                doing: Doing::Idle,
                need: Need::Nothing,
                is_overdue: is_missed,
            });
            self.overdue += usize::from(is_missed);
            let pause = PACE.until_phase(now, u64::from(phase));
            let pause = if is_missed { Duration::ZERO } else { pause };
            self.wheel.arm(index, self.instant(self.now) + pause);
        }
    }

    /// Ends, with what was under way, and comes back without queues after a while.
    pub(super) async fn restart(&mut self, away: u32) {
        self.flights.clear();
        self.turns = Default::default();
        self.ready = Ready::default();
        self.wheel = Wheel::new(self.epoch);
        self.queues.clear();
        (self.waiting, self.overdue) = (0, 0);
        self.now += away;
        advance(Duration::from_millis(u64::from(away))).await;
    }

    /// How many queues were overdue when they were loaded, and were not asked since.
    pub(super) fn overdue(&self) -> usize {
        self.overdue
    }

    /// Goes on for so many milliseconds.
    pub(super) async fn run(&mut self, millis: u32) {
        let until = self.now + millis;
        while self.now < until {
            advance(Duration::from_millis(u64::from(STEP))).await;
            self.now += STEP;
            while self.flights.front().is_some_and(|flight| flight.ends <= self.now) {
                if let Some(flight) = self.flights.pop_front() {
                    self.settle(flight);
                }
            }
            // as in the worker's loop: whoever waits is ahead of who comes due
            self.take_turns();
            let mut due = std::mem::take(&mut self.due);
            self.wheel.turn(self.instant(self.now), &mut due);
            for index in due.drain(..) {
                self.ask_or_wait(index);
            }
            self.due = due;
            self.take_turns();
        }
    }

    pub(super) fn end(self) -> Tally {
        self.serving.abort();
        self.tally
    }

    fn instant(&self, millis: u32) -> Instant {
        self.epoch + Duration::from_millis(u64::from(millis))
    }

    fn ask_or_wait(&mut self, index: u32) {
        let queue = self.queues[index as usize];
        if queue.doing == Doing::Busy {
            return;
        }
        let class = self.class(&queue);
        if queue.doing != Doing::Waiting(class) {
            if let Some(slot) = self.budget.try_take(class) {
                return self.begin(index, slot);
            }
            if queue.doing == Doing::Idle {
                self.waiting += 1;
                self.tally.most_waiting = self.tally.most_waiting.max(self.waiting);
            }
            self.queues[index as usize].doing = Doing::Waiting(class);
            let dies_at = match queue.need {
                Need::NewQueue => self.now,
                Need::Nothing | Need::Listing => queue.asked + life(),
            };
            self.ready.push(class, index, self.instant(dies_at));
        }
        let promoted = match class {
            Class::Urgent => None,
            Class::Active | Class::Reconciliation => Some(PACE.keep_alive),
            Class::KeepAlive => Some(PACE.urgent_after()),
        };
        if let Some(age) = promoted {
            let at = (queue.asked + age.as_millis() as u32).max(self.now + 1);
            self.wheel.arm(index, self.instant(at));
        }
        self.ask_for_turns(class);
    }

    fn class(&self, queue: &Queue) -> Class {
        let age = Duration::from_millis(u64::from(self.now - queue.asked));
        match queue.need {
            Need::NewQueue => Class::Urgent,
            Need::Listing if age < PACE.keep_alive => Class::Reconciliation,
            Need::Nothing | Need::Listing => PACE.class(age, false),
        }
    }

    fn ask_for_turns(&mut self, class: Class) {
        let wanted = self.ready.len(class).min(MAX_TURNS);
        while self.turns[class.place()].len() < wanted {
            let turn = self.budget.take(class);
            self.turns[class.place()].push_back(turn);
        }
    }

    fn take_turns(&mut self) {
        loop {
            let mut is_idle = true;
            for class in Class::ALL {
                let Some(turn) = self.turns[class.place()].front_mut() else { continue };
                let slot = match turn.try_recv() {
                    Ok(slot) => slot,
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Closed) => panic!("the budget keeps its word"),
                };
                self.turns[class.place()].pop_front();
                is_idle = false;
                match self.next(class, slot.reach()) {
                    Some(index) => self.begin(index, slot),
                    None => slot.give_back(),
                }
                self.ask_for_turns(class);
            }
            if is_idle {
                return;
            }
        }
    }

    fn next(&mut self, class: Class, reach: Duration) -> Option<u32> {
        let answered = self.instant(self.now) + reach;
        loop {
            let index = self.ready.pop(class, answered)?;
            if self.queues[index as usize].doing == Doing::Waiting(class) {
                return Some(index);
            }
        }
    }

    fn begin(&mut self, index: u32, slot: Slot) {
        self.wheel.disarm(index);
        let queue = &mut self.queues[index as usize];
        if matches!(queue.doing, Doing::Waiting(_)) {
            self.waiting -= 1;
        }
        queue.doing = Doing::Busy;
        if queue.need == Need::Nothing {
            self.tally.count(self.now - queue.asked);
        } else {
            self.tally.recovering += 1;
        }
        if std::mem::take(&mut queue.is_overdue) {
            self.overdue -= 1;
            if self.overdue == 0 {
                self.tally.caught_up = self.now - self.loaded_at;
            }
        }
        let (started, ends) = (self.now, self.now + self.latency);
        self.flights.push_back(Flight { ends, index, started, slot });
        self.tally.most_in_flight = self.tally.most_in_flight.max(self.flights.len());
    }

    /// An answer: nothing, or that the queue is dead; then a new one is made and listed.
    fn settle(&mut self, flight: Flight) {
        let Flight { index, started, slot, .. } = flight;
        let queue = &mut self.queues[index as usize];
        queue.doing = Doing::Idle;
        match queue.need {
            Need::Nothing if started - queue.asked >= life() => queue.need = Need::NewQueue,
            Need::NewQueue => {
                queue.need = Need::Listing;
                queue.asked = started;
            }
            Need::Nothing | Need::Listing => {
                queue.need = Need::Nothing;
                queue.asked = started;
            }
        }
        let queue = *queue;
        drop(slot);
        if queue.need == Need::Nothing {
            let pause = PACE.until_phase(wall(queue.asked), u64::from(queue.phase));
            let due = self.instant(queue.asked) + pause;
            self.wheel.arm(index, due);
        } else {
            self.ask_or_wait(index);
        }
    }
}

/// When a queue of this phase was asked, that was asked in turn until `until`.
pub(super) fn asked_before(phase: u32, until: u32) -> u32 {
    (PACE.phase_before(wall(until), u64::from(phase)).0 - WALL) as u32
}

fn life() -> u32 {
    PACE.queue_lifetime.as_millis() as u32
}

fn wall(millis: u32) -> Timestamp {
    Timestamp(WALL + i64::from(millis))
}
