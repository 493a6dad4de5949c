//! What there is: the source's queues, the group, the topics, and two instances.
//!
//! Promises: a state says no more than what the protocol can tell apart. Generations of the group and
//! tokens of grants are kept as whether they are the present ones, and superseded records are gone, so
//! that states which differ in their past alone are one.
//!
//! Knows nothing of: which steps there are.

/// A set of answers, a bit for each: two of each user, in the order in which they are handed out.
pub(super) type Answers = u8;

pub(super) const USERS: usize = 2;
/// Answers that can be told apart.
pub(super) const ANSWERS: usize = 2 * USERS;

/// The answers of a user.
pub(super) fn answers_of(user: usize) -> Answers {
    0b11 << (2 * user)
}

/// `queue_state::QueueState`, as far as the protocol goes. In the topic `rows_from` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct QueueState {
    pub(super) owner_epoch: u8,
    pub(super) sequence: u8,
    pub(super) suspicion: Answers,
    pub(super) rows_from: u8,
}

impl QueueState {
    pub(super) const FIRST: Self = Self { owner_epoch: 1, sequence: 0, suspicion: 0, rows_from: 0 };

    pub(super) fn taken_over(self, is_ours: bool) -> Self {
        let rows_from = if is_ours { 0 } else { self.owner_epoch + 1 };
        Self { owner_epoch: self.owner_epoch + 1, rows_from, ..self }
    }

    pub(super) fn takes(&self, owner_epoch: u8) -> bool {
        owner_epoch >= self.rows_from
    }
}

/// A record of a topic of which the last of each key counts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Record<T> {
    pub(super) key: usize,
    pub(super) writer: usize,
    /// Its transaction has not ended, or lacks its markers.
    pub(super) is_open: bool,
    pub(super) value: T,
}

/// An event as it is published; late when it has no sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Event {
    pub(super) sequence: Option<u8>,
    pub(super) owner_epoch: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Change {
    Answered,
    Suspected,
    Missed,
}

/// A row of the journal, durable as soon as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) change: Change,
    pub(super) user: usize,
    pub(super) owner_epoch: u8,
    /// Those it holds, or those that were lost.
    pub(super) answers: Answers,
}

/// A question under way, and its slot in the table: its answer has left the queue and is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) user: usize,
    pub(super) answer: Answers,
    pub(super) owner_epoch: u8,
    /// Whoever asked it has ended, and asks the queue no more.
    pub(super) is_of_before: bool,
}

/// What a transaction holds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Draft {
    /// How many rows, from the first unpublished one on.
    pub(super) rows: usize,
    pub(super) events: [Option<Event>; ANSWERS],
    pub(super) gaps: Answers,
    pub(super) changes: [Option<QueueState>; USERS],
    pub(super) position: u8,
}

/// How far the broker is with a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Open,
    /// The commit was asked for; the request may arrive or not.
    Asked,
    /// It is written down as committed, and its markers are not in the partitions.
    Decided,
    /// It is committed, and the publisher waits to hear of it.
    Over,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    pub(super) stage: Stage,
    pub(super) draft: Draft,
}

/// The states of the partition, as the publisher holds them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Holdings {
    /// Whether their token is that by which the partition is owned.
    pub(super) is_of_grant: bool,
    pub(super) states: [QueueState; USERS],
}

/// Where the publisher is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// The process has ended.
    #[default]
    Killed,
    /// The process is new, and does not know its position.
    Starting,
    Idle,
    /// The group has confirmed before anything was sent: where the order of the fence is off.
    ConfirmedEarly,
    /// Every record is delivered.
    Sent,
    /// The partition is ours by metadata that the group takes, or does not.
    Looked {
        is_stale: bool,
    },
    Committing,
    /// Its producer is thrown away; that many rows may be committed. States may have been read anew.
    Reconnecting {
        rows: usize,
        is_reread: bool,
    },
}

/// `worker::Order`, and none where there is no worker.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Order {
    #[default]
    None,
    Work,
    KeepAlive,
}

/// One running bridge, its journal, and what the broker has of its transaction.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    /// What `assignment::Ownership` says.
    pub(super) is_owned: bool,
    pub(super) is_sure: bool,
    /// A stop: nothing is taken any more.
    pub(super) is_closed: bool,
    /// Whether the group refuses the member's metadata. Not where nothing is owned: who has no
    /// partition may be a member all the same, and that must not be enough.
    pub(super) is_stale: bool,
    /// A revocation is not answered yet.
    pub(super) is_draining: bool,
    pub(super) is_loading: bool,
    /// How many rows have to be published before a worker is made of what was read.
    pub(super) adopting: Option<usize>,
    pub(super) order: Order,
    /// What the worker knows of each user: the owner epoch, and what it suspects to be lost.
    pub(super) epochs: [u8; USERS],
    pub(super) suspects: [Answers; USERS],
    pub(super) under_way: Vec<Question>,
    pub(super) rows: Vec<Row>,
    pub(super) last_number: u8,
    /// Rows up to this number count as published, where numbers are given twice.
    pub(super) passed_over: u8,
    pub(super) holdings: Option<Holdings>,
    pub(super) doing: Doing,
    pub(super) transaction: Option<Transaction>,
}

impl Instance {
    pub(super) fn is_up(&self) -> bool {
        !matches!(self.doing, Doing::Killed | Doing::Starting)
    }

    /// The last row that is published, as the instance was told.
    pub(super) fn published(&self) -> u8 {
        self.last_number.saturating_sub(self.rows.len() as u8)
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.transaction.as_ref().map(|transaction| transaction.stage)
    }

    /// Whether the partition is owned by the grant by which its states are held.
    pub(super) fn is_held(&self) -> bool {
        self.is_owned && self.holdings.as_ref().is_some_and(|holdings| holdings.is_of_grant)
    }
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) handed: Answers,
    pub(super) journaled: Answers,
    /// What consumers see.
    pub(super) events: [Option<Event>; ANSWERS],
    pub(super) gaps: Answers,
    /// Whom the group has given the partition to.
    pub(super) owner: Option<usize>,
    pub(super) queues: Vec<Record<QueueState>>,
    pub(super) journals: Vec<Record<u8>>,
    pub(super) instances: [Instance; 2],
    /// How many more faults there may be.
    pub(super) faults: u8,
    pub(super) broken: Option<&'static str>,
}

impl World {
    /// The first instance owns the partition and is at work, the second has nothing. The first user's
    /// state is in its topic, as a PUT leaves it; of the second there is none.
    pub(super) fn new(faults: u8) -> Self {
        let other = Instance { doing: Doing::Idle, is_sure: true, ..Instance::default() };
        let owner = Instance {
            is_owned: true,
            order: Order::Work,
            epochs: [1; USERS],
            holdings: Some(Holdings { is_of_grant: true, states: [QueueState::FIRST; USERS] }),
            ..other.clone()
        };
        Self {
            handed: 0,
            journaled: 0,
            events: [None; ANSWERS],
            gaps: 0,
            owner: Some(0),
            queues: vec![Record { key: 0, writer: 0, is_open: false, value: QueueState::FIRST }],
            journals: Vec::new(),
            instances: [owner, other],
            faults,
            broken: None,
        }
    }

    /// The world after a change, if it can be made.
    pub(super) fn step(&self, may: bool, change: impl FnOnce(&mut Self)) -> Option<Self> {
        may.then(|| {
            let mut next = self.clone();
            change(&mut next);
            next
        })
    }

    /// The same where an instance alone changes.
    pub(super) fn step_of(
        &self,
        who: usize,
        may: bool,
        change: impl FnOnce(&mut Instance),
    ) -> Option<Self> {
        self.step(may, |next| change(&mut next.instances[who]))
    }
}
