//! What a question takes out of a queue, and what becomes of that.
//!
//! Promises:
//! - in delivery `once` a question removes what waits, and nothing is handed out again unless a
//!   fault says so;
//! - in `repeatable` an event is removed when it was sent whole and a later question reached its
//!   queue; until then each question hands it out again, before what is new;
//! - what a fault does to the events is written down in the same step, and what a slow body comes
//!   to as soon as that is known.
//!
//! Knows nothing of: HTTP.

use std::mem;

use serde_json::Value;

use crate::simulator::fault::Fault;
use crate::simulator::ledger::{Fate, Sent};
use crate::simulator::options::Delivery;
use crate::simulator::queue::{DeathCause, Given, Queue, Waiting};
use crate::simulator::reply::{Reply, Sending, Waybill};
use crate::simulator::world::World;

/// The type that a fault gives to events.
const UNKNOWN_TYPE: &str = "SIMULATOR_UNKNOWN_TYPE";

/// What a question hands out, in this order.
#[derive(Default)]
struct Load {
    /// Sent whole before, and handed out again by a fault.
    repeated: Vec<Waiting>,
    /// In an answer before that is not whole yet.
    unsure: Vec<Waiting>,
    new: Vec<Waiting>,
}

impl World {
    /// Takes what waits in a live queue and writes down what becomes of it.
    pub(super) fn hand_out(&mut self, number: u32, fault: Option<Fault>, now: u64) -> Reply {
        if fault == Some(Fault::KillQueue) {
            self.bury(number, now, DeathCause::Killed);
            return Reply::Refused(self.dead());
        }
        let is_repeatable = self.options.delivery == Delivery::Repeatable;
        let Some(queue) = self.queues.get_mut(number as usize) else {
            return Reply::Refused(self.dead());
        };
        queue.reached = now;
        if fault == Some(Fault::EmptyList) {
            return Reply::Events {
                texts: Vec::new(),
                sending: Sending::Whole,
                waybill: Waybill::Nothing,
            };
        }
        let sending = Sending::of_fault(fault.as_ref());
        let may_repeat = self.faults.may_repeat(queue.user);
        let mut load = take(queue, fault.as_ref(), is_repeatable, may_repeat);
        if load.is_empty() && sending == Sending::Whole {
            return Reply::Nothing;
        }
        if fault == Some(Fault::Reorder) {
            load.unsure.append(&mut load.new);
            load.unsure.reverse();
        }
        let sent = Sent {
            at: now,
            answer: queue.questions,
            fault: fault.as_ref().map(Fault::name),
            lost: sending.loses(),
            kept: is_repeatable,
        };
        let is_remembered = is_repeatable || may_repeat;
        let (texts, records) = self.write_answer(&mut load, fault.as_ref(), &sent, is_remembered);
        // Of any other answer it is known already.
        let waybill = if matches!(sending, Sending::Slow { .. }) {
            Waybill::Answer { queue: number, answer: sent.answer, records }
        } else {
            Waybill::Nothing
        };
        if let Some(queue) = self.queues.get_mut(number as usize) {
            load.leave_with(queue, &sent, sending, is_remembered);
        }
        Reply::Events { texts, sending, waybill }
    }

    /// Writes each event into the ledger; answers the texts, and the places in the ledger.
    fn write_answer(
        &mut self,
        load: &mut Load,
        fault: Option<&Fault>,
        sent: &Sent,
        is_remembered: bool,
    ) -> (Vec<Box<str>>, Vec<u32>) {
        let handed_out = load.repeated.len() + load.unsure.len();
        let mut texts = Vec::with_capacity(handed_out + load.new.len() + 1);
        let mut records = Vec::with_capacity(texts.capacity());
        for (place, event) in load.events().enumerate() {
            let before = if place < handed_out { Fate::HandedOut } else { Fate::Waiting };
            self.book.send(event.record, sent, before);
            match fault {
                Some(Fault::UnknownType) => {
                    self.book.retype(event.record, UNKNOWN_TYPE);
                    event.text = altered(&event.text, "event_type", Some(UNKNOWN_TYPE));
                }
                Some(Fault::MissingField { field }) if place == 0 => {
                    self.book.note_without(event.record, field);
                    event.text = altered(&event.text, field, None);
                }
                Some(_) | None => {}
            }
            records.push(event.record);
            let text = &mut event.text;
            texts.push(if is_remembered { text.clone() } else { mem::take(text) });
        }
        if let (Some(Fault::Duplicate), Some(first), Some(text)) =
            (fault, records.first().copied(), texts.first().cloned())
        {
            self.book.send(first, sent, Fate::HandedOut);
            records.push(first);
            texts.push(text);
        }
        (texts, records)
    }

    /// Hears whether an answer was sent whole after all.
    pub(in crate::simulator) fn close(&mut self, waybill: &Waybill, is_whole: bool) {
        match waybill {
            Waybill::Nothing => {}
            Waybill::Answer { queue, answer, .. } if is_whole => self.arrived(*queue, *answer),
            Waybill::Answer { queue, answer, records } => self.lose(*queue, *answer, records),
            Waybill::Token { user } => self.token_is_given(*user),
        }
    }

    fn arrived(&mut self, number: u32, answer: u32) {
        let Some(queue) = self.queues.get_mut(number as usize) else { return };
        if let Some(given) = &mut queue.given
            && given.answer == answer
        {
            given.on_its_way = false;
        }
    }

    fn lose(&mut self, number: u32, answer: u32, records: &[u32]) {
        let Some(queue) = self.queues.get_mut(number as usize) else { return };
        let is_kept = self.options.delivery == Delivery::Repeatable && queue.is_live();
        if let Some(given) = queue.given.take_if(|given| given.answer == answer)
            && is_kept
        {
            queue.put_back(given.events);
        }
        for record in records {
            self.book.lose(*record, answer, is_kept);
        }
    }
}

/// Takes what a question hands out. What was sent whole is gone now, unless it may be repeated.
fn take(queue: &mut Queue, fault: Option<&Fault>, is_repeatable: bool, may_repeat: bool) -> Load {
    let mut load = Load::default();
    match queue.given.take() {
        Some(given) if given.on_its_way && is_repeatable => load.unsure = given.events,
        Some(given) if fault == Some(&Fault::Repeat) => load.repeated = given.events,
        Some(given) if may_repeat => queue.given = Some(given),
        Some(_) | None => {}
    }
    load.new = queue.take();
    load
}

impl Load {
    fn is_empty(&self) -> bool {
        self.repeated.is_empty() && self.unsure.is_empty() && self.new.is_empty()
    }

    fn events(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.repeated.iter_mut().chain(&mut self.unsure).chain(&mut self.new)
    }

    /// Leaves with the queue what may have to be handed out again.
    fn leave_with(mut self, queue: &mut Queue, sent: &Sent, sending: Sending, is_remembered: bool) {
        let mut fresh = mem::take(&mut self.unsure);
        fresh.append(&mut self.new);
        if sent.lost {
            if sent.kept {
                queue.put_back(fresh);
            }
            return;
        }
        let events = if fresh.is_empty() { self.repeated } else { fresh };
        if is_remembered && !events.is_empty() {
            let on_its_way = matches!(sending, Sending::Slow { .. });
            queue.given = Some(Box::new(Given { answer: sent.answer, on_its_way, events }));
        }
    }
}

/// An event with another value in a field, or without the field.
fn altered(text: &str, field: &str, value: Option<&str>) -> Box<str> {
    let Ok(Value::Object(mut event)) = serde_json::from_str(text) else {
        return text.into();
    };
    match value {
        Some(value) => {
            event.insert(field.to_owned(), value.into());
        }
        None => {
            event.remove(field);
        }
    }
    Value::Object(event).to_string().into()
}
