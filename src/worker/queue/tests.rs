//! What comes next for a queue, with the clock standing still or moved by hand.

use super::super::step::{Suspect, Suspicion};
use crate::journal::Stock;
use std::time::Duration;

use super::timing::LONGEST_BACKOFF;
use super::*;
use crate::linxo::{Refusal, TokenPace};
use crate::metrics::QueueCondition;
use crate::queue_state::QueueState;

const PACE: Pace = Pace {
    keep_alive: Duration::from_secs(300),
    active: Duration::from_secs(1),
    active_for: Duration::from_secs(120),
    queue_lifetime: Duration::from_secs(900),
    credential_retry: Duration::from_secs(60),
};
const PARTITION: i32 = 3;

fn subscription() -> Subscription {
    Subscription {
        user_id: UserId::from("user"),
        subscription_id: SubscriptionId::from("wish"),
        queue_id: QueueId::from("q1"),
        credential_kind: "client".into(),
        sealed_credential: Vec::new(),
        created_at: Timestamp::now(),
        updated_at: Timestamp::now(),
    }
}

/// A queue that was subscribed just now.
fn subscribed() -> Queue {
    let mut queue = Queue::subscribing(UserId::from("user"));
    queue.settle(Came::Subscribed(Box::new(subscription())), &PACE);
    queue.phase = phase_in(PACE.keep_alive);
    queue
}

/// The phase whose next moment is so far away.
fn phase_in(time: Duration) -> u64 {
    (Timestamp::now().0 + time.as_millis() as i64) as u64
}

/// A queue whose synchronization is long over.
fn quiet() -> Queue {
    let mut queue = subscribed();
    queue.active_until = None;
    queue.empties = 20;
    queue
}

fn refused(what: Refusal) -> Refused {
    Refused { what, how: "401".to_owned() }
}

fn asked(outcome: PollOutcome) -> Came {
    let is_refused = matches!(outcome, PollOutcome::Unauthorized | PollOutcome::Forbidden);
    Came::Asked {
        outcome,
        started: Instant::now(),
        started_at: Timestamp::now(),
        retry_after: None,
        listing: None,
        sign: None,
        suspicion: Suspicion::Same,
        refused: is_refused.then(|| refused(Refusal::Password)),
    }
}

/// The pause until the next step.
fn pause(next: Next) -> Duration {
    match next {
        Next::At(at) => at.saturating_duration_since(Instant::now()),
        Next::Gone => panic!("the user is gone"),
    }
}

/// What is done when the budget allows everything.
fn step(queue: &Queue) -> Step {
    queue.step(queue.class(Instant::now(), &PACE), PARTITION)
}

#[tokio::test(start_paused = true)]
async fn a_fresh_queue_is_asked_often_until_the_expected_synchronization_is_out_of_sight() {
    let mut queue = subscribed();
    assert_eq!(pause(queue.settle(asked(PollOutcome::Empty), &PACE)), PACE.active);
    tokio::time::advance(Duration::from_secs(119)).await;
    assert_eq!(pause(queue.settle(asked(PollOutcome::Empty), &PACE)), PACE.active);
    tokio::time::advance(Duration::from_secs(2)).await;
    let mut pauses = Vec::new();
    for _ in 0..6 {
        pauses.push(pause(queue.settle(asked(PollOutcome::Empty), &PACE)).as_secs());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_synchronization_ends_the_haste() {
    let mut queue = subscribed();
    let Came::Asked { started, started_at, .. } = asked(PollOutcome::Events) else { return };
    let signed = |sign| Came::Asked {
        outcome: PollOutcome::Events,
        started,
        started_at,
        retry_after: None,
        listing: None,
        sign: Some(sign),
        suspicion: Suspicion::Same,
        refused: None,
    };
    queue.settle(signed(true), &PACE);
    assert!(queue.active_until.is_some());
    queue.settle(signed(false), &PACE);
    assert!(queue.active_until.is_none());
    assert_eq!(pause(queue.settle(asked(PollOutcome::Empty), &PACE)).as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_queue_is_never_left_alone_longer_than_the_keep_alive_interval() {
    let mut queue = quiet();
    for outcome in [PollOutcome::Empty, PollOutcome::EmptyList, PollOutcome::Malformed] {
        queue.empties = 20;
        assert!(pause(queue.settle(asked(outcome), &PACE)) <= PACE.keep_alive);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_asked_at_its_phase_whatever_its_cadence() {
    let near = Duration::from_secs(100);
    for (is_active, empties) in [(true, 0), (false, 7), (false, 8), (false, 20)] {
        let mut queue = quiet();
        queue.phase = phase_in(near);
        queue.empties = empties;
        let pace = Pace { active: Duration::from_secs(if is_active { 150 } else { 1 }), ..PACE };
        queue.active_until = is_active.then(|| Instant::now() + PACE.active_for);
        let pause = pause(queue.settle(asked(PollOutcome::Empty), &pace));
        let is_at_phase = pause.abs_diff(near) < Duration::from_secs(2);
        assert!(is_at_phase, "{pause:?} after {empties} empty answers, active: {is_active}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_not_answered_at_the_phase_was_asked_in_turn_until_then_and_no_longer() {
    let mut queue = quiet();
    queue.phase = phase_in(Duration::from_secs(100));
    queue.settle(asked(PollOutcome::Empty), &PACE);
    let phase_at = Instant::now() + Duration::from_secs(100);
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(queue.asked_until(Instant::now(), &PACE), None);
    tokio::time::advance(Duration::from_secs(60)).await;
    queue.settle(asked(PollOutcome::ServerError), &PACE);
    let until = queue.asked_until(Instant::now(), &PACE).unwrap();
    assert!(until < phase_at && phase_at - until < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_backs_off_but_never_past_the_keep_alive_time() {
    let mut queue = quiet();
    queue.settle(asked(PollOutcome::Empty), &PACE);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(pause(queue.settle(asked(PollOutcome::ServerError), &PACE)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    tokio::time::advance(Duration::from_secs(280)).await;
    let left = pause(queue.settle(asked(PollOutcome::ServerError), &PACE));
    assert!(left.abs_diff(Duration::from_secs(20)) < Duration::from_secs(2), "{left:?}");
    // past it, every backoff
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(pause(queue.settle(asked(PollOutcome::ServerError), &PACE)).as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_source_asks_for_is_kept_until_the_queue_is_in_danger() {
    let mut queue = quiet();
    queue.settle(asked(PollOutcome::Empty), &PACE);
    let throttled = |seconds| Came::Asked {
        outcome: PollOutcome::Throttled,
        started: Instant::now(),
        started_at: Timestamp::now(),
        retry_after: Some(Duration::from_secs(seconds)),
        listing: None,
        sign: None,
        suspicion: Suspicion::Same,
        refused: None,
    };
    assert_eq!(pause(queue.settle(throttled(120), &PACE)).as_secs(), 120);
    assert_eq!(pause(queue.settle(throttled(7200), &PACE)).as_secs(), 600);
    tokio::time::advance(Duration::from_secs(650)).await;
    assert!(pause(queue.settle(throttled(7200), &PACE)) <= LONGEST_BACKOFF);
}

#[tokio::test(start_paused = true)]
async fn a_queue_in_danger_is_tried_more_often_the_nearer_its_death_is() {
    let mut queue = quiet();
    queue.settle(asked(PollOutcome::Empty), &PACE);
    for _ in 0..10 {
        queue.settle(asked(PollOutcome::Throttled), &PACE);
    }
    let since = Instant::now();
    let mut pauses = Vec::new();
    for age in [400, 600, 840, 892, 899, 905] {
        tokio::time::advance(Duration::from_secs(age) - since.elapsed()).await;
        let throttled = Came::Asked {
            outcome: PollOutcome::Throttled,
            started: Instant::now(),
            started_at: Timestamp::now(),
            retry_after: Some(Duration::from_secs(7200)),
            listing: None,
            sign: None,
            suspicion: Suspicion::Same,
            refused: None,
        };
        pauses.push(pause(queue.settle(throttled, &PACE)).as_millis());
    }
    // urgent, then an eighth of what is left; what is over is in no hurry
    assert_eq!(pauses, [200_000, 37_500, 7_500, 1_000, 1_000, 60_000]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_queue_is_replaced_then_listed_and_the_gap_says_why() {
    let mut queue = quiet();
    assert_eq!(pause(queue.settle(asked(PollOutcome::Dead), &PACE)), Duration::ZERO);
    assert_eq!(queue.class(Instant::now(), &PACE), Class::Urgent);
    let Step::Replace { lost, .. } = step(&queue) else {
        panic!("a new queue is needed");
    };
    assert_eq!((lost.cause, lost.certainty), (Cause::QueueGone, Certainty::Certain));

    let gap = lost.gap_id.clone();
    let came = Came::Replaced { queue: QueueId::from("q2"), gap: gap.clone(), cause: lost.cause };
    assert_eq!(pause(queue.settle(came, &PACE)), Duration::ZERO);
    assert_eq!((queue.queue.as_str(), queue.generation), ("q2", 2));
    let Step::List { gap: listed, .. } = step(&queue) else {
        panic!("the present state is needed");
    };
    assert_eq!(listed, gap);

    // a listing that fails lets the queue be asked meanwhile, and a loss meanwhile widens the gap
    let failed = Came::Unlisted(CallFault::Retry { what: "away".into() });
    let Next::At(due) = queue.settle(failed, &PACE) else { panic!("the user stays") };
    queue.due = due;
    tokio::time::advance(Duration::from_millis(500)).await;
    let Step::Ask(question) = step(&queue) else {
        panic!("the listing waits");
    };
    assert_eq!(question.open_gap, Some(gap));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(step(&queue), Step::List { .. }));
    queue.settle(Came::Listed, &PACE);
    assert!(matches!(step(&queue), Step::Ask(_)));
    assert_eq!(queue.open_gap, None);
}

#[tokio::test(start_paused = true)]
async fn a_refused_user_is_asked_slowly_and_freed_at_once_by_a_new_credential() {
    let mut queue = quiet();
    assert_eq!(pause(queue.settle(asked(PollOutcome::Unauthorized), &PACE)).as_secs(), 60);
    assert_eq!(queue.condition(), QueueCondition::Blocked);
    // it dies meanwhile: the cause is the credential
    queue.settle(asked(PollOutcome::Dead), &PACE);
    assert_eq!(queue.death_cause(&PACE), Cause::CredentialRefused);
    let fault = CallFault::Refused(refused(Refusal::ExpiredAccessToken));
    assert_eq!(pause(queue.settle(Came::Failed(fault), &PACE)).as_secs(), 60);
    assert_eq!(queue.condition(), QueueCondition::Blocked);
    assert_eq!(
        queue.view(0, "me", &PACE).blocked_reason.as_deref(),
        Some("linxo refuses the access token, its expires_at is past (401)")
    );
    let changed = Came::CredentialChanged(Box::new(subscription()));
    assert_eq!(pause(queue.settle(changed, &PACE)), Duration::ZERO);
    assert_ne!(queue.condition(), QueueCondition::Blocked);
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_is_away_blocks_nobody_and_is_tried_ever_more_rarely() {
    let mut queue = quiet();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let away = CallFault::Retry { what: "away".into() };
        pauses.push(pause(queue.settle(Came::Failed(away), &PACE)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(queue.condition(), QueueCondition::Live);
}

#[tokio::test(start_paused = true)]
async fn a_user_with_a_password_needs_requests_for_tokens_too() {
    let tokens = TokenPace::default();
    let rate = |kind: &str| {
        let mut queue = quiet();
        let credential_kind = kind.to_owned();
        queue.credential = HeldCredential::of(&Subscription { credential_kind, ..subscription() });
        queue.required_rate(Instant::now(), &PACE, &tokens)
    };
    let questions = 1.0 / PACE.keep_alive.as_secs_f64();
    assert_eq!((rate("client"), rate("access_token")), (questions, questions));
    assert!((rate("password") - questions - 1.0 / 3570.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_is_remembered_until_it_is_known_what_became_of_it() {
    let mut queue = quiet();
    queue.settle(asked(PollOutcome::Empty), &PACE);
    let since = queue.asked_at;
    let due = Instant::now() + PACE.suspicion();
    let suspect = Suspect { since, due, expected: None, is_of_refusal: false };
    let timed_out = |suspicion| Came::Asked {
        outcome: PollOutcome::Timeout,
        started: Instant::now(),
        started_at: Timestamp::now(),
        retry_after: None,
        listing: None,
        sign: None,
        suspicion,
        refused: None,
    };
    queue.settle(timed_out(Suspicion::Begun(suspect.clone())), &PACE);
    assert_eq!(queue.question(PARTITION).suspect, Some(suspect));
    // an empty answer says nothing about what came before, and the queue is asked when it is due
    assert_eq!(pause(queue.settle(asked(PollOutcome::Empty), &PACE)), PACE.suspicion());
    assert_eq!(queue.question(PARTITION).from(), since);
    assert_eq!(queue.lost(Cause::QueueGone).from, since, "a death takes the suspicion in");
    queue.settle(timed_out(Suspicion::Over), &PACE);
    assert_eq!(queue.question(PARTITION).suspect, None);
}

#[tokio::test(start_paused = true)]
async fn the_less_room_is_left_the_fewer_queues_are_asked() {
    let mut queue = quiet();
    let admitted = |queue: &Queue, class| {
        [Stock::Plenty, Stock::Scarce, Stock::Last, Stock::None]
            .map(|stock| queue.is_admitted(stock, class))
    };
    assert_eq!(admitted(&queue, Class::KeepAlive), [true, false, false, false]);
    assert_eq!(admitted(&queue, Class::Urgent), [true, true, true, false]);
    queue.settle(asked(PollOutcome::Events), &PACE);
    assert_eq!(admitted(&queue, Class::Urgent), [true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn two_thirds_of_a_life_without_an_answer_make_a_queue_urgent() {
    let mut queue = quiet();
    queue.settle(asked(PollOutcome::Empty), &PACE);
    tokio::time::advance(Duration::from_millis(599_999)).await;
    assert_eq!(queue.class(Instant::now(), &PACE), Class::KeepAlive);
    tokio::time::advance(Duration::from_millis(2)).await;
    assert_eq!(queue.class(Instant::now(), &PACE), Class::Urgent);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_finds_no_spare_budget_does_not_keep_its_queue_from_being_asked() {
    let mut queue = quiet();
    queue.open(GapId::from("gap"), Instant::now());
    let class = |queue: &Queue| queue.class(Instant::now(), &PACE);
    assert_eq!(class(&queue), Class::Reconciliation);
    let promoted_at = queue.promoted_at(Class::Reconciliation, Instant::now(), &PACE);
    assert_eq!(promoted_at, Some(queue.due + PACE.keep_alive));
    tokio::time::advance(PACE.keep_alive).await;
    assert_eq!(class(&queue), Class::KeepAlive);
    assert!(matches!(step(&queue), Step::Ask(_)));
    // asked: now the listing has its chance again
    let Next::At(due) = queue.settle(asked(PollOutcome::Empty), &PACE) else {
        panic!("the user stays")
    };
    queue.due = due;
    assert_eq!(class(&queue), Class::Reconciliation);
}

#[tokio::test(start_paused = true)]
async fn an_active_queue_that_waits_is_owed_a_question_after_the_keep_alive_interval() {
    let queue = subscribed();
    let at = queue.promoted_at(Class::Active, Instant::now(), &PACE);
    assert_eq!(at, Some(Instant::now() + PACE.keep_alive));
    let at = queue.promoted_at(Class::KeepAlive, Instant::now(), &PACE);
    assert_eq!(at, Some(Instant::now() + PACE.urgent_after()));
    assert_eq!(queue.promoted_at(Class::Urgent, Instant::now(), &PACE), None);
}

/// A user as the topics have it, whose queue was answered so long ago.
fn loaded(ago: Duration) -> Loaded {
    let at = Timestamp::now().before(ago);
    let subscription = Subscription { created_at: at, updated_at: at, ..subscription() };
    let state = QueueState { asked_at: Some(at), ..QueueState::first(&subscription, 1, at) };
    Loaded { subscription, state }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_queue_of_the_topics_is_asked_at_keep_alive_cadence_from_the_first_answer_on() {
    for (ago, is_quiet) in [(600, true), (60, false)] {
        let mut queue = Queue::from_loaded(loaded(Duration::from_secs(ago)), None, &PACE);
        queue.phase = phase_in(PACE.keep_alive);
        let Next::At(due) = queue.settle(asked(PollOutcome::Empty), &PACE) else { panic!() };
        let is_slow = due >= Instant::now() + PACE.keep_alive / 2;
        assert_eq!(is_slow, is_quiet, "asked {ago} s ago");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_read_anew_keeps_its_suspicion_and_takes_the_rest_from_the_topics() {
    let mut queue = quiet();
    let due = Instant::now();
    let suspect = Suspect { since: Timestamp(7), due, expected: None, is_of_refusal: true };
    queue.suspect = Some(Box::new(suspect.clone()));
    let mut known = loaded(Duration::from_secs(60));
    known.state.queue_id = QueueId::from("q2");
    known.state.generation = 2;
    known.state.owner_epoch = 9;
    queue.reload(known.clone(), &PACE);
    assert_eq!(queue.suspect.as_deref(), Some(&suspect));
    assert_eq!((queue.queue.as_str(), queue.generation, queue.owner_epoch), ("q2", 2, 9));
    known.subscription.subscription_id = SubscriptionId::from("another wish");
    queue.reload(known, &PACE);
    assert_eq!(queue.suspect, None, "it was of the wish before");
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_tells_by_the_phase_which_queue_is_nearest_to_its_death() {
    let subscription = Subscription { created_at: Timestamp(0), ..subscription() };
    let state = QueueState::first(&subscription, 1, Timestamp(0));
    let until = Timestamp::now().before(Duration::from_secs(600));
    let queue = Queue::from_loaded(Loaded { subscription, state }, Some(until), &PACE);
    let asked = PACE.phase_before(until, queue.phase);
    let wanted = PACE.queue_lifetime.saturating_sub(Timestamp::now().since(asked));
    let left = queue.time_left(Instant::now(), &PACE);
    assert!(wanted.abs_diff(left) < Duration::from_secs(1), "{wanted:?} {left:?}");
    // what may be lost begins at what is known for sure
    assert_eq!(queue.asked_at, until.before(PACE.keep_alive));
}
