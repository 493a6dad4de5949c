//! That the verdict can fail, and names what is wrong.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::simulator::{DeathCause, DeathEntry, HandOut};

const QUEUE: &str = "q1";

fn names() -> Topics {
    Topics::new("", "linxo.actions.{action}")
}

fn entry(id: &str, event_type: &str, at: u64, fate: Fate) -> EventEntry {
    let text = |text: &str| Some(Arc::<str>::from(text));
    let hand_out = HandOut { at, answer: 1, turn: 1, fault: None, lost: false };
    EventEntry {
        user: "alice".into(),
        queue: text(QUEUE),
        connection: text("100"),
        event_id: text(id),
        event_type: text(event_type),
        redirect: Some(Status::Running),
        embedded: None,
        made_at: at,
        fate,
        handed_out: (fate == Fate::HandedOut).then_some(hand_out),
        again: Vec::new(),
        times_handed_out: u32::from(fate == Fate::HandedOut),
        times_lost: 0,
        without: None,
    }
}

fn event(id: &str, event_type: &str, sequence: i64) -> Found {
    let value = json!({
        "idempotency_key": format!("{QUEUE}/{id}"), "event_type": event_type, "user_id": "alice",
        "subscription_id": "s", "sequence": sequence, "origin": "QUEUE",
    });
    Found { key: "100".to_owned(), value }
}

fn gap(connection: Option<&str>, is_reconciled: bool) -> Found {
    let value = json!({
        "gap_id": "g", "user_id": "alice", "connection_id": connection, "queue_id": QUEUE,
        "from": 1000, "to": 2000, "certainty": "CERTAIN", "reconciled": is_reconciled,
    });
    Found { key: connection.unwrap_or("alice").to_owned(), value }
}

/// Two events, one of them an action, one lost with its queue, and all that has to be in the topics.
fn agreeing() -> (Ledger, Holdings) {
    let events = vec![
        entry("1", "SYNC_ALL_STARTED", 900, Fate::HandedOut),
        entry("2", "AUTH_FAILED", 950, Fate::HandedOut),
        entry("3", "SYNC_ALL_FAILED", 1500, Fate::DiedWithQueue),
    ];
    let death = DeathEntry {
        queue: QUEUE.into(),
        user: "alice".into(),
        at: 1600,
        cause: DeathCause::Killed,
        undelivered: vec![Some("3".into())],
    };
    let ledger = Ledger { events, deaths: vec![death], ..Ledger::default() };
    let mut listed = event("", "CONNECTION_STATE", 3);
    listed.value["idempotency_key"] = json!("r/g/100");
    listed.value["origin"] = json!("RECONCILIATION");
    let holdings = Holdings::from([
        (
            "linxo.events".to_owned(),
            vec![event("1", "SYNC_ALL_STARTED", 1), event("2", "AUTH_FAILED", 2), listed],
        ),
        ("linxo.actions.auth-failed".to_owned(), vec![event("2", "AUTH_FAILED", 2)]),
        (
            "linxo.gaps".to_owned(),
            [(None, false), (Some("100"), false), (None, true), (Some("100"), true)]
                .map(|(connection, is_reconciled)| gap(connection, is_reconciled))
                .into(),
        ),
    ]);
    (ledger, holdings)
}

/// The faults after a change to what agrees.
fn faults(change: impl FnOnce(&mut Ledger, &mut Holdings)) -> Vec<String> {
    let (mut ledger, mut holdings) = agreeing();
    change(&mut ledger, &mut holdings);
    judge(&ledger, &holdings, &names()).faults
}

fn topic<'h>(holdings: &'h mut Holdings, name: &str) -> &'h mut Vec<Found> {
    holdings.get_mut(name).unwrap()
}

#[test]
fn what_agrees_has_no_fault_and_is_counted() {
    let (ledger, holdings) = agreeing();
    let verdict = judge(&ledger, &holdings, &names());
    assert_eq!(verdict.faults, Vec::<String>::new());
    assert!(verdict.agrees());
    let counts = verdict.counts;
    assert_eq!((counts.handed_out, counts.published, counts.listed), (2, 2, 1));
    assert_eq!((counts.asked_to_act, counts.copies), (1, 1));
    assert_eq!((counts.deaths, counts.gaps, counts.reconciled), (1, 1, 1));
    assert_eq!((counts.lost, counts.covered, counts.dead_letters), (1, 1, 0));
}

#[test]
fn a_missing_event_is_a_fault_and_so_is_the_hole_it_leaves() {
    let faults = faults(|_, holdings| drop(topic(holdings, "linxo.events").remove(0)));
    assert_eq!(faults, ["event q1/1 of alice is missing", "key 100: sequence Some(2) follows 0"]);
}

#[test]
fn a_doubled_event_is_a_fault() {
    let faults = faults(|_, holdings| {
        topic(holdings, "linxo.events").push(event("1", "SYNC_ALL_STARTED", 4));
    });
    assert_eq!(faults, ["event q1/1 of alice is there 2 times"]);
}

#[test]
fn an_invented_event_is_a_fault() {
    let faults = faults(|_, holdings| {
        topic(holdings, "linxo.events").push(event("9", "SYNC_ALL_STARTED", 4));
    });
    assert_eq!(faults, ["event q1/9 was never handed out"]);
}

#[test]
fn an_event_under_another_key_is_a_fault() {
    let faults = faults(|ledger, _| ledger.events[0].connection = Some("101".into()));
    assert_eq!(faults[0], "event q1/1: key is 100, the source had 101");
}

#[test]
fn an_action_without_its_copy_with_two_or_without_a_reason_is_a_fault() {
    const TOPIC: &str = "linxo.actions.auth-failed";
    let missing = faults(|_, holdings| topic(holdings, TOPIC).clear());
    assert_eq!(missing, ["linxo.actions.auth-failed: event q1/2 is there 0 times"]);
    let doubled = faults(|_, holdings| {
        topic(holdings, TOPIC).push(event("2", "AUTH_FAILED", 2));
    });
    assert_eq!(doubled, ["linxo.actions.auth-failed: event q1/2 is there 2 times"]);
    let invented = faults(|_, holdings| {
        topic(holdings, TOPIC).push(event("1", "SYNC_ALL_STARTED", 1));
    });
    assert_eq!(invented, ["linxo.actions.auth-failed: event q1/1 asks nothing new of its user"]);
}

#[test]
fn a_status_that_is_entered_asks_once_and_one_that_stays_does_not() {
    let faults = faults(|ledger, _| {
        ledger.events[0].redirect = Some(Status::TokenExpired);
        ledger.events[1].redirect = Some(Status::TokenExpired);
    });
    assert_eq!(faults, ["linxo.actions.token-expired: event q1/1 is there 0 times"]);
}

#[test]
fn a_loss_outside_every_gap_is_a_fault() {
    let faults = faults(|ledger, _| ledger.events[2].made_at = 2100);
    assert_eq!(faults, ["an event of alice made at 2100 is lost in no gap"]);
}

#[test]
fn a_death_that_was_never_reconciled_is_a_fault() {
    let faults = faults(|_, holdings| {
        topic(holdings, "linxo.gaps").retain(|gap| gap.value["reconciled"] != true);
        topic(holdings, "linxo.events").truncate(2);
    });
    assert_eq!(faults, ["queue q1 of alice died and is reconciled 0 times"]);
}

#[test]
fn a_gap_without_a_death_is_a_fault() {
    let faults = faults(|ledger, _| ledger.deaths.clear());
    assert_eq!(faults, ["gap g of alice has no reason"]);
}

#[test]
fn a_reconciled_gap_without_the_present_state_is_a_fault() {
    let faults = faults(|_, holdings| topic(holdings, "linxo.events").truncate(2));
    assert_eq!(faults, ["event r/g/100 of a reconciled gap is there 0 times"]);
}

#[test]
fn events_that_wait_dead_letters_and_a_truncated_ledger_are_faults() {
    let faults = faults(|ledger, holdings| {
        ledger.truncated = true;
        ledger.events.push(entry("4", "SYNC_ALL_STARTED", 2100, Fate::Waiting));
        holdings.insert("linxo.dead-letters".to_owned(), vec![event("5", "", 1)]);
    });
    assert_eq!(faults.len(), 3);
}
