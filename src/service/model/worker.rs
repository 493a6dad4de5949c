//! Steps of the worker (`worker/question.rs`), of the journal, and the end and start of a process.
//!
//! Promises: the source hands each answer out once, to whoever asks.
//!
//! Knows nothing of: the group, transactions.

use super::world::{Change, Doing, Instance, Order, Question, Row, Stage, World, answers_of};
use super::{Guard, Model};

impl Instance {
    /// Numbers a row; on disk it is durable.
    fn keep(&mut self, change: Change, of: Question) {
        self.last_number += 1;
        if self.last_number > self.passed_over {
            let Question { user, answer, owner_epoch, .. } = of;
            self.rows.push(Row { change, user, owner_epoch, answers: answer });
        }
    }
}

impl Model {
    /// A queue is asked, which is written into the table first, and hands out its next answer.
    /// `question.rs::ask`, `questions.rs::enter`
    pub(super) fn asked(&self, world: &World, who: usize, user: usize) -> Option<World> {
        let instance = &world.instances[who];
        let left = self.answers & answers_of(user) & !world.handed;
        let is_busy = |question: &Question| question.user == user && !question.is_of_before;
        let may = instance.order != Order::None && !instance.under_way.iter().any(is_busy);
        world.step(may && left != 0, |next| {
            let answer = left & left.wrapping_neg();
            next.handed |= answer;
            let instance = &mut next.instances[who];
            let owner_epoch = instance.epochs[user];
            instance.under_way.push(Question { user, answer, owner_epoch, is_of_before: false });
            instance.under_way.sort_unstable();
        })
    }

    /// The answer is written and synced; only then its slot is emptied and its queue free.
    /// `writer.rs::keep`, `questions.rs::over`
    pub(super) fn kept(&self, world: &World, who: usize, place: usize) -> Option<World> {
        let instance = &world.instances[who];
        let question = *instance.under_way.get(place)?;
        world.step(instance.is_up(), |next| {
            if !self.is_off(Guard::Journal) {
                next.journaled |= question.answer;
            }
            let instance = &mut next.instances[who];
            instance.under_way.remove(place);
            instance.keep(Change::Answered, question);
        })
    }

    /// The answer does not arrive, and that is written down. Of a second one before the first is
    /// settled nothing is written: its gap will span both. `question.rs::ask`
    pub(super) fn unanswered(&self, world: &World, who: usize, place: usize) -> Option<World> {
        let instance = &world.instances[who];
        let question = *instance.under_way.get(place)?;
        let is_first = question.is_of_before || instance.suspects[question.user] == 0;
        world.step_of(who, instance.is_up() && is_first, |instance| {
            instance.under_way.remove(place);
            instance.keep(Change::Suspected, question);
            if !question.is_of_before {
                instance.suspects[question.user] = question.answer;
            }
        })
    }

    /// A suspicion has waited for long enough: the gap is written down. `question.rs::judge`
    pub(super) fn judged(&self, world: &World, who: usize, user: usize) -> Option<World> {
        let answer = world.instances[who].suspects[user];
        world.step_of(who, answer != 0, |instance| {
            instance.suspects[user] = 0;
            let owner_epoch = instance.epochs[user];
            let of = Question { user, answer, owner_epoch, is_of_before: false };
            instance.keep(Change::Missed, of);
        })
    }

    /// kill -9: what is on disk stays, and what the broker was told.
    pub(super) fn killed(&self, world: &World, who: usize) -> Option<World> {
        world.step_of(who, world.instances[who].doing != Doing::Killed, |instance| {
            let mut left = std::mem::take(instance);
            left.transaction.take_if(|transaction| transaction.stage == Stage::Over);
            instance.transaction = left.transaction;
            instance.last_number = left.last_number;
            if self.is_off(Guard::Journal) {
                instance.last_number -= left.rows.len() as u8;
            } else {
                instance.rows = left.rows;
            }
            if !self.is_off(Guard::Questions) {
                instance.under_way = left.under_way;
                instance.under_way.iter_mut().for_each(|question| question.is_of_before = false);
            }
        })
    }

    /// The process is there again; what was under way is suspected. `journal/mod.rs::open`
    pub(super) fn restarted(&self, world: &World, who: usize) -> Option<World> {
        world.step_of(who, world.instances[who].doing == Doing::Killed, |instance| {
            instance.doing = Doing::Starting;
            if self.is_off(Guard::RowNumbers) && instance.rows.is_empty() {
                instance.last_number = 0;
            }
            for question in std::mem::take(&mut instance.under_way) {
                instance.keep(Change::Suspected, question);
            }
        })
    }
}
