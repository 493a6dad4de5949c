//! What the model shows: with every guard the promises hold whatever the order of steps, and without
//! any one of them they do not.

use super::checker::{Explored, explore};
use super::*;
use crate::ids::{JournalId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::queue_state::QueueState;
use crate::subscription::Subscription;

/// One answer of the first user.
const ONE: Answers = 0b0001;
/// Both answers of the first user.
const TWO: Answers = 0b0011;
/// One answer of each.
const EACH: Answers = 0b0101;
/// Both of the first user, and one of the second.
const THREE: Answers = 0b0111;

/// How each promise is told to be broken.
const TWICE: &str = "P2: an answer is published twice";
const LOST: &str = "P3: a lost answer lies in no gap";
const OUT_OF_ORDER: &str = "P4: events are out of the order of their queue";
const LATE_WINS: &str = "P5: a late owner's state wins";
const MISCOUNTED: &str = "P5: sequences repeat or have holes";
const INTRUDED: &str = "P5: a queue is asked by an instance that was told it is another's";
const OURS_LATE: &str = "what is ours is published late";

/// Each guard, the faults it is against, how many of them it takes, and what breaks without it.
const GUARDS: &[(Guard, &str, u8, &str)] = &[
    (Guard::Journal, "killed", 1, LOST),
    (Guard::Questions, "killed", 1, LOST),
    (Guard::Fence, "session_ended", 1, LATE_WINS),
    (Guard::FenceOrder, "session_ended", 1, LATE_WINS),
    (Guard::ReadToEnd, "revoked", 1, MISCOUNTED),
    (Guard::RowNumbers, "killed", 1, LOST),
    (Guard::Position, "unknown", 1, TWICE),
    (Guard::Token, "revoked drained_in_part", 2, LATE_WINS),
    (Guard::Metadata, "session_ended", 1, LATE_WINS),
    (Guard::Adopted, "killed", 1, OURS_LATE),
    (Guard::Sure, "killed", 1, OURS_LATE),
    (Guard::Epoch, "session_ended", 2, OUT_OF_ORDER),
    (Guard::Reread, "unknown session_ended", 2, MISCOUNTED),
    (Guard::StopFirst, "revoked", 1, INTRUDED),
    (Guard::LetGoOfLost, "session_ended", 1, INTRUDED),
    (Guard::OneWorker, "session_ended revoked", 2, OUT_OF_ORDER),
    (Guard::NotRevoked, "session_ended revoked", 2, INTRUDED),
    (Guard::Renewed, "session_ended", 2, OUT_OF_ORDER),
];

fn kinds() -> Vec<&'static str> {
    FAULTS.iter().map(|(name, _)| *name).collect()
}

/// Explores, and says how much there was.
fn explored(name: &str, model: &Model) -> Explored {
    let began = tokio::time::Instant::now();
    let explored = explore(model);
    let Explored { states, transitions, rests, .. } = &explored;
    let took = began.elapsed();
    println!("{name}: {states} states, {transitions} transitions, {rests} at rest, {took:.1?}");
    explored
}

/// Explores all within bounds; answers what was seen.
fn hold(answers: Answers, faults: u8) -> BTreeSet<&'static str> {
    let name = format!("answers {answers:04b}, {faults} faults");
    let explored = explored(&name, &Model::new(answers, faults, &kinds(), None));
    if let Some(counterexample) = explored.counterexample {
        panic!("{counterexample}");
    }
    explored.seen
}

#[test]
fn whatever_the_order_of_steps_the_promises_hold() {
    hold(THREE, 1);
    hold(EACH, 2);
    let seen = hold(TWO, 2);
    let missed = promises::SIGHTS.iter().filter(|(_, sight, _)| !seen.contains(sight));
    assert_eq!(missed.map(|(_, sight, _)| sight).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// With `LINXO_BRIDGE_MODEL=further` more answers and more faults: millions of states, minutes and some gigabytes,
/// for whoever changes the protocol.
#[test]
fn one_answer_survives_three_faults() {
    hold(ONE, 3);
    if std::env::var("LINXO_BRIDGE_MODEL").is_ok_and(|how| how == "further") {
        for (answers, faults) in [(ONE, 4), (TWO, 3), (EACH, 3), (THREE, 2)] {
            hold(answers, faults);
        }
    }
}

#[test]
fn without_a_guard_a_promise_is_broken() {
    for (guard, faults, most, broken) in GUARDS {
        let kinds: Vec<&str> = faults.split(' ').collect();
        let model = Model::new(TWO, *most, &kinds, Some(*guard));
        let explored = explored(&format!("without {guard:?}"), &model);
        let counterexample = explored.counterexample.unwrap();
        println!("{counterexample}\n");
        assert_eq!(counterexample.broken, *broken, "without {guard:?}: {counterexample}");
    }
}

#[test]
fn a_state_is_taken_over_as_in_the_code() {
    let subscription = Subscription {
        user_id: UserId::from("u"),
        subscription_id: SubscriptionId::from("s"),
        queue_id: QueueId::from("q"),
        credential_kind: "client".to_owned(),
        sealed_credential: Vec::new(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    };
    let ours = JournalId::from("ours");
    for (epoch, is_ours) in (1..4).flat_map(|epoch| [(epoch, true), (epoch, false)]) {
        let mut state = QueueState::first(&subscription, i64::from(epoch), Timestamp(0));
        state.journal_id = Some(JournalId::from(if is_ours { "ours" } else { "another's" }));
        let state = state.taken_over(&ours);
        let first = world::QueueState::FIRST;
        let model = world::QueueState { owner_epoch: epoch, ..first }.taken_over(is_ours);
        assert_eq!(state.owner_epoch, i64::from(model.owner_epoch));
        for row in 0..6_u8 {
            let takes = state.takes(&subscription.subscription_id, i64::from(row));
            assert_eq!(takes, model.takes(row), "epoch {epoch}, ours: {is_ours}, a row of {row}");
        }
    }
}
