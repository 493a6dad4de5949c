//! What came out of a comparison.
//!
//! Promises:
//! - each disagreement names its rule, its event and, for the first [`IN_DETAIL`] of them, what is
//!   known of that event; all are counted;
//! - no answer is "cannot tell", never "agrees".
//!
//! Knows nothing of: ledgers and topics.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Disagreements that are kept one by one; what is beyond is only counted.
pub(super) const IN_DETAIL: usize = 200;

/// What was counted on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Users that the source knows.
    pub users: usize,
    /// Queues that it made.
    pub queues: usize,
    /// Events that it handed out whole, each counted in each queue.
    pub handed_out: usize,
    /// Events that a question removed and that did not arrive whole.
    pub lost_on_the_wire: usize,
    /// Events that nobody will ever be handed out, or that are in no topic.
    pub lost: usize,
    /// Of those, inside a gap of their user.
    pub covered: usize,
    /// Records of queues in the events topic.
    pub published: usize,
    /// Of those, late.
    pub late: usize,
    /// Records of reconciliations there.
    pub listed: usize,
    /// Copies that there should be in the topics of actions.
    pub asked_to_act: usize,
    /// Records in the topics of actions.
    pub copies: usize,
    /// Queues that died.
    pub deaths: usize,
    /// Gaps, once each.
    pub gaps: usize,
    /// Those in which events were lost for sure.
    pub certain: usize,
    /// Those with the present state published.
    pub reconciled: usize,
    /// The most gaps that the faults excuse.
    pub gaps_excused: u64,
    /// Dead letters, once each.
    pub dead_letters: usize,
    /// The longest time between two questions to a live queue, in milliseconds.
    pub longest_pause_ms: u64,
    /// The longest time that two instances asked a queue in turn, in milliseconds.
    pub longest_contest_ms: u64,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// What was handed out is published, or inside a gap of its user.
    Lost,
    /// Nothing is there more often than it was handed out.
    Twice,
    /// Nothing is there that was not handed out.
    Invented,
    /// What is there is what was handed out.
    Altered,
    /// The events of a key are in order within an ownership.
    Order,
    /// The records of a key are counted without holes within a subscription.
    Sequence,
    /// Each action is in its topic once, and no other is.
    Action,
    /// Only what cannot be understood is a dead letter.
    DeadLetter,
    /// What was lost for sure is inside a gap that says so.
    Certainty,
    /// A dead queue has a gap.
    Death,
    /// A gap has a cause.
    Cause,
    /// There are not more gaps than losses.
    Proportion,
    /// A gap of what was lost for sure is followed by the present state.
    Reconciliation,
    /// A live queue is asked in time.
    Pause,
    /// What was received before its partition was handed over in order is published before it.
    Late,
    /// A queue is asked by one instance, but for as long as the other may not know better.
    Contest,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 16] = [
        Self::Lost,
        Self::Twice,
        Self::Invented,
        Self::Altered,
        Self::Order,
        Self::Sequence,
        Self::Action,
        Self::DeadLetter,
        Self::Certainty,
        Self::Death,
        Self::Cause,
        Self::Proportion,
        Self::Reconciliation,
        Self::Pause,
        Self::Late,
        Self::Contest,
    ];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Twice => "twice",
            Self::Invented => "invented",
            Self::Altered => "altered",
            Self::Order => "order",
            Self::Sequence => "sequence",
            Self::Action => "action",
            Self::DeadLetter => "dead_letter",
            Self::Certainty => "certainty",
            Self::Death => "death",
            Self::Cause => "cause",
            Self::Proportion => "proportion",
            Self::Reconciliation => "reconciliation",
            Self::Pause => "pause",
            Self::Late => "late",
            Self::Contest => "contest",
        }
    }
}

/// Something that is known of an event or of its user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Happened {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub what: String,
}

/// A disagreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// Against which rule.
    pub rule: Rule,
    /// What is wrong, a sentence that names the event.
    pub what: String,
    /// Whose.
    pub user: Option<String>,
    /// The key of the records concerned.
    pub key: Option<String>,
    /// The events concerned, as `queue/event`.
    pub events: Vec<String>,
    /// What is known of them and of their user's gaps, in the order of time.
    pub history: Vec<Happened>,
}

impl fmt::Display for Offence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.rule.as_str(), self.what)
    }
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing disagrees.
    Agrees,
    /// Something does.
    Disagrees,
    /// It cannot be told.
    CannotTell,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was counted.
    pub counts: Counts,
    /// The disagreements, as many as are kept one by one.
    pub offences: Vec<Offence>,
    /// How many there are of each rule.
    pub offended: BTreeMap<Rule, usize>,
    /// Why it cannot be told, a sentence each.
    pub unknown: Vec<String>,
    /// What is missing makes everything else worthless.
    is_blind: bool,
}

impl Verdict {
    pub(super) fn new(counts: Counts) -> Self {
        let (offences, offended) = (Vec::new(), BTreeMap::new());
        Self { counts, offences, offended, unknown: Vec::new(), is_blind: false }
    }

    /// What it comes to. A disagreement counts although something is unknown besides, but not when
    /// the ledger has left events out.
    pub fn outcome(&self) -> Outcome {
        if !self.offended.is_empty() && !self.is_blind {
            Outcome::Disagrees
        } else if self.unknown.is_empty() {
            Outcome::Agrees
        } else {
            Outcome::CannotTell
        }
    }

    /// Whether nothing disagrees and nothing is unknown.
    pub fn agrees(&self) -> bool {
        self.outcome() == Outcome::Agrees
    }

    /// All disagreements, those included that are only counted.
    pub fn offences_in_all(&self) -> usize {
        self.offended.values().sum()
    }

    pub(super) fn offend(&mut self, offence: Offence) {
        *self.offended.entry(offence.rule).or_default() += 1;
        if self.offences.len() < IN_DETAIL {
            self.offences.push(offence);
        }
    }

    pub(super) fn cannot_tell(&mut self, why: String) {
        self.unknown.push(why);
    }

    pub(super) fn is_blind(&mut self, why: &str) {
        self.is_blind = true;
        self.unknown.push(why.to_owned());
    }
}

impl Offence {
    pub(super) fn new(rule: Rule, what: String) -> Self {
        let (events, history) = (Vec::new(), Vec::new());
        Self { rule, what, user: None, key: None, events, history }
    }

    pub(super) fn of(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    pub(super) fn under(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(super) fn event(mut self, event: &str) -> Self {
        self.events.push(event.to_owned());
        self
    }
}
