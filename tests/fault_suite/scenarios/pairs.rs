//! Faults in random pairs: one begins, another joins it, one ends, then the other; about a quarter of the time is free
//! of faults. What follows from the seed is written down before it happens.

use std::time::Duration;

use linxo_kafka_bridge::oracle::Verdict;
use rand::Rng;
use tokio::time::sleep;

use crate::faults::{FAULTS, FAULTS_OF_ANOTHER, Fault, OTHER};
use crate::scenario::{Context, Scenario, THREE};
use crate::scenarios::fleet;
use crate::world::World;

const RANDOM: Scenario = {
    let mut scenario =
        Scenario::new(super::PAIRS, "random pairs of faults", THREE, |c| Box::pin(random_pairs(c)));
    scenario.limit = Duration::from_secs(600);
    scenario
};

const RANDOM_OF_THREE: Scenario = {
    let name = "random pairs of faults, with three instances";
    let mut scenario =
        Scenario::new(super::PAIRS_OF_THREE, name, THREE, |c| Box::pin(random_pairs_of_three(c)));
    scenario.limit = Duration::from_secs(600);
    scenario
};

pub const ALL: &[Scenario] = &[RANDOM, RANDOM_OF_THREE];

async fn random_pairs(context: Context) -> Verdict {
    let pairs = context.pairs;
    let world = World::new(context, &[]).await;
    afflict(world, pairs, &FAULTS.iter().collect::<Vec<&Fault>>()).await
}

/// What happens to another instance is drawn as often as all else.
async fn random_pairs_of_three(context: Context) -> Verdict {
    let pairs = context.pairs;
    let mut world = World::new(context, fleet::CLASSIC).await;
    fleet::expect_take_over(&mut world);
    world.join_aside(OTHER).await;
    world.join(2).await;
    world.shared_out().await;
    let of_others = FAULTS_OF_ANOTHER.iter().cycle().take(FAULTS.len());
    afflict(world, pairs, &FAULTS.iter().chain(of_others).collect::<Vec<&Fault>>()).await
}

async fn afflict(mut world: World, pairs: usize, faults: &[&'static Fault]) -> Verdict {
    for number in 1..=pairs {
        let (first, second) = pair(&mut world, faults);
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
fn pair(world: &mut World, faults: &[&'static Fault]) -> (&'static Fault, &'static Fault) {
    let first = faults[world.random.random_range(0..faults.len())];
    loop {
        let second = faults[world.random.random_range(0..faults.len())];
        if second.lane != first.lane {
            return (first, second);
        }
    }
}

async fn some_time(world: &mut World, most_millis: u64) {
    let millis = world.random.random_range(most_millis / 5..=most_millis);
    sleep(Duration::from_millis(millis)).await;
}
