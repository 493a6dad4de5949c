//! That each rule can fail, and names what is wrong.

mod losses;
mod records;

use std::sync::Arc;

use serde_json::{Value, json};

use super::holdings::Found;
use super::*;
use crate::simulator::{
    DeathCause, DeathEntry, EventEntry, Fate, HandOut, QueueEntry, Status, UserEntry,
};

const QUEUE: &str = "q1";
const NEXT: &str = "q2";
const TOPIC: &str = "linxo.actions.auth-failed";

fn names() -> Topics {
    Topics::new("", "linxo.actions.{action}")
}

/// One record as a test writes it.
#[derive(Clone)]
struct Put {
    topic: String,
    partition: i32,
    key: String,
    value: Value,
    headers: Vec<(&'static str, String)>,
}

/// A ledger and topics.
struct World {
    ledger: Ledger,
    puts: Vec<Put>,
    rules: Rules,
}

fn entry(id: &str, event_type: &str, at: u64, fate: Fate) -> EventEntry {
    let text = |text: &str| Some(Arc::<str>::from(text));
    let is_taken = matches!(fate, Fate::HandedOut | Fate::LostOnTheWire);
    let lost = fate == Fate::LostOnTheWire;
    let turn = id.parse().unwrap_or(1);
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
        handed_out: is_taken.then_some(HandOut { at, answer: 1, turn, fault: None, lost }),
        again: Vec::new(),
        times_handed_out: u32::from(is_taken && !lost),
        times_lost: u32::from(lost),
        without: None,
    }
}

fn queue(id: &str, opened_at: u64, died_at: Option<u64>) -> QueueEntry {
    QueueEntry {
        queue: id.into(),
        user: "alice".into(),
        opened_at,
        questions: 3,
        last_question_at: opened_at + 100,
        last_reached_at: opened_at + 100,
        longest_pause_ms: 100,
        silent_ms: 50,
        contested_ms: 0,
        died_at,
    }
}

fn event(id: &str, event_type: &str, sequence: i64) -> Put {
    let value = json!({
        "idempotency_key": format!("{QUEUE}/{id}"), "event_type": event_type, "user_id": "alice",
        "subscription_id": "s", "sequence": sequence, "owner_epoch": 1, "late": false,
        "origin": "QUEUE", "received_at": 960, "actions": actions(event_type),
    });
    put("linxo.events", "100", value)
}

fn actions(event_type: &str) -> Value {
    if event_type == "AUTH_FAILED" { json!([{"action": "AUTH_FAILED"}]) } else { json!([]) }
}

fn copy(topic: &str, of: &Put) -> Put {
    Put { topic: topic.to_owned(), ..of.clone() }
}

fn gap(connection: Option<&str>, is_reconciled: bool) -> Put {
    let value = json!({
        "gap_id": "g", "user_id": "alice", "connection_id": connection, "queue_id": QUEUE,
        "next_queue_id": NEXT, "from": 1000, "to": 2000, "cause": "QUEUE_GONE",
        "certainty": "CERTAIN", "reconciled": is_reconciled,
    });
    put("linxo.gaps", connection.unwrap_or("alice"), value)
}

fn letter(element: &str, reason: &str) -> Put {
    let headers = vec![("linxo-queue-id", QUEUE.to_owned()), ("linxo-reason", reason.to_owned())];
    Put { headers, ..put("linxo.dead-letters", "alice", element.into()) }
}

fn put(topic: &str, key: &str, value: Value) -> Put {
    let (topic, key) = (topic.to_owned(), key.to_owned());
    Put { topic, partition: 0, key, value, headers: Vec::new() }
}

impl World {
    /// Two events, one of them an action, one lost with its queue, and all that has to be in the
    /// topics.
    fn agreeing() -> Self {
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
        let ledger = Ledger {
            events,
            deaths: vec![death],
            queues: vec![queue(QUEUE, 800, Some(1600)), queue(NEXT, 1900, None)],
            users: vec![UserEntry {
                user: "alice".into(),
                subscribes: 2,
                token_requests: 0,
                most_token_requests_at_once: 0,
            }],
            ..Ledger::default()
        };
        let mut listed = event("", "CONNECTION_STATE", 3);
        listed.value["idempotency_key"] = json!("r/g/100");
        listed.value["origin"] = json!("RECONCILIATION");
        let (started, failed) = (event("1", "SYNC_ALL_STARTED", 1), event("2", "AUTH_FAILED", 2));
        let mut puts = vec![copy(TOPIC, &failed), started, failed, listed];
        puts.extend([gap(None, false), gap(Some("100"), false)]);
        puts.extend([gap(None, true), gap(Some("100"), true)]);
        Self { ledger, puts, rules: Rules::default() }
    }

    /// Two events that were handed out and published, and nothing else.
    fn quiet() -> Self {
        let mut world = Self::agreeing();
        world.ledger.events.truncate(2);
        world.ledger.deaths.clear();
        world.ledger.queues = vec![queue(QUEUE, 800, None)];
        world.puts.truncate(3);
        world
    }

    fn judged(&self) -> Verdict {
        let mut holdings = Holdings::default();
        for (offset, put) in (0i64..).zip(&self.puts) {
            let header = |name: &str| {
                let found = put.headers.iter().find(|(header, _)| *header == name);
                found.map(|(_, value)| value.clone())
            };
            let found = Found {
                partition: put.partition,
                offset,
                key: put.key.as_bytes(),
                value: &put.value,
                bytes: put.value.as_str().unwrap_or_default().as_bytes(),
                header: &header,
            };
            holdings.put(&names(), &put.topic, &found);
        }
        judge(&self.ledger, &holdings, &names(), &self.rules)
    }

    /// The records of a topic, to be changed.
    fn of(&mut self, topic: &str) -> Vec<&mut Put> {
        self.puts.iter_mut().filter(|put| put.topic == topic).collect()
    }

    fn remove(&mut self, topic: &str, event: &str) {
        let key = json!(event);
        self.puts.retain(|put| put.topic != topic || put.value["idempotency_key"] != key);
    }
}

/// The offences after a change to a world, each as `rule: what`.
fn offences(mut world: World, change: impl FnOnce(&mut World)) -> Vec<String> {
    change(&mut world);
    world.judged().offences.iter().map(ToString::to_string).collect()
}

fn with_death(change: impl FnOnce(&mut World)) -> Vec<String> {
    offences(World::agreeing(), change)
}

fn in_quiet(change: impl FnOnce(&mut World)) -> Vec<String> {
    offences(World::quiet(), change)
}

#[test]
fn what_agrees_has_no_offence_and_is_counted() {
    let verdict = World::agreeing().judged();
    assert_eq!(verdict.offences, []);
    assert_eq!(verdict.outcome(), Outcome::Agrees);
    let counts = verdict.counts;
    assert_eq!((counts.handed_out, counts.published, counts.listed), (2, 2, 1));
    assert_eq!((counts.asked_to_act, counts.copies), (1, 1));
    assert_eq!((counts.deaths, counts.gaps, counts.certain, counts.reconciled), (1, 1, 1, 1));
    assert_eq!((counts.lost, counts.covered, counts.dead_letters), (1, 1, 0));
    assert!(World::quiet().judged().agrees());
}

#[test]
fn events_that_wait_and_a_truncated_ledger_cannot_be_told() {
    let mut world = World::quiet();
    world.ledger.events.push(entry("3", "SYNC_ALL_STARTED", 2100, Fate::Waiting));
    assert_eq!(world.judged().outcome(), Outcome::CannotTell);
    // what is there for certain counts all the same
    world.puts.push(event("9", "SYNC_ALL_STARTED", 3));
    assert_eq!(world.judged().outcome(), Outcome::Disagrees);
    // but not when the event may have been left out of the ledger
    world.ledger.truncated = true;
    let verdict = world.judged();
    assert_eq!(verdict.outcome(), Outcome::CannotTell);
    assert_eq!(verdict.unknown.len(), 2);
    world.ledger = Ledger { next: Some(7), ..World::quiet().ledger };
    assert_eq!(world.judged().outcome(), Outcome::CannotTell);
}

#[test]
fn an_offence_tells_what_is_known_of_its_event() {
    let mut world = World::agreeing();
    world.puts.push(event("1", "SYNC_ALL_STARTED", 4));
    let kill = |at| Disturbance { what: "kill".to_owned(), from: at, to: at + 10, gaps: 1 };
    world.rules.disturbances = vec![kill(955), kill(9000)];
    let verdict = world.judged();
    let offence = &verdict.offences[0];
    assert_eq!((offence.rule, &*offence.events), (Rule::Twice, &["q1/1".to_owned()][..]));
    assert_eq!((offence.user.as_deref(), offence.key.as_deref()), (Some("alice"), Some("100")));
    let history: Vec<&str> = offence.history.iter().map(|it| &*it.what).collect();
    assert_eq!(
        history,
        [
            "SYNC_ALL_STARTED made for alice in queue q1",
            "handed out in answer 1 of its queue, turn 1",
            "kill, until 965",
            "in linxo.events at 0:1 under key 100, sequence 1, epoch 1, received",
            "in linxo.events at 0:8 under key 100, sequence 4, epoch 1, received",
            "gap g announced, QUEUE_GONE CERTAIN, from 1000 to 2000, queue q1",
            "gap g reconciled, QUEUE_GONE CERTAIN, from 1000 to 2000, queue q1",
            "queue q1 died (Killed)",
        ]
    );
}
