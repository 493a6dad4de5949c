use std::time::Duration;

use super::*;
use crate::simulator::desk::{Desk, desk};
use crate::simulator::options::{Options, Version};
use crate::simulator::reply::Reply;

#[tokio::test(start_paused = true)]
async fn rising_event_ids_rise_with_holes_and_are_the_same_in_every_queue() {
    let mut desk = Desk::new(Options { event_ids: EventIds::Rising, ..Options::default() });
    let (first, second) = (desk.subscribe("u"), desk.subscribe("u"));
    let other = desk.subscribe("v");
    for _ in 0..20 {
        desk.world.push_events("u", None, 1).unwrap();
        desk.world.push_events("v", None, 1).unwrap();
    }
    let ids = desk.event_ids("u", &first);
    assert_eq!(ids, desk.event_ids("u", &second));
    let numbers: Vec<u32> = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    let alone: Vec<u32> =
        desk.event_ids("v", &other).iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.iter().all(|number| !alone.contains(number)));
    let mut all: Vec<u32> = numbers.iter().chain(&alone).copied().collect();
    all.sort_unstable();
    assert!(all.windows(2).any(|pair| pair[1] - pair[0] > 1), "the counter leaves some out");
    let ledger = desk.ledger();
    let written: Vec<_> =
        ledger.taken_from(&first).iter().map(|event| event.event_id.as_deref().unwrap()).collect();
    assert_eq!(written, ids);
}

#[tokio::test(start_paused = true)]
async fn a_skewed_clock_dates_events_and_connections_and_not_the_ledger() {
    for (skew, version) in [(7_200_000, Version::V21), (-7_200_000, Version::V3)] {
        let mut desk = Desk::new(Options { clock_skew_ms: skew, version, ..Options::default() });
        let queue = desk.subscribe("u");
        desk.world.start_sync("u", &Sync::default()).unwrap();
        let Reply::Events { texts, .. } = desk.ask("u", &queue) else { panic!("no events") };
        let event: Value = serde_json::from_str(texts.last().unwrap()).unwrap();
        let channel = &event["resource"]["channels"][0];
        let dates = [
            &event["creation_date"],
            &event["resource"]["creation_date"],
            &channel["last_success_date"],
            &channel["last_end_date"],
        ];
        let made_at = i64::try_from(desk.ledger().events[0].made_at).unwrap();
        for date in dates {
            let seconds = match version {
                Version::V21 => date.as_i64().unwrap(),
                Version::V3 => {
                    date.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
                }
            };
            assert_eq!(seconds, (made_at + skew) / 1000, "{event:#}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_users_are_put_at_once_and_what_is_left_out_stays() {
    let mut desk = desk();
    let plan = |user: usize| UserPlan {
        user: format!("user-{user}"),
        connections: Some(vec![ConnectionPlan::default(); 2]),
        password: (user == 7).then(|| "seven".to_owned()),
    };
    let plans: Vec<UserPlan> = (0..20_000).map(plan).collect();
    desk.world.put_users(&plans).unwrap();
    assert_eq!(desk.world.stats().users, 20_000);
    assert_eq!(desk.world.password_of("user-7"), "seven");
    assert_eq!(desk.world.password_of("user-8"), "password-of-user-8");
    let named = UserPlan { user: "user-7".to_owned(), connections: None, password: None };
    desk.world.put_users(&[named]).unwrap();
    assert_eq!(desk.world.password_of("user-7"), "seven");
    assert_eq!(desk.world.start_sync("user-7", &Sync::default()).unwrap(), 20);
    let mut small = Desk::new(Options { max_users: 2, ..Options::default() });
    assert!(small.world.put_users(&plans[..3]).is_err());
    assert_eq!(small.world.stats().users, 2);
}

#[tokio::test(start_paused = true)]
async fn a_synchronization_starts_at_its_own_moment_among_the_steps_of_others() {
    let mut desk = desk();
    desk.subscribe("u");
    desk.world.start_sync("u", &Sync { over_ms: 9_000, ..Sync::default() }).unwrap();
    desk.world.start_traffic(crate::simulator::Traffic::of(4.0)).unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    let moments: Vec<u64> = desk.ledger().events.iter().map(|event| event.made_at).collect();
    assert!(moments.is_sorted(), "{moments:?}");
    assert!(moments.len() > 40);
}
