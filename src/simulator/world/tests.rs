use std::collections::BTreeSet;

use super::*;
use crate::simulator::desk::{Desk, desk};
use crate::simulator::ledger::{Fate, Outcome};

/// The users whose queue died by an order, out of a hundred.
fn expired(seed: u64, share: f64) -> BTreeSet<String> {
    let mut desk = Desk::new(Options { seed, ..Options::default() });
    for user in 0..100 {
        desk.subscribe(&format!("user-{user}"));
    }
    let died = desk.world.expire(&Expiry { share, users: None }).unwrap();
    let ledger = desk.ledger();
    assert_eq!(ledger.deaths.len(), died);
    assert!(ledger.deaths.iter().all(|death| death.cause == DeathCause::Ordered));
    ledger.deaths.iter().map(|death| death.user.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_share_of_the_queues_expires_by_order_and_the_same_for_the_same_seed() {
    let some = expired(1, 0.3);
    assert!((20..40).contains(&some.len()), "{}", some.len());
    assert_eq!(some, expired(1, 0.3));
    assert_ne!(some, expired(2, 0.3));
    assert_eq!((expired(1, 0.0).len(), expired(1, 1.0).len()), (0, 100));
    let wrong = Expiry { share: 1.1, users: None };
    assert!(desk().world.expire(&wrong).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_queues_of_the_users_named_expire_and_their_deaths_are_told_apart() {
    let mut desk = desk();
    let [u, v, w] = ["u", "v", "w"].map(|user| desk.subscribe(user));
    desk.world.push_events("u", None, 1).unwrap();
    let users = Some(["u", "stranger"].map(str::to_owned).to_vec());
    assert_eq!(desk.world.expire(&Expiry { users, ..Expiry::default() }).unwrap(), 1);
    assert_eq!(desk.outcome("u", &u), Outcome::Dead);
    assert_eq!(desk.outcome("v", &v), Outcome::Empty);
    desk.world.kill(&v);
    tokio::time::advance(Duration::from_secs(3600)).await;
    let ledger = desk.ledger();
    let cause = |queue: &str| ledger.deaths.iter().find(|death| *death.queue == *queue).unwrap();
    let causes = [&u, &v, &w].map(|queue| cause(queue).cause);
    assert_eq!(causes, [DeathCause::Ordered, DeathCause::Killed, DeathCause::Expired]);
    assert_eq!(ledger.events[0].fate, Fate::DiedWithQueue);
    let by_cause = desk.world.stats().deaths_by_cause;
    assert_eq!(by_cause.values().copied().collect::<Vec<_>>(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_tells_when_the_source_could_not_be_reached() {
    let mut desk = desk();
    let start = desk.ledger().now;
    desk.world.begin_outage(Duration::from_secs(10));
    tokio::time::advance(Duration::from_secs(60)).await;
    desk.world.begin_outage(Duration::from_secs(10));
    tokio::time::advance(Duration::from_secs(4)).await;
    desk.world.end_outage();
    let ledger = desk.ledger();
    let told: Vec<_> =
        ledger.outages.iter().map(|outage| (outage.from - start, outage.to - start)).collect();
    assert_eq!(told, [(0, 10_000), (60_000, 64_000)]);
    for _ in 0..MOST_OUTAGES + 5 {
        desk.world.begin_outage(Duration::from_secs(1));
    }
    assert_eq!(desk.ledger().outages.len(), MOST_OUTAGES);
    assert_eq!(desk.world.stats().outages, MOST_OUTAGES as u64 + 7);
}

#[tokio::test(start_paused = true)]
async fn no_password_is_shown() {
    let mut desk = desk();
    desk.world.set_password("u", "never-to-be-seen").unwrap();
    assert!(!format!("{:?}", desk.world.users).contains("never-to-be-seen"));
}
