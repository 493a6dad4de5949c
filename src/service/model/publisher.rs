//! Steps of the publisher: draft, send, confirm, commit, and what follows when that does not end well.
//!
//! Promises: a step here is a step there (`publisher/run.rs`, `draft/mod.rs`, `transaction.rs`,
//! `recovery.rs`), except that records are drafted and sent at once: what the draft is made from
//! cannot change in between.
//!
//! Knows nothing of: workers, and who owns the partition in truth.

use super::world::{
    ANSWERS, Change, Doing, Draft, Event, Instance, QueueState, Record, Row, Stage, Transaction,
    USERS, World,
};
use super::{Guard, Model, cluster};

impl Instance {
    /// Rows are published: they go from the journal, and states change. `run.rs::take_in`
    fn take_in(&mut self, draft: &Draft, is_held: bool) {
        self.rows.drain(..draft.rows);
        self.adopting = self.adopting.map(|rows| rows.saturating_sub(draft.rows));
        if let Some(holdings) = self.holdings.as_mut().filter(|_| is_held) {
            for (state, change) in holdings.states.iter_mut().zip(draft.changes) {
                *state = change.unwrap_or(*state);
            }
        }
    }

    /// The producer is thrown away, with rows that may be committed. `recovery.rs::recover`
    fn throw_away(&mut self) {
        let rows = self.transaction.as_ref().map_or(0, |transaction| transaction.draft.rows);
        self.doing = Doing::Reconnecting { rows, is_reread: false };
        self.transaction.take_if(|transaction| transaction.stage == Stage::Over);
    }

    /// `recovery.rs::drop_lost`
    fn drop_lost(&mut self) {
        if !self.is_held() {
            self.holdings = None;
        }
    }
}

impl Model {
    /// `draft/mod.rs::apply` of the first rows, and what `transaction.rs::mark` says of them.
    fn draft(&self, instance: &Instance, rows: usize) -> Draft {
        let position =
            if self.is_off(Guard::Position) { 0 } else { instance.published() + rows as u8 };
        let (events, changes) = ([None; ANSWERS], [None; USERS]);
        let mut draft = Draft { rows, events, gaps: 0, changes, position };
        for row in &instance.rows[..rows] {
            self.apply(row, instance, &mut draft);
        }
        draft
    }

    fn apply(&self, row: &Row, instance: &Instance, draft: &mut Draft) {
        let held = instance.holdings.as_ref().map(|holdings| holdings.states[row.user]);
        let state = draft.changes[row.user].or(held);
        let mut state =
            state.filter(|state| state.takes(row.owner_epoch) || self.is_off(Guard::Epoch));
        match (row.change, &mut state) {
            (Change::Answered, Some(state)) => {
                state.sequence += 1;
                let (sequence, owner_epoch) = (Some(state.sequence), state.owner_epoch);
                let event = Event { sequence, owner_epoch };
                draft.events[row.answers.trailing_zeros() as usize] = Some(event);
            }
            (Change::Answered, None) => {
                let event = Event { sequence: None, owner_epoch: row.owner_epoch };
                draft.events[row.answers.trailing_zeros() as usize] = Some(event);
            }
            (Change::Suspected, Some(state)) => state.suspicion |= row.answers,
            (Change::Missed, Some(state)) => {
                draft.gaps |= state.suspicion | row.answers;
                state.suspicion = 0;
            }
            (Change::Suspected | Change::Missed, None) => draft.gaps |= row.answers,
        }
        if state.is_some() {
            draft.changes[row.user] = state;
        }
    }

    /// Whether it is known whose the partition is. `run.rs::may_publish`
    fn may_publish(&self, instance: &Instance) -> bool {
        let is_sure = instance.is_sure || self.is_off(Guard::Sure);
        is_sure && (!instance.is_owned || instance.is_held() || self.is_off(Guard::Adopted))
    }

    /// Rows become records in an open transaction, and every one is delivered. Where nothing needs
    /// to be confirmed, the commit is asked for. `run.rs::try_once`, `producer.rs::deliver`
    pub(super) fn sent(&self, world: &World, who: usize, more: usize) -> Option<World> {
        let (instance, rows) = (&world.instances[who], more + 1);
        let is_early = instance.doing == Doing::ConfirmedEarly;
        let has_to_be = self.is_off(Guard::FenceOrder) && instance.is_held();
        let is_next = instance.doing == Doing::Idle && !has_to_be && self.may_publish(instance);
        let may = (is_early || is_next) && instance.transaction.is_none();
        world.step(may && instance.rows.len() >= rows, |next| {
            let draft = self.draft(instance, rows);
            let late = |event: &Event| event.sequence.is_none();
            let is_ours = next.owner == Some(who) && instance.holdings.is_none();
            let is_ours = is_ours && !instance.is_closed;
            if is_ours && draft.events.iter().flatten().any(late) {
                next.broken = Some("what is ours is published late");
            }
            for (key, state) in draft.changes.into_iter().enumerate() {
                let Some(state) = state else { continue };
                let value = QueueState { rows_from: 0, ..state };
                next.queues.push(Record { key, writer: who, is_open: true, value });
            }
            let mark = Record { key: who, writer: who, is_open: true, value: draft.position };
            next.journals.push(mark);
            let has_states = draft.changes.iter().any(Option::is_some);
            let is_confirmed = !has_states || is_early || self.is_off(Guard::Fence);
            let instance = &mut next.instances[who];
            instance.doing = if is_confirmed { Doing::Committing } else { Doing::Sent };
            let stage = if is_confirmed { Stage::Asked } else { Stage::Open };
            instance.transaction = Some(Transaction { stage, draft });
        })
    }

    /// The confirmation before the records: a control without the order of the fence.
    pub(super) fn confirmed_early(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let is_begun = instance.doing == Doing::Idle && instance.transaction.is_none();
        let is_taken = instance.is_held() && !instance.is_stale && !instance.rows.is_empty();
        let may = self.is_off(Guard::FenceOrder) && is_begun && is_taken;
        world.step_of(who, may, |instance| instance.doing = Doing::ConfirmedEarly)
    }

    /// Metadata is taken, then it is looked whether the same grant still holds.
    /// `transaction.rs::confirm`
    pub(super) fn looked(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let may = instance.doing == Doing::Sent && instance.transaction.is_some();
        let (is_held, is_stale) = (instance.is_held(), instance.is_stale);
        world.step(may, |next| {
            if is_held || self.is_off(Guard::Token) {
                next.instances[who].doing = Doing::Looked { is_stale };
            } else {
                next.abort(who);
                next.instances[who].doing = Doing::Idle;
                next.instances[who].drop_lost();
            }
        })
    }

    /// The broker takes the offsets from a member of the present generation, and the commit is asked
    /// for; or it refuses them, and the transaction is aborted. `producer.rs::fence`, `commit`
    pub(super) fn confirmed(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let Doing::Looked { is_stale } = instance.doing else { return None };
        let is_stale = if self.is_off(Guard::Metadata) { instance.is_stale } else { is_stale };
        world.step(instance.transaction.is_some(), |next| {
            if is_stale {
                next.abort(who);
                next.instances[who].doing = Doing::Idle;
            } else if let Some(transaction) = &mut next.instances[who].transaction {
                transaction.stage = Stage::Asked;
                next.instances[who].doing = Doing::Committing;
            }
        })
    }

    /// The commit is acknowledged. `run.rs::take_in`
    pub(super) fn taken_in(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let transaction = instance.transaction.as_ref()?;
        let is_told = matches!(transaction.stage, Stage::Decided | Stage::Over);
        world.step_of(who, instance.doing == Doing::Committing && is_told, |instance| {
            instance.take_in(&transaction.draft, true);
            instance.doing = Doing::Idle;
            instance.transaction.take_if(|transaction| transaction.stage == Stage::Over);
        })
    }

    /// The broker has timed the transaction out, which the producer learns when it next calls.
    pub(super) fn fenced(&self, world: &World, who: usize) -> Option<World> {
        let Instance { doing, transaction, .. } = &world.instances[who];
        let is_open = matches!(doing, Doing::Sent | Doing::Looked { .. } | Doing::Committing);
        world.step_of(who, is_open && transaction.is_none(), Instance::throw_away)
    }

    /// A delivery fails.
    pub(super) fn not_delivered(&self, world: &World, who: usize) -> Option<World> {
        let may = world.instances[who].doing == Doing::Sent;
        world.step_of(who, may, Instance::throw_away)
    }

    /// The answer to the commit does not come in time.
    pub(super) fn unknown(&self, world: &World, who: usize) -> Option<World> {
        let Instance { doing, transaction, .. } = &world.instances[who];
        let may = *doing == Doing::Committing && transaction.is_some();
        world.step_of(who, may, Instance::throw_away)
    }

    /// A new producer is initialised, which ends the transaction of the one before either way.
    /// `producer.rs::connect`
    pub(super) fn initialised(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let is_new = matches!(instance.doing, Doing::Starting | Doing::Reconnecting { .. });
        let stage = instance.stage()?;
        world.step(is_new, |next| match stage {
            Stage::Decided => next.mark(who),
            Stage::Open | Stage::Asked | Stage::Over => next.abort(who),
        })
    }

    /// The position is read back, and says what is committed. `position.rs::read`,
    /// `recovery.rs::recover`, `feed.rs::begin`
    pub(super) fn read_back(&self, world: &World, who: usize) -> Option<World> {
        let Instance { doing, ref transaction, .. } = world.instances[who];
        let is_new = matches!(doing, Doing::Starting | Doing::Reconnecting { .. });
        let told = world.instances[who].published();
        let found = cluster::last_read(&world.journals, who).map_or(0, |mark| mark.value);
        let committed = usize::from(found.saturating_sub(told));
        let may = is_new && transaction.is_none() && self.can_read(&world.journals);
        world.step(may, |next| {
            if found < told && !self.is_off(Guard::Position) {
                next.broken = Some("P2: the position fell back");
            }
            let instance = &mut next.instances[who];
            instance.doing = Doing::Idle;
            if let Doing::Reconnecting { rows, is_reread } = doing {
                instance.drop_lost();
                if rows > 0 && committed >= rows {
                    let draft = self.draft(instance, rows);
                    instance.take_in(&draft, !is_reread || self.is_off(Guard::Reread));
                }
                return;
            }
            instance.rows.drain(..committed.min(instance.rows.len()));
            if self.is_off(Guard::RowNumbers) {
                instance.passed_over = found;
            } else {
                instance.last_number = instance.last_number.max(found);
            }
        })
    }
}
