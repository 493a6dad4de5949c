//! What a draft makes of rows, on an outbox that remembers.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokio::time::Instant;

use super::draft::{Draft, Holdings, Owned};
use super::outbox::{Outbox, Outgoing, SendFault};
use super::{Limits, Pen};
use crate::event::Redaction;
use crate::gap::{Cause, Certainty};
use crate::ids::{ConnectionId, GapId, JournalId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::journal::{Answer, AnswerKind, Change, Lost, Row, RowOf};
use crate::queue_state::QueueState;
use crate::record::{Decoder, Encoder, Framing, Topics};
use crate::subscription::Subscription;

static JOURNAL: LazyLock<JournalId> = LazyLock::new(|| JournalId::from("ours"));

/// A record as it was sent.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    topic: String,
    key: String,
    partition: Option<i32>,
    value: Option<Vec<u8>>,
    headers: HashMap<String, String>,
}

#[derive(Default)]
struct Remembering(Vec<Sent>);

impl Outbox for Remembering {
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), SendFault> {
        let headers = record.headers.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        self.0.push(Sent {
            topic: record.topic.to_owned(),
            key: String::from_utf8(record.key.to_vec()).unwrap(),
            partition: record.partition,
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        });
        Ok(())
    }
}

impl Remembering {
    fn to(&self, topic: &str) -> Vec<&Sent> {
        self.0.iter().filter(|sent| sent.topic == topic).collect()
    }
}

fn pen(limits: &[(&str, usize)]) -> Pen {
    let topics = Topics::new("", "linxo.actions.{action}");
    let redaction = Redaction::new(["password"]);
    Pen {
        encoder: Encoder::new(&Framing::SingleObject, &topics, redaction.clone(), true).unwrap(),
        topics,
        redaction,
        limits: Limits::new(
            limits.iter().map(|(topic, limit)| ((*topic).to_owned(), *limit)).collect(),
            None,
        ),
        is_repeatable: false,
    }
}

fn subscription() -> Subscription {
    Subscription {
        user_id: UserId::from("user"),
        subscription_id: SubscriptionId::from("wish"),
        queue_id: QueueId::from("q1"),
        credential_kind: "client".into(),
        sealed_credential: Vec::new(),
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

/// Partition 3 is ours, with one user.
fn holdings() -> Holdings {
    let state = QueueState::first(&subscription(), 7, Timestamp(1));
    let states = [(UserId::from("user"), Box::new(state))].into_iter().collect();
    [(3, Owned { token: 1, states, changed: None })].into_iter().collect()
}

/// A row as the journal makes it.
async fn row_at(partition: i32, change: Change) -> Row {
    let of = RowOf {
        user: UserId::from("user"),
        partition,
        owner_epoch: 7,
        subscription_id: SubscriptionId::from("wish"),
    };
    Row { number: 1, end: 1, of, change, synced: None, settle: None }
}

async fn row(change: Change) -> Row {
    row_at(3, change).await
}

fn answer(kind: AnswerKind, body: &str) -> Answer {
    Answer {
        queue: QueueId::from("q1"),
        generation: 1,
        asked_at: Timestamp(1_000),
        received_at: Timestamp(1_050),
        received: Some(Instant::now()),
        kind,
        body: body.as_bytes().to_vec(),
    }
}

fn events(body: &str) -> Change {
    Change::Answered(answer(AnswerKind::Events, body))
}

fn event(id: &str, connection: &str, status: &str) -> String {
    format!(
        r#"{{"id":"{id}","event_type":"X","resource_type":"CONNECTION","resource":{{"id":"{connection}","provider_id":"1","channels":[{{"channel_definition_id":"101","status":"{status}"}}]}}}}"#
    )
}

fn state_after(draft: Draft<'_>) -> QueueState {
    draft.into_outcome().changes.remove(&(3, UserId::from("user"))).unwrap().unwrap()
}

#[tokio::test]
async fn events_count_by_key_and_their_state_is_written_once_at_the_end() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body =
        format!("[{},{},{}]", event("1", "a", "OK"), event("2", "b", "OK"), event("3", "a", "OK"));
    draft.apply(&row(events(&body)).await, &mut out).unwrap();
    let owned = draft.close(&mut out).unwrap();

    let keys: Vec<&str> = out.to("linxo.events").iter().map(|sent| sent.key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "a"]);
    assert_eq!(out.to("linxo.queues").len(), 1);
    assert_eq!(out.to("linxo.queues")[0].partition, Some(3));
    assert_eq!(owned.into_iter().collect::<Vec<_>>(), [3]);
    let state = state_after(draft);
    assert_eq!(state.sequence(Some(&ConnectionId::from("a"))), 2);
    assert_eq!(state.sequence(Some(&ConnectionId::from("b"))), 1);
    assert_eq!(state.last_event_id.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_draft_thrown_away_leaves_the_states_as_they_were() {
    let (pen, holdings) = (pen(&[]), holdings());
    let body = format!("[{}]", event("1", "a", "AUTH_FAILED"));
    let row = row(events(&body)).await;
    let mut first = Remembering::default();
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    draft.apply(&row, &mut first).unwrap();
    drop(draft);
    let mut second = Remembering::default();
    Draft::new(&pen, &JOURNAL, &holdings).apply(&row, &mut second).unwrap();
    assert_eq!(first.0, second.0);
    assert_eq!(second.to("linxo.actions.auth-failed").len(), 1);
}

#[tokio::test]
async fn a_dead_letter_takes_no_sequence_and_the_rest_of_its_answer_is_published() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body = format!(
        r#"[{},{{"event_type":"X","password":"hush"}},7,{}]"#,
        event("1", "a", "OK"),
        event("2", "a", "OK")
    );
    draft.apply(&row(events(&body)).await, &mut out).unwrap();
    assert_eq!(out.to("linxo.events").len(), 2);
    let letters = out.to("linxo.dead-letters");
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].headers["linxo-reason"], "missing_id");
    let letter = String::from_utf8(letters[0].value.clone().unwrap()).unwrap();
    assert!(!letter.contains("hush") && letter.contains("event_type"), "{letter}");
    assert_eq!(letters[1].headers["linxo-reason"], "not_an_object");
    assert_eq!(state_after(draft).sequence(Some(&ConnectionId::from("a"))), 2);
}

#[tokio::test]
async fn what_is_not_owned_is_published_late_without_a_state() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body = format!("[{}]", event("1", "a", "TOKEN_EXPIRED"));
    draft.apply(&row_at(9, events(&body)).await, &mut out).unwrap();
    let owned = draft.close(&mut out).unwrap();
    assert!(owned.is_empty());
    assert_eq!(out.to("linxo.queues").len(), 0);
    assert_eq!(out.to("linxo.events").len(), 1);
    assert_eq!(out.to("linxo.actions.token-expired").len(), 1);

    let subscribed = row_at(9, Change::Subscribed(Box::new(subscription()))).await;
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    draft.apply(&subscribed, &mut out).unwrap();
    assert_eq!(draft.into_outcome().rows[0].settled, Err(crate::journal::Unsettled::NotOwned));
}

#[tokio::test]
async fn an_event_too_large_loses_unmapped_first_and_then_becomes_a_dead_letter_in_parts() {
    let padded = |id: &str, field: &str, bytes: usize| {
        let padding = "x".repeat(bytes);
        format!(
            r#"{{"id":"{id}","event_type":"X","resource_type":"CONNECTION","resource":{{"id":"a","provider_id":"1","channels":[],"{field}":"{padding}"}}}}"#
        )
    };
    let (pen, holdings) =
        (pen(&[("linxo.events", 2_000), ("linxo.dead-letters", 2_000)]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body = format!("[{},{}]", padded("1", "extra", 5_000), padded("2", "name", 5_000));
    draft.apply(&row(events(&body)).await, &mut out).unwrap();

    let published = out.to("linxo.events");
    assert_eq!(published.len(), 1);
    assert!(published[0].value.as_ref().unwrap().len() < 1_000);
    let letters = out.to("linxo.dead-letters");
    assert!(letters.len() >= 3, "{}", letters.len());
    assert_eq!(letters[0].headers["linxo-reason"], "too_large");
    assert_eq!(letters[0].headers["linxo-part"], format!("1/{}", letters.len()));
    let whole: Vec<u8> = letters.iter().flat_map(|letter| letter.value.clone().unwrap()).collect();
    assert_eq!(String::from_utf8(whole).unwrap(), padded("2", "name", 5_000));
    assert_eq!(state_after(draft).sequence(Some(&ConnectionId::from("a"))), 1);
}

#[tokio::test]
async fn a_gap_is_published_for_the_user_and_each_connection_and_again_when_reconciled() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body = format!("[{},{}]", event("1", "a", "OK"), event("2", "b", "OK"));
    draft.apply(&row(events(&body)).await, &mut out).unwrap();
    let gap_id = GapId::from("gap");
    let lost = Lost {
        gap_id: gap_id.clone(),
        cause: Cause::QueueGone,
        certainty: Certainty::Certain,
        from: Timestamp(1_000),
        to: Timestamp(2_000),
        to_reconcile: true,
    };
    let replaced = Change::QueueReplaced { next: QueueId::from("q2"), lost };
    draft.apply(&row(replaced).await, &mut out).unwrap();
    let open: Vec<&str> = out.to("linxo.gaps").iter().map(|sent| sent.key.as_str()).collect();
    assert_eq!(open, ["user", "a", "b"]);

    // the listing has a in a state that asks for an action, and no longer b
    let listing = r#"[{"id":"a","provider_id":"1","channels":[{"channel_definition_id":"101","status":"AUTH_FAILED"}]}]"#;
    let mut listed = answer(AnswerKind::Connections(gap_id.clone()), listing);
    listed.queue = QueueId::from("q2");
    draft.apply(&row(Change::Answered(listed)).await, &mut out).unwrap();
    let made: Vec<(&str, &str)> = out.to("linxo.events")[2..]
        .iter()
        .map(|sent| (sent.key.as_str(), sent.headers["linxo-event-type"].as_str()))
        .collect();
    assert_eq!(made, [("a", "CONNECTION_STATE"), ("b", "CONNECTION_ABSENT")]);
    assert_eq!(out.to("linxo.actions.auth-failed").len(), 1);
    let gaps = out.to("linxo.gaps");
    assert_eq!(gaps.len(), 6);
    let keys: std::collections::BTreeSet<&str> =
        gaps.iter().map(|sent| sent.headers["linxo-idempotency-key"].as_str()).collect();
    assert_eq!(keys.len(), 6);

    // the same listing once more: the gap is closed, nothing follows
    let again = Change::Answered(answer(AnswerKind::Connections(gap_id), listing));
    let before = out.0.len();
    draft.apply(&row(again).await, &mut out).unwrap();
    assert_eq!(out.0.len(), before);

    let state = state_after(draft);
    assert_eq!((state.generation, state.queue_id.as_str()), (2, "q2"));
    assert!(state.recovery.is_none());
    assert!(state.connection("b").unwrap().absent);
    assert_eq!(state.sequence(Some(&ConnectionId::from("b"))), 2);
}

#[tokio::test]
async fn a_removal_takes_the_user_out_of_both_topics() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    draft.apply(&row(Change::Removed).await, &mut out).unwrap();
    let owned = draft.close(&mut out).unwrap();
    assert_eq!(owned.len(), 1);
    for topic in ["linxo.subscriptions", "linxo.queues"] {
        let sent = out.to(topic);
        assert_eq!((sent.len(), sent[0].value.as_ref(), sent[0].partition), (1, None, Some(3)));
    }
    assert_eq!(draft.into_outcome().changes.into_values().next().unwrap(), None);
}

/// A row as an earlier process wrote it.
fn earlier(owner_epoch: i64, change: Change) -> Row {
    let of = RowOf {
        user: UserId::from("user"),
        partition: 3,
        owner_epoch,
        subscription_id: SubscriptionId::from("wish"),
    };
    Row { number: 1, end: 1, of, change, synced: None, settle: None }
}

/// Partition 3 is ours again, with the state that somebody wrote in epoch 6.
fn taken_over_from(writer: &JournalId) -> Holdings {
    let mut state = QueueState::first(&subscription(), 6, Timestamp(1));
    state.journal_id = Some(writer.clone());
    let state = state.taken_over(&JOURNAL);
    assert_eq!(state.owner_epoch, 7);
    let states = [(UserId::from("user"), Box::new(state))].into_iter().collect();
    [(3, Owned { token: 1, states, changed: None })].into_iter().collect()
}

fn is_late(holdings: &Holdings, row: &Row) -> bool {
    let pen = pen(&[]);
    let mut draft = Draft::new(&pen, &JOURNAL, holdings);
    let mut out = Remembering::default();
    draft.apply(row, &mut out).unwrap();
    assert_eq!(out.to("linxo.events").len(), 1, "published either way");
    draft.close(&mut out).unwrap().is_empty()
}

#[tokio::test]
async fn rows_of_before_a_restart_keep_their_place_unless_somebody_else_published_since() {
    let row = |epoch| earlier(epoch, events(&format!("[{}]", event("1", "c", "SUCCESS"))));
    let ours = taken_over_from(&JOURNAL);
    for epoch in 1..=7 {
        assert!(!is_late(&ours, &row(epoch)), "epoch {epoch}");
    }
    let others = taken_over_from(&JournalId::from("another"));
    for epoch in 1..=6 {
        assert!(is_late(&others, &row(epoch)), "epoch {epoch}");
    }
    assert!(!is_late(&others, &row(7)));
}

#[tokio::test]
async fn a_state_names_the_journal_that_wrote_it() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let body = format!("[{}]", event("1", "c", "SUCCESS"));
    draft.apply(&row(events(&body)).await, &mut out).unwrap();
    draft.close(&mut out).unwrap();
    let decoder = Decoder::new(&Framing::SingleObject, &pen.topics).unwrap();
    let written = decoder.queue_state(out.to("linxo.queues")[0].value.as_ref().unwrap()).unwrap();
    assert_eq!(written.journal_id.as_ref(), Some(&*JOURNAL));
    assert_eq!(state_after(draft).journal_id, None, "a million of them are held");
}

#[tokio::test]
async fn a_suspicion_is_held_until_it_is_a_gap_or_unfounded() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let suspected = |since| Change::Suspected { since: Timestamp(since), at: Timestamp(since + 9) };
    for change in [suspected(100), suspected(200)] {
        draft.apply(&row(change).await, &mut out).unwrap();
    }
    assert_eq!(out.0, [], "nothing is published yet");
    let lost = Lost {
        gap_id: GapId::from("gap"),
        cause: Cause::AnswerLost,
        certainty: Certainty::Possible,
        from: Timestamp(100),
        to: Timestamp(300),
        to_reconcile: false,
    };
    draft.apply(&row(Change::Missed(lost)).await, &mut out).unwrap();
    assert_eq!(out.to("linxo.gaps").len(), 1);
    for change in [suspected(400), Change::Unsuspected] {
        draft.apply(&row(change).await, &mut out).unwrap();
    }
    assert_eq!(out.to("linxo.gaps").len(), 1);
    let state = state_after(draft);
    assert_eq!((state.suspicion, state.recovery), (None, None));
}

#[tokio::test]
async fn an_event_handed_out_again_is_published_once_where_that_may_be() {
    let mut pen = pen(&[]);
    pen.is_repeatable = true;
    let holdings = holdings();
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    let answer_of = |ids: [&str; 2]| {
        let elements = ids.map(|id| event(id, "c", "SUCCESS"));
        events(&format!("[{}]", elements.join(",")))
    };
    for ids in [["1", "2"], ["1", "2"], ["2", "3"]] {
        draft.apply(&row(answer_of(ids)).await, &mut out).unwrap();
    }
    let sent = out.to("linxo.events");
    let ids: Vec<&str> = sent.iter().map(|sent| sent.headers["linxo-event-id"].as_str()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(state_after(draft).sequence(Some(&ConnectionId::from("c"))), 3);
}

#[tokio::test]
async fn a_change_that_an_earlier_process_was_asked_for_is_passed_over() {
    let (pen, holdings) = (pen(&[]), holdings());
    let mut draft = Draft::new(&pen, &JOURNAL, &holdings);
    let mut out = Remembering::default();
    draft.apply(&row(Change::Withdrawn).await, &mut out).unwrap();
    assert!(draft.close(&mut out).unwrap().is_empty());
    assert_eq!(out.0, []);
}
