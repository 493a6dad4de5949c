//! Who is served when, and how an instance stays below its share while the source throttles.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::throttle::LEAST_RATE;
use super::*;

const RECOVERY: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn the_rate_holds_over_a_second() {
    let budget = Budget::new(1000, RECOVERY);
    budget.limit(Some(50.0));
    let serving = tokio::spawn(budget.clone().run());
    let start = Instant::now();
    for _ in 0..100 {
        let slot = budget.take(Class::Active).await;
        assert!(slot.is_ok());
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1_850), "{took:?}");
    assert!(took <= Duration::from_millis(2_200), "{took:?}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn urgent_goes_first_then_keep_alive_ahead_of_active_and_reconciliation_comes_last() {
    let budget = Budget::new(1, RECOVERY);
    let only = budget.try_take(Class::KeepAlive).expect("a free budget");
    let mut turns = Vec::new();
    let others = [Class::Reconciliation, Class::Active, Class::Active, Class::Urgent];
    for class in others.into_iter().chain([Class::KeepAlive; 9]) {
        turns.push((class, budget.take(class)));
    }
    let mut order = Vec::new();
    let mut held = only;
    while !turns.is_empty() {
        drop(held);
        let place =
            turns.iter_mut().position(|(_, turn)| !turn.is_empty()).expect("somebody is served");
        let (class, turn) = turns.swap_remove(place);
        order.push(class);
        held = turn.await.expect("a slot");
    }
    let mut wanted = vec![Class::Urgent];
    wanted.extend([Class::KeepAlive; 7]);
    // it has waited long enough, and is not the last to be served
    wanted.push(Class::Active);
    wanted.extend([Class::KeepAlive; 2]);
    wanted.extend([Class::Active, Class::Reconciliation]);
    assert_eq!(order, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_not_asked_takes_nothing_of_the_rate() {
    let budget = Budget::new(10, RECOVERY);
    budget.limit(Some(1.0));
    for _ in 0..10 {
        budget.try_take(Class::Active).expect("what was given back").give_back();
    }
    drop(budget.try_take(Class::Active).expect("the first of this second"));
    assert!(budget.try_take(Class::Active).is_none());
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_off_what_may_be_asked() {
    let budget = Budget::new(1000, RECOVERY);
    budget.charge();
    assert!(budget.try_take(Class::Active).is_some(), "without a limit nothing is owed");
    budget.limit(Some(50.0));
    let serving = tokio::spawn(budget.clone().run());
    let start = Instant::now();
    for _ in 0..50 {
        assert!(budget.take(Class::Active).await.is_ok());
        budget.charge();
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1_850), "{took:?}");
    assert!(took <= Duration::from_millis(2_200), "{took:?}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_waits_takes_nothing() {
    let budget = Budget::new(1, RECOVERY);
    let held = budget.try_take(Class::Active).expect("a free budget");
    drop(budget.take(Class::Active));
    drop(held);
    assert!(budget.try_take(Class::Active).is_some());
}

/// A source that admits so many questions a second, whoever asks, and counts them.
#[derive(Clone)]
struct Limiter(Arc<Mutex<Bucket>>);

struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: Instant,
    retry_after: Option<Duration>,
}

impl Limiter {
    fn of(per_second: f64) -> Self {
        let (filled_at, retry_after) = (Instant::now(), None);
        Self(Arc::new(Mutex::new(Bucket { per_second, tokens: 0.0, filled_at, retry_after })))
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().expect("nobody panics with it")
    }

    fn set(&self, per_second: f64) {
        self.bucket().per_second = per_second;
    }

    /// What a question is answered with: nothing, or for how long it is refused.
    fn refuses(&self) -> Option<Option<Duration>> {
        let mut bucket = self.bucket();
        let now = Instant::now();
        let earned = (now - bucket.filled_at).as_secs_f64() * bucket.per_second;
        bucket.tokens = (bucket.tokens + earned).min(bucket.per_second / 10.0);
        bucket.filled_at = now;
        if bucket.tokens < 1.0 {
            return Some(bucket.retry_after);
        }
        bucket.tokens -= 1.0;
        None
    }
}

/// An instance that always has something to ask, at most every `pause`.
struct Instance {
    budget: Budget,
    admitted: Arc<AtomicU32>,
    tasks: [JoinHandle<()>; 2],
}

impl Instance {
    fn start(share: Option<f64>, limiter: &Limiter, pause: Duration) -> Self {
        let budget = Budget::new(10_000, RECOVERY);
        budget.limit(share);
        let admitted = Arc::new(AtomicU32::new(0));
        let serving = tokio::spawn(budget.clone().run());
        let (asks, limiter, counted) = (budget.clone(), limiter.clone(), Arc::clone(&admitted));
        let asking = tokio::spawn(async move {
            let mut step = 1_u32;
            loop {
                let mut slot = asks.take(Class::KeepAlive).await.expect("a slot");
                let (limiter, counted) = (limiter.clone(), Arc::clone(&counted));
                // not in step with others, as no two of them are
                step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let latency = LATENCY / 2 + LATENCY.mul_f64(f64::from(step) / f64::from(u32::MAX));
                tokio::spawn(async move {
                    sleep(latency).await;
                    match limiter.refuses() {
                        Some(retry_after) => slot.throttled(retry_after),
                        None => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    }
                });
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
        });
        Self { budget, admitted, tasks: [serving, asking] }
    }

    fn take_admitted(&self) -> f64 {
        f64::from(self.admitted.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn two_instances_end_up_at_their_shares_of_what_the_source_admits_and_recover() {
    let limiter = Limiter::of(1_000.0);
    let large = Instance::start(Some(1_500.0), &limiter, Duration::ZERO);
    // what the first has come down to is not what the second begins with
    sleep(Duration::from_secs(30)).await;
    let small = Instance::start(Some(500.0), &limiter, Duration::ZERO);
    sleep(Duration::from_secs(120)).await;
    large.take_admitted();
    small.take_admitted();
    sleep(Duration::from_secs(60)).await;
    let (of_large, of_small) = (large.take_admitted() / 60.0, small.take_admitted() / 60.0);
    let ratio = of_large / of_small;
    assert!((3.0 * 0.8..3.0 * 1.2).contains(&ratio), "{of_large} and {of_small}: {ratio}");
    let sum = of_large + of_small;
    assert!((1_000.0 * 0.85..1_001.0).contains(&sum), "{sum} a second of 1,000");

    limiter.set(100_000.0);
    sleep(RECOVERY).await;
    assert_eq!(large.budget.throttled_to(), Some(1_500.0));
    assert_eq!(small.budget.throttled_to(), Some(500.0));
    sleep(RECOVERY).await;
    assert_eq!((large.budget.throttled_to(), small.budget.throttled_to()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn few_questions_are_refused_once_the_rate_is_found() {
    let limiter = Limiter::of(200.0);
    let instance = Instance::start(Some(400.0), &limiter, Duration::ZERO);
    sleep(Duration::from_secs(20)).await;
    let mut rates = Vec::new();
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        rates.push(instance.budget.throttled_to().expect("the source throttles"));
    }
    let (least, most) =
        (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
    assert!(least > 200.0 * 0.7 && most < 200.0 * 1.15, "{rates:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_configured_limit_the_rate_is_lowered_from_what_was_asked() {
    let limiter = Limiter::of(10_000.0);
    let instance = Instance::start(None, &limiter, Duration::from_millis(1));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(instance.budget.throttled_to(), None);
    limiter.set(500.0);
    sleep(Duration::from_secs(20)).await;
    let rate = instance.budget.throttled_to().expect("the source throttles");
    assert!((375.0..575.0).contains(&rate), "{rate}");
    limiter.set(10_000.0);
    sleep(RECOVERY + Duration::from_secs(3)).await;
    assert_eq!(instance.budget.throttled_to(), None);
}

/// Asks so many at once, all of which are refused, and answers them after a while.
async fn refuse(budget: &Budget, questions: usize, retry_after: Option<Duration>) {
    let mut slots = Vec::new();
    for _ in 0..questions {
        slots.extend(budget.try_take(Class::KeepAlive));
    }
    assert!(!slots.is_empty());
    advance(LATENCY).await;
    slots.iter_mut().for_each(|slot| slot.throttled(retry_after));
}

#[tokio::test(start_paused = true)]
async fn questions_that_were_under_way_together_lower_the_rate_once() {
    let budget = Budget::new(1000, RECOVERY);
    budget.limit(Some(1000.0));
    advance(Duration::from_secs(1)).await;
    let mut slots: Vec<Slot> = (0..90).filter_map(|_| budget.try_take(Class::Active)).collect();
    assert_eq!(slots.len(), 90);
    for slot in &mut slots {
        slot.throttled(None);
    }
    // their answers come one after the other, over three seconds
    for slot in slots {
        advance(Duration::from_millis(33)).await;
        drop(slot);
    }
    assert_eq!(budget.throttled_to(), Some(500.0));
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_admitted_a_retry_after_is_waited_for() {
    for (retry_after, left) in [(Some(Duration::from_secs(30)), 50.0), (None, LEAST_RATE)] {
        let budget = Budget::new(1000, RECOVERY);
        budget.limit(Some(100.0));
        for _ in 0..25 {
            refuse(&budget, 5, retry_after).await;
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(budget.throttled_to(), Some(left), "{retry_after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_never_falls_below_what_keeps_every_queue_alive() {
    let budget = Budget::new(1000, RECOVERY);
    budget.limit(Some(100.0));
    budget.require(0, Required { per_second: 40.0, vital: 20.0 });
    budget.require(1, Required { per_second: 20.0, vital: 10.0 });
    for _ in 0..60 {
        refuse(&budget, 5, None).await;
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!((budget.throttled_to(), budget.required()), (Some(30.0), 60.0));
    // and what it has is no more than its share
    budget.require(0, Required { per_second: 400.0, vital: 200.0 });
    assert_eq!(budget.throttled_to(), Some(100.0));
}

#[tokio::test(start_paused = true)]
async fn partitions_that_move_take_their_part_of_a_lowered_rate_with_them() {
    let budget = Budget::new(1000, RECOVERY);
    budget.limit(Some(100.0));
    for _ in 0..3 {
        refuse(&budget, 5, None).await;
        advance(Duration::from_secs(1)).await;
    }
    let before = budget.throttled_to().expect("the source throttles");
    budget.limit(Some(200.0));
    let after = budget.throttled_to().expect("the source throttles");
    assert!((after / before - 2.0).abs() < 1e-9, "{before} {after}");
}

#[tokio::test(start_paused = true)]
async fn while_the_source_throttles_the_urgent_are_asked_first() {
    let budget = Budget::new(1000, RECOVERY);
    budget.limit(Some(100.0));
    let serving = tokio::spawn(budget.clone().run());
    for _ in 0..20 {
        refuse(&budget, 5, None).await;
        advance(Duration::from_secs(1)).await;
    }
    while budget.try_take(Class::Active).is_some() {}
    let mut quiet: Vec<_> = (0..20).map(|_| budget.take(Class::KeepAlive)).collect();
    let mut urgent: Vec<_> = (0..20).map(|_| budget.take(Class::Urgent)).collect();
    // some ten a second are left
    sleep(Duration::from_millis(1_050)).await;
    let served = |turns: &mut Vec<oneshot::Receiver<Slot>>| {
        turns.iter_mut().filter(|turn| !turn.is_empty()).count()
    };
    let (of_urgent, of_quiet) = (served(&mut urgent), served(&mut quiet));
    assert!((9..=12).contains(&of_urgent) && of_quiet == 0, "{of_urgent} {of_quiet}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_slot_says_whom_a_question_reaches_in_time() {
    let budget = Budget::new(10, RECOVERY);
    for (latency, reach) in [(100, 199..=200), (30_000, 2_000..=2_000), (10, 20..=21)] {
        for _ in 0..200 {
            let slot = budget.try_take(Class::KeepAlive).expect("a free budget");
            advance(Duration::from_millis(latency)).await;
            drop(slot);
        }
        let found = budget.try_take(Class::KeepAlive).expect("a free budget").reach();
        assert!(reach.contains(&found.as_millis()), "{latency}: {found:?}");
    }
}
