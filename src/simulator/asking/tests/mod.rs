//! The world, asked as the source is: time paused, no HTTP.

use std::time::Duration;

use tokio::time::advance;

mod repeats;
mod tokens;

use super::*;
use crate::simulator::desk::{Desk, caller, desk};
use crate::simulator::fault::Order;
use crate::simulator::ledger::{Extract, Fate, Outcome};
use crate::simulator::options::{EventIds, Options};
use crate::simulator::queue::DeathCause;
use crate::simulator::script::{Status, Sync};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_queue_dies_15_minutes_after_the_last_question_and_each_question_resets_that() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    for _ in 0..3 {
        advance(14 * MINUTE + Duration::from_millis(59_999)).await;
        assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    }
    desk.world.push_events("u", None, 2).unwrap();
    advance(15 * MINUTE).await;
    assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
    let ledger = desk.ledger();
    let death = &ledger.deaths[0];
    assert_eq!(death.cause, DeathCause::Expired);
    assert_eq!(death.undelivered, [Some("1".into()), Some("2".into())]);
    assert_eq!(death.at, ledger.queues[0].last_reached_at + 900_000);
    assert_eq!(ledger.queues[0].longest_pause_ms, 899_999);
    assert_eq!(desk.world.stats().longest_pause_ms, 899_999);
    assert_eq!(desk.world.stats().died_with_queue, 2);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_nobody_asks_again_is_dead_in_the_ledger_at_its_own_time() {
    let mut desk = desk();
    desk.subscribe("u");
    advance(60 * MINUTE).await;
    assert_eq!(desk.world.stats().live_queues, 0);
    let ledger = desk.ledger();
    assert_eq!(ledger.deaths[0].at, ledger.queues[0].opened_at + 900_000);
    let stranger = Extract { user: Some("stranger".to_owned()), ..Extract::default() };
    assert_eq!(desk.world.ledger(&stranger).queues, []);
}

#[tokio::test(start_paused = true)]
async fn an_error_head_neither_removes_events_nor_resets_the_timer() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    let heads = [
        (Fault::Unauthorized, Outcome::Unauthorized),
        (Fault::Forbidden, Outcome::Forbidden),
        (Fault::Throttle { retry_after: Some(3) }, Outcome::Throttled),
        (Fault::ServerError { status: 503 }, Outcome::ServerError),
    ];
    for (fault, outcome) in heads {
        desk.world.inflict(Order::next(1, fault).of("u")).unwrap();
        assert_eq!(desk.outcome("u", &queue), outcome);
    }
    assert_eq!(desk.world.stats().waiting, 1);
    advance(14 * MINUTE).await;
    desk.world.inflict(Order::next(1, Fault::Forbidden)).unwrap();
    assert_eq!(desk.outcome("u", &queue), Outcome::Forbidden);
    advance(MINUTE).await;
    assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
    assert_eq!(desk.ledger().queues[0].questions, 5);
}

#[tokio::test(start_paused = true)]
async fn events_are_handed_out_once_in_order_and_to_each_queue_of_the_user() {
    let mut desk = desk();
    let (first, second) = (desk.subscribe("u"), desk.subscribe("u"));
    let foreign = desk.subscribe("v");
    desk.world.push_events("u", None, 3).unwrap();
    assert_eq!(desk.event_ids("u", &first), ["1", "2", "3"]);
    assert_eq!(desk.outcome("u", &first), Outcome::Empty);
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &first), ["4"]);
    assert_eq!(desk.event_ids("u", &second), ["1", "2", "3", "4"]);
    assert_eq!(desk.outcome("v", &foreign), Outcome::Empty);
    let ledger = desk.ledger();
    assert_eq!(ledger.events.len(), 8);
    assert!(ledger.events.iter().all(|event| event.fate == Fate::HandedOut));
    let answers: Vec<_> = ledger
        .taken_from(&first)
        .iter()
        .map(|event| event.handed_out.as_ref().unwrap().answer)
        .collect();
    assert_eq!(answers, [1, 1, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_live_queue_is_written_down_and_handed_to_nobody() {
    let mut desk = desk();
    assert_eq!(desk.world.push_events("u", None, 1).unwrap(), 0);
    let queue = desk.subscribe("u");
    assert_eq!(desk.outcome("u", &queue), Outcome::Empty);
    let ledger = desk.ledger();
    assert_eq!(ledger.events[0].fate, Fate::NoQueue);
    assert_eq!(ledger.events[0].queue, None);
}

#[tokio::test(start_paused = true)]
async fn another_users_queue_is_forbidden_and_not_touched() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 1).unwrap();
    desk.subscribe("v");
    assert_eq!(desk.outcome("v", &queue), Outcome::Forbidden);
    assert_eq!(desk.outcome("u", "no-such-queue"), Outcome::Dead);
    assert_eq!(desk.event_ids("u", &queue), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_users_token_opens_their_own_queue_only_and_runs_out() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    let (own, _) = desk.world.issue_for(Some("u"), Some(1_000)).unwrap();
    let alone = Caller { token: Some(&own), user: None, agent: "test" };
    assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Empty);
    let wrong = caller(&own, "v");
    assert_eq!(desk.world.ask(&wrong, &queue).outcome(), Outcome::Forbidden);
    assert_eq!(desk.world.stats().mismatched, 1);
    let unnamed = Caller { token: Some(&desk.token.clone()), user: None, agent: "test" };
    assert_eq!(desk.world.ask(&unnamed, &queue).outcome(), Outcome::BadRequest);
    advance(Duration::from_secs(1)).await;
    assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Unauthorized);
    assert_eq!(desk.world.ask(&Caller::default(), &queue).outcome(), Outcome::Unauthorized);
}

#[tokio::test(start_paused = true)]
async fn a_spread_synchronization_makes_each_event_at_its_own_moment() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    let sync = Sync { over_ms: 9_000, ..Sync::default() };
    assert_eq!(desk.world.start_sync("u", &sync).unwrap(), 10);
    assert_eq!(desk.event_ids("u", &queue), ["1"]);
    advance(Duration::from_millis(1_999)).await;
    assert_eq!(desk.event_ids("u", &queue), ["2"]);
    advance(Duration::from_secs(60)).await;
    assert_eq!(desk.event_ids("u", &queue).len(), 8);
    let ledger = desk.ledger();
    let first = ledger.events[0].made_at;
    let moments: Vec<_> = ledger.events.iter().map(|event| event.made_at - first).collect();
    assert_eq!(moments, (0..10).map(|step| step * 1_000).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn what_a_spread_synchronization_makes_before_a_queue_expires_dies_with_it() {
    let mut desk = desk();
    desk.subscribe("u");
    advance(14 * MINUTE).await;
    let sync = Sync { over_ms: 180_000, ..Sync::default() };
    desk.world.start_sync("u", &sync).unwrap();
    advance(10 * MINUTE).await;
    let stats = desk.world.stats();
    assert_eq!((stats.died_with_queue, stats.no_queue), (3, 7));
}

#[tokio::test(start_paused = true)]
async fn a_status_stays_in_the_snapshots_until_the_next_synchronization() {
    let mut desk = desk();
    desk.subscribe("u");
    desk.world.start_sync("u", &Sync::ending(Status::TokenExpired)).unwrap();
    desk.world.push_events("u", None, 1).unwrap();
    let statuses: Vec<_> = desk.ledger().events.iter().map(|event| event.redirect).collect();
    assert_eq!(statuses.first(), Some(&Some(Status::Running)));
    assert_eq!(statuses.last(), Some(&Some(Status::TokenExpired)));
    desk.world.start_sync("u", &Sync::default()).unwrap();
    let ledger = desk.ledger();
    assert_eq!(ledger.events.last().unwrap().redirect, Some(Status::Success));
}

#[tokio::test(start_paused = true)]
async fn opaque_event_ids_agree_with_the_ledger() {
    let mut desk = Desk::new(Options { event_ids: EventIds::Opaque, ..Options::default() });
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 2).unwrap();
    let ids = desk.event_ids("u", &queue);
    assert!(ids[0].starts_with("evt_") && ids[0] != ids[1]);
    let ledger = desk.ledger();
    let written: Vec<_> =
        ledger.events.iter().map(|event| event.event_id.as_deref().unwrap()).collect();
    assert_eq!(written, ids);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_no_more_and_the_missing_id_shows_it() {
    let mut desk = Desk::new(Options { max_waiting: 2, ..Options::default() });
    let queue = desk.subscribe("u");
    desk.world.push_events("u", None, 3).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["1", "2"]);
    desk.world.push_events("u", None, 1).unwrap();
    assert_eq!(desk.event_ids("u", &queue), ["4"]);
    assert_eq!(desk.ledger().events[2].fate, Fate::Overflow);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_queues() {
    let (mut first, mut second) = (desk(), desk());
    assert_eq!(first.subscribe("u"), second.subscribe("u"));
}

#[tokio::test(start_paused = true)]
async fn questions_to_a_dead_queue_are_no_pauses() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    desk.world.kill(&queue);
    advance(MINUTE).await;
    assert_eq!(desk.outcome("u", &queue), Outcome::Dead);
    assert_eq!(desk.world.ask(&Caller::default(), &queue).outcome(), Outcome::Unauthorized);
    let entry = desk.ledger().queues[0].clone();
    assert_eq!((entry.questions, entry.longest_pause_ms, entry.silent_ms), (0, 0, 0));
    assert_eq!(desk.world.stats().answers[&Outcome::Dead], 1);
}

#[tokio::test(start_paused = true)]
async fn users_and_queues_are_bounded() {
    let mut desk = Desk::new(Options { max_users: 1, max_queues: 1, ..Options::default() });
    desk.subscribe("u");
    for user in ["u", "v"] {
        let token = desk.token.clone();
        let reply = desk.world.subscribe(&caller(&token, user));
        assert!(matches!(reply, Reply::Refused(refusal) if refusal.status == 503));
    }
}
