//! Faults in random pairs: one begins, another joins it, one ends, then the other; about a quarter of the time is free
//! of faults. What follows from the seed is written down before it happens.

use std::time::Duration;

use linxo_kafka_bridge::oracle::Verdict;
use rand::Rng;
use tokio::time::sleep;

use crate::faults::{FAULTS, Fault};
use crate::scenario::{Context, Scenario, THREE};
use crate::world::World;

const RANDOM: Scenario = {
    let mut scenario =
        Scenario::new(super::PAIRS, "random pairs of faults", THREE, |c| Box::pin(random_pairs(c)));
    scenario.limit = Duration::from_secs(600);
    scenario
};

pub const ALL: &[Scenario] = &[RANDOM];

async fn random_pairs(context: Context) -> Verdict {
    let pairs = context.pairs;
    let mut world = World::new(context, &[]).await;
    for number in 1..=pairs {
        let (first, second) = pair(&mut world);
        let brokers = [world.any_broker(), world.any_broker()];
        let said =
            format!("{number}: {} ({}), {} ({})", first.name, brokers[0], second.name, brokers[1]);
        println!("  pair {said}");
        world.note(&said);
        (first.begin)(&mut world, brokers[0]).await;
        some_time(&mut world, 2_500).await;
        (second.begin)(&mut world, brokers[1]).await;
        some_time(&mut world, 5_000).await;
        // half of the time the first to come is the last to go
        if world.random.random_bool(0.5) {
            (first.end)(&mut world, brokers[0]).await;
            some_time(&mut world, 2_500).await;
            (second.end)(&mut world, brokers[1]).await;
        } else {
            (second.end)(&mut world, brokers[1]).await;
            some_time(&mut world, 2_500).await;
            (first.end)(&mut world, brokers[0]).await;
        }
        some_time(&mut world, 5_000).await;
        world.look().await;
    }
    world.verdict().await
}

/// Two that act on different things.
fn pair(world: &mut World) -> (&'static Fault, &'static Fault) {
    let first = &FAULTS[world.random.random_range(0..FAULTS.len())];
    loop {
        let second = &FAULTS[world.random.random_range(0..FAULTS.len())];
        if second.lane != first.lane {
            return (first, second);
        }
    }
}

async fn some_time(world: &mut World, most_millis: u64) {
    let millis = world.random.random_range(most_millis / 5..=most_millis);
    sleep(Duration::from_millis(millis)).await;
}
