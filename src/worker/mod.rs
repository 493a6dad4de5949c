//! One partition's loop: asks due queues, has the answers kept, recovers dead queues.
//!
//! Promises:
//! - one thing at a time happens to a user: a question, a recovery step or a change by the admin
//!   API; a second change waits for the first;
//! - a queue is asked again only when its last answer is kept;
//! - nothing is asked once a stop was requested, and what is under way is finished;
//! - nothing is asked whose answer could not be kept; while room is short, those are asked that
//!   would die else;
//! - while budget is short, of those in danger the one nearest to its death is asked first, and those
//!   that cannot be saved after all that can;
//! - while publishing is held up, or the group unsure, queues are asked at keep-alive cadence.
//!
//! Knows nothing of: Kafka, Avro, HTTP servers. `question` says how each step talks to the source,
//! `queue` decides what comes next, this file only moves queues between the wheel, the lists of
//! those that wait for budget, and what is under way.

mod change;
mod command;
mod outside;
mod perform;
mod question;
mod queue;
mod step;
mod telling;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep_until};

pub use command::Command;
pub use outside::Outside;
pub use queue::Loaded;

use crate::budget::{Required, Slot};
use crate::ids::{Timestamp, UserId};
use crate::journal::Stock;
use crate::metrics::{Census, QueueCondition};
use crate::schedule::{Class, Pace, Ready, Wheel};
use queue::{Doing, Next, Queue};
use step::{Came, Done, Step};
use telling::Telling;

/// Turns of one class that the budget is asked for at once.
const MAX_TURNS: usize = 16;
/// Commands of one user that may wait for what is under way.
const MAX_WAITING: usize = 16;
/// Commands that may wait for a worker.
pub const COMMANDS: usize = 1024;

/// The longest time between two counts, which are also the worker's beats.
const LONGEST_CENSUS: Duration = Duration::from_secs(10);

type Turn = Pin<Box<dyn Future<Output = (Class, Option<Slot>)> + Send>>;
type Performing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A partition that was granted, until each of its queues was asked.
struct Takeover {
    granted_at: Instant,
    /// Where the queues are that were not.
    unasked: HashSet<u32>,
}

/// What drains the queues of one owned partition.
pub struct Worker {
    partition: i32,
    outside: Arc<Outside>,
    queues: Vec<Option<Queue>>,
    vacant: Vec<u32>,
    by_user: BTreeMap<UserId, u32>,
    wheel: Wheel,
    /// Who is due and waits for budget, by class. May name queues that wait no longer.
    ready: Ready,
    /// How many turns the budget was asked for and has not given.
    turns_asked: [usize; Class::ALL.len()],
    turns: FuturesUnordered<Turn>,
    under_way: FuturesUnordered<Performing>,
    waiting: HashMap<u32, VecDeque<Command>>,
    /// Users as the topics have them under a new grant, whose queues had something under way then.
    reloads: HashMap<u32, Loaded>,
    commands: mpsc::Receiver<Command>,
    /// None when every queue that was taken over was asked.
    takeover: Option<Takeover>,
    due: Vec<u32>,
    order: Order,
    /// Whether asking did not hurry at the last count.
    was_behind: bool,
    /// Losses of other instances that the users have to be told of, one after another.
    tellings: VecDeque<Telling>,
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Everything.
    Work,
    /// Ask, at keep-alive cadence, and nothing else: the partition may be somebody else's.
    ///
    /// Holds the grant that was lost.
    KeepAlive(u64),
    /// Finish what is under way, and end.
    Stop,
}

impl Worker {
    /// A worker for a partition that was granted at `granted_at`.
    pub fn new(
        partition: i32,
        granted_at: Instant,
        outside: Arc<Outside>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            partition,
            wheel: Wheel::new(outside.started),
            outside,
            queues: Vec::new(),
            vacant: Vec::new(),
            by_user: BTreeMap::new(),
            ready: Ready::default(),
            turns_asked: Default::default(),
            turns: FuturesUnordered::new(),
            under_way: FuturesUnordered::new(),
            waiting: HashMap::new(),
            reloads: HashMap::new(),
            commands,
            takeover: Some(Takeover { granted_at, unasked: HashSet::new() }),
            due: Vec::new(),
            order: Order::Work,
            was_behind: false,
            tellings: VecDeque::new(),
        }
    }

    /// Takes over users as the topics have them, those nearest to the death of their queues first.
    /// `asked_until` is when somebody surely still asked in turn; queues whose turn came after that
    /// are asked at once, and so are those of which a synchronization or a recovery may be under way.
    pub fn load(&mut self, users: Vec<Loaded>, asked_until: Option<Timestamp>) {
        let pace = self.outside.pace;
        let queue_of = |loaded| Queue::from_loaded(loaded, asked_until, &pace);
        let mut queues: Vec<Queue> = users.into_iter().map(queue_of).collect();
        queues.sort_by_key(|queue| queue.asked_likely);
        for queue in queues {
            self.take_over(queue, asked_until);
        }
    }

    fn take_over(&mut self, queue: Queue, asked_until: Option<Timestamp>) {
        let now = Timestamp::now();
        let pause = match asked_until {
            _ if queue.is_pressing() => Duration::ZERO,
            Some(since) if !self.outside.pace.was_missed(since, now, queue.phase) => {
                self.outside.pace.until_phase(now, queue.phase)
            }
            _ => Duration::ZERO,
        };
        let index = self.insert(queue);
        if let Some(takeover) = &mut self.takeover {
            takeover.unasked.insert(index);
        }
        self.arm(index, Instant::now() + pause);
    }

    /// Runs until told to stop, then finishes what is under way.
    pub async fn run(mut self, mut orders: watch::Receiver<Order>) {
        let mut alarm = Box::pin(sleep_until(Instant::now()));
        let mut census = Box::pin(sleep_until(Instant::now()));
        let mut next_telling = Box::pin(sleep_until(Instant::now()));
        self.note_takeover();
        loop {
            self.set(&mut alarm);
            tokio::select! {
                biased;
                changed = orders.changed() => {
                    self.order = *orders.borrow_and_update();
                    if changed.is_err() || self.order == Order::Stop {
                        break;
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command),
                Some(done) = self.under_way.next() => self.settle(done),
                Some((class, slot)) = self.turns.next() => self.take_turn(class, slot),
                () = &mut alarm => self.turn(),
                () = &mut next_telling, if !self.tellings.is_empty() => {
                    self.tell_some();
                    next_telling.as_mut().reset(Instant::now() + telling::PAUSE);
                }
                () = &mut census => {
                    self.count();
                    // a count of many queues is made more rarely
                    let pause = Duration::from_millis(1000 + self.by_user.len() as u64 / 4);
                    census.as_mut().reset(Instant::now() + pause.min(LONGEST_CENSUS));
                }
            }
        }
        self.commands.close();
        // who waited is told by the end of its channel that the outcome is not known
        self.waiting.clear();
        while let Some(done) = self.under_way.next().await {
            self.settle(done);
        }
        self.outside.metrics.census(self.partition, None);
        self.outside.budget.require(self.partition, Required::default());
        self.outside.pulse.forget(self.partition);
    }

    fn set(&self, alarm: &mut Pin<Box<Sleep>>) {
        // with nothing armed, sleep long: whatever arms an entry comes through this loop
        let wake =
            self.wheel.earliest().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        if alarm.deadline() != wake {
            alarm.as_mut().reset(wake);
        }
    }

    fn turn(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.turn(Instant::now(), &mut due);
        for index in due.drain(..) {
            self.ask_or_wait(index);
        }
        self.due = due;
    }

    /// Starts what is due for a queue when the budget allows, else lists it under its class.
    fn ask_or_wait(&mut self, index: u32) {
        let now = Instant::now();
        let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        if queue.doing == Doing::Busy {
            return;
        }
        let is_unsure = self.order != Order::Work;
        let class = if is_unsure {
            queue.question_class(now, &self.outside.pace)
        } else {
            queue.class(now, &self.outside.pace)
        };
        if !is_for_now(self.order, self.outside.journal.stock(), queue, class) {
            queue.doing = Doing::Idle;
            self.wheel.arm(index, now + self.outside.pace.no_room());
            return;
        }
        if queue.doing != Doing::Waiting(class) {
            if let Some(slot) = self.outside.budget.try_take(class) {
                self.begin(index, class, slot);
                return;
            }
            queue.doing = Doing::Waiting(class);
            let dies_at = now + queue.time_left(now, &self.outside.pace);
            self.ready.push(class, index, dies_at);
        }
        if let Some(at) = queue.promoted_at(class, now, &self.outside.pace) {
            self.wheel.arm(index, at.max(now + Duration::from_millis(1)));
        }
        self.ask_for_turns(class);
    }

    /// Has the budget see what waits, as it can only weigh those that ask.
    fn ask_for_turns(&mut self, class: Class) {
        let place = class.place();
        while self.turns_asked[place] < self.ready.len(class).min(MAX_TURNS) {
            self.turns_asked[place] += 1;
            let turn = self.outside.budget.take(class);
            self.turns.push(Box::pin(async move { (class, turn.await.ok()) }));
        }
    }

    fn take_turn(&mut self, class: Class, slot: Option<Slot>) {
        self.turns_asked[class.place()] -= 1;
        let Some(slot) = slot else { return };
        let answered = Instant::now() + slot.reach();
        let waiting = loop {
            let Some(index) = self.ready.pop(class, answered) else { break None };
            let queue = self.queues.get(index as usize).and_then(Option::as_ref);
            if queue.is_some_and(|queue| queue.doing == Doing::Waiting(class)) {
                break Some(index);
            }
        };
        let stock = self.outside.journal.stock();
        let is_admitted = |index: &u32| {
            let queue = self.queues.get(*index as usize).and_then(Option::as_ref);
            queue.is_some_and(|queue| is_for_now(self.order, stock, queue, class))
        };
        match waiting {
            Some(index) if is_admitted(&index) => self.begin(index, class, slot),
            Some(index) => {
                slot.give_back();
                self.ask_or_wait(index);
            }
            None => slot.give_back(),
        }
        self.ask_for_turns(class);
    }

    fn begin(&mut self, index: u32, class: Class, slot: Slot) {
        let now = Instant::now();
        self.wheel.disarm(index);
        let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::as_mut) else {
            return;
        };
        queue.doing = Doing::Busy;
        let step = queue.step(class, self.partition);
        // a user whose credential is refused has no queue that is asked in turn
        if matches!(step, Step::Ask(_)) && queue.condition() != QueueCondition::Blocked {
            let interval = queue.asked.map(|asked| now - asked);
            self.outside.metrics.poll_scheduled(now.saturating_duration_since(queue.due), interval);
        }
        self.perform(index, step, Some(slot));
    }

    fn perform(&mut self, index: u32, step: Step, slot: Option<Slot>) {
        let outside = Arc::clone(&self.outside);
        self.under_way.push(Box::pin(perform::perform(outside, index, step, slot)));
    }

    fn settle(&mut self, done: Done) {
        let index = done.index;
        if matches!(done.came, Came::Missed(_)) {
            self.is_told();
        }
        let Some(mut queue) = self.queues.get_mut(index as usize).and_then(Option::take) else {
            // it was dismissed meanwhile
            self.vacant.push(index);
            self.takeover_is_nearer(index);
            if let Some(reply) = done.reply {
                reply.send();
            }
            return;
        };
        queue.doing = Doing::Idle;
        let came = match self.reloads.remove(&index) {
            Some(loaded) => {
                queue.reload(loaded, &self.outside.pace);
                done.came.outlives_reload()
            }
            None => done.came,
        };
        if let Came::Replaced { cause, .. } = &came {
            self.outside.metrics.queue_death((*cause).into());
        }
        let pace = self.pace();
        let mut next = queue.settle(came, &pace);
        for came in done.meanwhile {
            if next != Next::Gone {
                next = queue.settle(came, &pace);
            }
        }
        if self.order != Order::Work
            && let Next::At(due) = &mut next
        {
            // a listing waits for the group
            *due = (*due).max(queue.question_due(Instant::now(), &pace));
        }
        let user = queue.user.clone();
        if next == Next::Gone {
            self.by_user.remove(&user);
            self.vacant.push(index);
            self.wheel.disarm(index);
        } else {
            self.queues[index as usize] = Some(queue);
            if let Next::At(due) = next {
                self.arm(index, due);
            }
        }
        self.takeover_is_nearer(index);
        // only now, so that who is told finds the change made
        if let Some(reply) = done.reply {
            reply.send();
        }
        self.obey_waiting(index);
    }

    fn arm(&mut self, index: u32, due: Instant) {
        if let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::as_mut) {
            queue.due = due;
            self.wheel.arm(index, due);
        }
    }

    fn insert(&mut self, queue: Queue) -> u32 {
        let user = queue.user.clone();
        let index = if let Some(index) = self.vacant.pop() {
            self.queues[index as usize] = Some(queue);
            index
        } else {
            self.queues.push(Some(queue));
            (self.queues.len() - 1) as u32
        };
        self.by_user.insert(user, index);
        index
    }

    /// The queue at `index` was asked, or whatever else was due.
    fn takeover_is_nearer(&mut self, index: u32) {
        if let Some(takeover) = &mut self.takeover {
            takeover.unasked.remove(&index);
            self.note_takeover();
        }
    }

    fn note_takeover(&mut self) {
        if let Some(takeover) = self.takeover.take_if(|takeover| takeover.unasked.is_empty()) {
            self.outside.metrics.takeover(takeover.granted_at.elapsed());
        }
    }

    /// The intervals as they are now.
    fn pace(&self) -> Pace {
        let pace = self.outside.pace;
        if self.is_behind() { pace.unhurried() } else { pace }
    }

    fn is_behind(&self) -> bool {
        self.order != Order::Work || self.outside.journal.is_behind()
    }

    /// Has active queues asked often again, once publishing goes on.
    fn hurry(&mut self) {
        let is_behind = self.is_behind();
        if std::mem::replace(&mut self.was_behind, is_behind) == is_behind || is_behind {
            return;
        }
        let now = Instant::now();
        for index in 0..self.queues.len() {
            let Some(queue) = self.queues[index].as_mut() else { continue };
            if queue.doing == Doing::Idle && queue.is_active(now) {
                queue.due = queue.due.min(now + self.outside.pace.active);
                self.wheel.arm(index as u32, queue.due);
            }
        }
    }

    fn count(&mut self) {
        self.hurry();
        let (now, wall) = (Instant::now(), Timestamp::now());
        let mut census = Census::default();
        let tokens = self.outside.source.token_pace();
        let mut required = Required::default();
        let mut asked_until = now;
        for queue in self.queues.iter().flatten() {
            if let Some(until) = queue.asked_until(now, &self.outside.pace) {
                asked_until = asked_until.min(until);
            }
            queue.count(&mut census, now, wall, &self.outside.pace);
            required.per_second += queue.required_rate(now, &self.outside.pace, &tokens);
            required.vital += queue.vital_rate(&self.outside.pace);
        }
        self.outside.budget.require(self.partition, required);
        self.outside.metrics.census(self.partition, Some(census));
        self.outside.pulse.beat(self.partition, now, asked_until);
    }
}

/// Whether something of this class may be done for a queue: there is room for its answer, and while
/// the group is unsure it is a question to the queue and nothing else.
fn is_for_now(order: Order, stock: Stock, queue: &Queue, class: Class) -> bool {
    let is_question = !queue.needs_queue() && class != Class::Reconciliation;
    (order == Order::Work || is_question) && queue.is_admitted(stock, class)
}
