//! What is handed out more than once, and what the ledger says of it.

use super::*;
use crate::simulator::fault::FaultName;
use crate::simulator::ledger::EventEntry;
use crate::simulator::options::Delivery;
use crate::simulator::reply::{Sending, Waybill};

fn repeatable() -> Desk {
    Desk::new(Options { delivery: Delivery::Repeatable, ..Options::default() })
}

/// Orders a fault for the next question of user `u`.
fn next(desk: &mut Desk, fault: Fault) {
    desk.world.inflict(Order::next(1, fault).of("u").on(RequestKind::Ask)).unwrap();
}

/// Each event's fate, how often it was sent whole, and how often lost.
fn account(desk: &mut Desk) -> Vec<(Fate, u32, u32)> {
    let of = |event: &EventEntry| (event.fate, event.times_handed_out, event.times_lost);
    desk.ledger().events.iter().map(of).collect()
}

/// The answer and the id of everything sent from a queue, in order.
fn sent(desk: &mut Desk, queue: &str) -> Vec<(u32, String)> {
    let ledger = desk.ledger();
    let sent = ledger.sent_from(queue).into_iter();
    sent.map(|(event, out)| (out.answer, event.event_id.as_deref().unwrap().to_owned())).collect()
}

/// Asks, and answers what the world wants to hear the end of.
fn ask_slowly(desk: &mut Desk, queue: &str) -> Waybill {
    next(desk, Fault::Slow { over_ms: 1_000 });
    let Reply::Events { waybill, sending, .. } = desk.ask("u", queue) else { panic!("no events") };
    assert!(matches!(sending, Sending::Slow { .. }));
    waybill
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_in_repeatable_is_handed_out_again_and_counts_as_handed_out() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 2).unwrap();
    for fault in [Fault::Reset, Fault::Vanish, Fault::Cut, Fault::InvalidJson] {
        next(&mut desk, fault);
        assert!(matches!(desk.ask("u", &queue), Reply::Events { sending, .. } if sending.loses()));
    }
    assert_eq!(account(&mut desk), [(Fate::Waiting, 0, 4); 2]);
    assert_eq!(desk.world.stats().waiting, 2);
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1", "2", "3"]);
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    let lost_before = (Fate::HandedOut, 1, 4);
    assert_eq!(account(&mut desk), [lost_before, lost_before, (Fate::HandedOut, 1, 0)]);
    let stats = desk.world.stats();
    assert_eq!((stats.handed_out, stats.lost_on_the_wire, stats.waiting), (3, 0, 0));
    assert_eq!((stats.times_handed_out, stats.times_lost), (3, 8));
    let told = desk.ledger().events[0].clone();
    assert_eq!(told.handed_out.map(|out| (out.answer, out.lost)), Some((5, false)));
    assert_eq!(told.again.iter().map(|out| out.answer).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_in_once_is_lost() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    for fault in [Fault::Reset, Fault::Vanish] {
        desk.world.push_events("u", None, 1).unwrap();
        next(&mut desk, fault);
        assert!(matches!(desk.ask("u", &queue), Reply::Events { sending, .. } if sending.loses()));
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    }
    assert_eq!(account(&mut desk), [(Fate::LostOnTheWire, 0, 1); 2]);
    let faults: Vec<_> =
        desk.ledger().events.iter().map(|event| event.handed_out.as_ref().unwrap().fault).collect();
    assert_eq!(faults, [Some(FaultName::Reset), Some(FaultName::Vanish)]);
    let answers = desk.world.stats().answers;
    assert_eq!((answers[&Outcome::Reset], answers[&Outcome::Vanish]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_repeatable_answer_that_is_still_on_its_way_is_handed_out_again() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    let first = ask_slowly(&mut desk, &queue);
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1", "2"]);
    desk.world.close(&first, false);
    assert_eq!(account(&mut desk), [(Fate::HandedOut, 1, 1), (Fate::HandedOut, 1, 0)]);
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
}

#[tokio::test(start_paused = true)]
async fn a_repeatable_answer_that_arrives_slowly_is_gone_with_the_next_question_only() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    let lost = ask_slowly(&mut desk, &queue);
    desk.world.close(&lost, false);
    assert_eq!(account(&mut desk), [(Fate::Waiting, 0, 1)]);
    let whole = ask_slowly(&mut desk, &queue);
    desk.world.close(&whole, true);
    assert_eq!(account(&mut desk), [(Fate::HandedOut, 1, 1)]);
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
}

#[tokio::test(start_paused = true)]
async fn two_slow_repeatable_answers_may_be_given_up_in_either_order() {
    for newer_first in [false, true] {
        let mut desk = repeatable();
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 1).unwrap();
        let first = ask_slowly(&mut desk, &queue);
        let second = ask_slowly(&mut desk, &queue);
        let order = if newer_first { [&second, &first] } else { [&first, &second] };
        for waybill in order {
            desk.world.close(waybill, false);
        }
        assert_eq!(account(&mut desk), [(Fate::Waiting, 0, 2)]);
        assert_eq!(desk.event_ids("u", &queue), ["1"]);
        assert_eq!(account(&mut desk), [(Fate::HandedOut, 1, 2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_and_not_repeated_dies_with_its_queue_and_what_arrived_does_not() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1"]);
    desk.world.push_events("u", None, 1).unwrap();
    next(&mut desk, Fault::Reset);
    desk.ask("u", &queue);
    desk.world.kill(&queue);
    assert_eq!(account(&mut desk), [(Fate::HandedOut, 1, 0), (Fate::DiedWithQueue, 0, 1)]);
    assert_eq!(desk.ledger().deaths[0].undelivered, [Some("2".into())]);
    let stats = desk.world.stats();
    assert_eq!((stats.handed_out, stats.died_with_queue, stats.waiting), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_repeatable_answer_that_is_given_up_after_its_queue_died_is_lost() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    let waybill = ask_slowly(&mut desk, &queue);
    desk.world.kill(&queue);
    assert_eq!(account(&mut desk), [(Fate::HandedOut, 1, 0)]);
    desk.world.close(&waybill, false);
    assert_eq!(account(&mut desk), [(Fate::LostOnTheWire, 0, 1)]);
    let stats = desk.world.stats();
    assert_eq!((stats.handed_out, stats.lost_on_the_wire), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_hands_out_the_last_answer_before_what_is_new_and_the_ledger_counts_both() {
    for delivery in [Delivery::Once, Delivery::Repeatable] {
        let mut desk = Desk::new(Options { delivery, ..Options::default() });
        let queue = desk.subscribe("u");
        next(&mut desk, Fault::Repeat);
        desk.world.push_events("u", None, 2).unwrap();
        assert_eq!(desk.event_ids("u", &queue), ["1", "2"], "there is nothing to repeat yet");
        desk.world.push_events("u", None, 1).unwrap();
        assert_eq!(desk.event_ids("u", &queue), ["1", "2", "3"]);
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty, "one order, one repeat");
        let twice = (Fate::HandedOut, 2, 0);
        assert_eq!(account(&mut desk), [twice, twice, (Fate::HandedOut, 1, 0)]);
        let order = [(1, "1"), (1, "2"), (2, "1"), (2, "2"), (2, "3")];
        assert_eq!(sent(&mut desk, &queue), order.map(|(answer, id)| (answer, id.to_owned())));
        let stats = desk.world.stats();
        assert_eq!((stats.handed_out, stats.times_handed_out), (3, 5));
        assert_eq!(stats.faults[&FaultName::Repeat], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_repeated_as_long_as_there_is_no_newer_one() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    desk.world.inflict(Order::always(Fault::Repeat)).unwrap();
    desk.world.push_events("u", None, 1).unwrap();
    for _ in 0..3 {
        assert_eq!(desk.event_ids("u", &queue), ["1"]);
    }
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1", "2"]);
    assert_eq!(desk.event_ids("u", &queue), ["2"]);
    desk.world.heal();
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    desk.world.inflict(Order::always(Fault::Repeat)).unwrap();
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty, "healing forgets what was given");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waits_for_new_events_repeats_across_empty_answers() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    desk.world.inflict(Order::next(1, Fault::Repeat).with_events()).unwrap();
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1"]);
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_repeatable_answer_that_arrives_after_the_next_was_lost_is_handed_out_all_the_same() {
    for arrives in [true, false] {
        let mut desk = repeatable();
        let queue = desk.subscribe("u");
        desk.world.push_events("u", None, 1).unwrap();
        let slow = ask_slowly(&mut desk, &queue);
        next(&mut desk, Fault::Reset);
        desk.ask("u", &queue);
        desk.world.close(&slow, arrives);
        let so_far = if arrives { (Fate::HandedOut, 1, 1) } else { (Fate::Waiting, 0, 2) };
        assert_eq!(account(&mut desk), [so_far]);
        assert_eq!(desk.event_ids("u", &queue), ["1"], "the source cannot know");
        assert_eq!(account(&mut desk), [(Fate::HandedOut, so_far.1 + 1, so_far.2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_of_repeats_is_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut desk = Desk::new(Options { seed, ..Options::default() });
        desk.world.inflict(Order::share(0.5, Fault::Repeat)).unwrap();
        let queue = desk.subscribe("u");
        for _ in 0..50 {
            desk.world.push_events("u", None, 1).unwrap();
            desk.ask("u", &queue);
        }
        sent(&mut desk, &queue)
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
    assert!((60..90).contains(&first.len()), "{}", first.len());
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_in_the_same_answer_twice() {
    for delivery in [Delivery::Once, Delivery::Repeatable] {
        let mut desk = Desk::new(Options { delivery, ..Options::default() });
        let queue = desk.subscribe("u");
        next(&mut desk, Fault::Duplicate);
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty, "there is nothing to duplicate");
        desk.world.push_events("u", None, 2).unwrap();
        assert_eq!(desk.event_ids("u", &queue), ["1", "2", "1"]);
        assert_eq!(account(&mut desk), [(Fate::HandedOut, 2, 0), (Fate::HandedOut, 1, 0)]);
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
        let answers: Vec<u32> = sent(&mut desk, &queue).iter().map(|(answer, _)| *answer).collect();
        assert_eq!(answers, [2, 2, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_confirms_nothing_and_an_error_head_neither() {
    let mut desk = repeatable();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    let slow = ask_slowly(&mut desk, &queue);
    for fault in [Fault::EmptyList, Fault::Unauthorized] {
        next(&mut desk, fault);
        desk.ask("u", &queue);
    }
    desk.world.close(&slow, false);
    assert_eq!(desk.event_ids("u", &queue), ["1"]);
}
