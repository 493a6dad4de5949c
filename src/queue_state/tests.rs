//! What is held, counted and raised, by example.

use super::*;
use crate::event::decode_answer;

fn subscription() -> Subscription {
    Subscription {
        user_id: UserId::from("u"),
        subscription_id: SubscriptionId::from("s"),
        queue_id: QueueId::from("q1"),
        credential_kind: "client".to_owned(),
        sealed_credential: vec![],
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn state() -> QueueState {
    QueueState::first(&subscription(), 3, Timestamp(5))
}

/// An event about connection 7 whose channels have these statuses.
fn body(event_type: &str, channel: Option<&str>, statuses: &[(&str, &str)]) -> String {
    let channels = statuses.iter().map(|(definition_id, status)| {
        serde_json::json!({"channel_definition_id": definition_id, "status": status})
    });
    serde_json::json!([{
        "id": "1", "event_type": event_type, "resource_type": "CONNECTION",
        "channel_definition_id": channel,
        "resource": {"id": "7", "channels": channels.collect::<Vec<_>>()},
    }])
    .to_string()
}

fn note(
    state: &mut QueueState,
    event_type: &str,
    channel: Option<&str>,
    statuses: &[(&str, &str)],
) -> Vec<(Action, Option<String>)> {
    let body = body(event_type, channel, statuses);
    let event = decode_answer(body.as_bytes()).unwrap().remove(0).unwrap();
    let foreseen = state.entering(&event);
    let raised = state.note_event(&event);
    assert_eq!(foreseen, raised);
    raised.into_iter().map(|raised| (raised.action, raised.channel_definition_id)).collect()
}

#[test]
fn a_state_of_the_same_subscription_names_the_current_queue() {
    let mut state = state();
    state.queue_id = QueueId::from("q4");
    state.generation = 4;
    fn current(state: Option<&QueueState>) -> CurrentQueue {
        QueueState::current(&subscription(), state)
    }
    let first = CurrentQueue { queue_id: QueueId::from("q1"), generation: 1 };
    assert_eq!(current(None), first);
    assert_eq!(
        current(Some(&state)),
        CurrentQueue { queue_id: QueueId::from("q4"), generation: 4 }
    );
    state.subscription_id = SubscriptionId::from("an older one");
    assert_eq!(current(Some(&state)), first);
}

#[test]
fn sequences_count_from_one_for_each_key() {
    let mut state = state();
    let (seven, eight) = (ConnectionId::from("7"), ConnectionId::from("8"));
    assert_eq!(state.sequence(Some(&seven)), 0);
    assert_eq!([state.count(None), state.count(Some(&seven)), state.count(None)], [1, 1, 2]);
    assert_eq!([state.count(Some(&eight)), state.count(Some(&seven))], [1, 2]);
    assert_eq!([state.sequence(None), state.sequence(Some(&seven))], [2, 2]);
}

#[test]
fn a_status_raises_an_action_when_it_is_entered_and_not_while_it_stays() {
    let mut state = state();
    let expired = (Action::TokenExpired, Some("01".to_owned()));
    assert_eq!(note(&mut state, "SYNC_ALL_STARTED", None, &[("01", "RUNNING")]), []);
    assert_eq!(note(&mut state, "X", None, &[("01", "TOKEN_EXPIRED")]), vec![expired.clone()]);
    assert_eq!(note(&mut state, "X", None, &[("01", "TOKEN_EXPIRED")]), []);
    assert_eq!(note(&mut state, "X", None, &[("00", "SUCCESS")]), [], "a channel left out");
    assert_eq!(note(&mut state, "X", None, &[("01", "TOKEN_EXPIRED"), ("00", "SUCCESS")]), []);
    let failed = (Action::AuthFailed, Some("01".to_owned()));
    assert_eq!(note(&mut state, "X", None, &[("01", "AUTH_FAILED")]), [failed]);
    assert_eq!(note(&mut state, "X", None, &[("01", "RUNNING")]), []);
    assert_eq!(note(&mut state, "X", None, &[("01", "TOKEN_EXPIRED")]), [expired]);
}

#[test]
fn a_status_seen_at_first_sight_is_entered() {
    let raised =
        note(&mut state(), "X", None, &[("01", "CHALLENGE_REQUIRED"), ("00", "AUTH_FAILED")]);
    assert_eq!(
        raised,
        [
            (Action::ChallengeRequired, Some("01".to_owned())),
            (Action::AuthFailed, Some("00".to_owned()))
        ]
    );
}

#[test]
fn what_type_and_status_raise_for_the_same_channel_counts_once() {
    let mut state = state();
    let failed = (Action::AuthFailed, Some("01".to_owned()));
    let statuses = [("01", "AUTH_FAILED")];
    assert_eq!(note(&mut state, "AUTH_FAILED", Some("01"), &statuses), vec![failed.clone()]);
    assert_eq!(
        note(&mut state, "AUTH_FAILED", Some("01"), &statuses),
        vec![failed.clone()],
        "by type"
    );
    assert_eq!(note(&mut state, "X", Some("01"), &statuses), []);
    assert_eq!(
        note(&mut state, "AUTH_FAILED", Some("01"), &[("00", "AUTH_FAILED")]),
        [failed, (Action::AuthFailed, Some("00".to_owned()))]
    );
}

#[test]
fn a_connection_is_held_from_first_sight_and_comes_back_from_absence() {
    let mut state = state();
    note(&mut state, "X", None, &[("01", "AUTH_FAILED")]);
    let other = r#"[{"id":"1","event_type":"X","resource_type":"ACCOUNT","resource":{"connection_id":"8"}}]"#;
    let event = decode_answer(other.as_bytes()).unwrap().remove(0).unwrap();
    assert_eq!(state.note_event(&event), []);
    let ids: Vec<_> = state.connections.iter().map(|known| known.connection_id.as_str()).collect();
    assert_eq!(ids, ["7", "8"]);

    assert_eq!(state.missing_from(["8"]), [ConnectionId::from("7")]);
    state.mark_absent(&ConnectionId::from("7"));
    assert_eq!(state.missing_from(["8"]), []);
    let back = Connection { id: "7".into(), ..Connection::default() };
    assert_eq!(state.note_connection(&back), []);
    assert!(!state.connection("7").unwrap().absent);
}

#[test]
fn a_listing_raises_what_was_entered_unseen() {
    let mut state = state();
    note(&mut state, "X", None, &[("01", "RUNNING")]);
    let channel = crate::event::Channel {
        definition_id: Some("01".into()),
        status: Some("TOKEN_EXPIRED".into()),
        ..Default::default()
    };
    let listed = Connection { id: "7".into(), channels: vec![channel], ..Default::default() };
    assert_eq!(state.note_connection(&listed).len(), 1);
    assert_eq!(state.note_connection(&listed), []);
}

#[test]
fn channels_held_are_bounded_and_take_no_room_to_grow() {
    let mut state = state();
    for number in 0..200 {
        note(&mut state, "X", None, &[(&format!("{number}"), "SUCCESS"), ("01", "RUNNING")]);
        let held = &state.connection("7").unwrap().channels;
        assert!(held.len() <= MAX_CHANNELS);
        assert_eq!(held.len(), held.capacity());
    }
    assert_eq!(state.connection("7").unwrap().status("01").unwrap().as_str(), "RUNNING");
    assert_eq!(state.connections.len(), state.connections.capacity());
    assert!(size_of::<QueueState>() <= 200, "{}", size_of::<QueueState>());
}

#[test]
fn ids_count_as_consecutive_when_enough_followed_and_none_did_not() {
    let mut state = state();
    for id in 5..=12 {
        state.follow(&id.to_string());
        assert_eq!(state.expected_id(), None, "{id}");
    }
    state.follow("13");
    assert_eq!(state.expected_id(), Some(14));
    state.follow("15");
    assert_eq!(state.expected_id(), None);
    for id in 16..=40 {
        state.follow(&id.to_string());
    }
    assert_eq!(state.expected_id(), None, "once disproved, never believed again");
    state.pass_to(QueueId::from("other"));
    for id in 1..=9 {
        state.follow(&id.to_string());
    }
    assert_eq!(state.expected_id(), Some(10), "another queue is another matter");
}

#[test]
fn ids_that_are_no_numbers_are_not_consecutive() {
    let mut state = state();
    for id in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        state.follow(id);
    }
    assert_eq!((state.expected_id(), state.last_event_id.as_deref()), (None, Some("j")));
}

#[test]
fn the_last_events_are_remembered_within_a_bound() {
    let mut state = state();
    for id in 0..MAX_REMEMBERED + 10 {
        state.remember(&id.to_string());
    }
    assert_eq!(state.recent_event_ids.len(), MAX_REMEMBERED);
    assert!(!state.is_repeat("9") && state.is_repeat("10"));
}

#[test]
fn rows_of_earlier_epochs_are_taken_when_the_last_writer_had_the_same_journal() {
    let ours = JournalId::from("ours");
    let wish = SubscriptionId::from("wish");
    let written_by = |writer: Option<&str>| {
        let mut state = state();
        state.subscription_id = wish.clone();
        state.journal_id = writer.map(JournalId::from);
        state.taken_over(&ours)
    };
    assert!(written_by(Some("ours")).takes(&wish, 1));
    assert!(!written_by(Some("another")).takes(&wish, 3));
    // nothing was written since that take-over
    assert!(written_by(Some("another")).takes(&wish, 4));
    assert!(!written_by(Some("ours")).takes(&SubscriptionId::from("other wish"), 4));
}

#[test]
fn a_suspicion_is_settled_by_the_event_after_it_and_by_no_later_one() {
    let mut state = state();
    for id in 1..=20 {
        state.follow(&id.to_string());
    }
    assert_eq!(state.settling_id(), None, "nothing is suspected");
    let last_event_id = state.last_event_id.clone();
    let (since, at) = (Timestamp(1), Timestamp(2));
    state.suspicion = Some(Box::new(Suspicion { since, at, last_event_id }));
    assert_eq!(state.settling_id(), Some(21));
    // nobody judged by this one, whose predecessors may be lost
    state.follow("25");
    for id in 26..=40 {
        state.follow(&id.to_string());
    }
    assert_eq!(state.settling_id(), None);

    // where ids count as consecutive only since then, they say no more
    state.consecutive = PROVEN;
    assert_eq!((state.expected_id(), state.settling_id()), (Some(41), None));
}
