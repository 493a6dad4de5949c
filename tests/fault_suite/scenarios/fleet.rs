//! Several instances: moves, late owners, instances that are lost: B2 to B5, B14, B15.
//!
//! Where every partition is handed over in order nothing may be late, and no queue may wait for it.

use std::time::Duration;

use linxo_kafka_bridge::oracle::{Rule, Verdict};
use linxo_kafka_bridge::simulator::Options;
use rand::Rng;

use crate::scenario::{Context, ONE, Scenario, THREE};
use crate::scenarios::bridge::{short_tokens, without_tokens};
use crate::scenarios::kafka::{
    cut_ways, freeze_leaders, kill_group_coordinators, move_all_leaders,
};
use crate::scenarios::transactions::steal;
use crate::support::Decoded;
use crate::support::proxy::Way;
use crate::world::{World, now};

/// The session of these runs.
const SESSION: Duration = Duration::from_secs(3);
/// Longer than it, and shorter than a transaction may stay open.
const PAST_SESSION: Duration = Duration::from_millis(4_300);
/// What a busy machine takes beside it from the end of an instance until its queues are asked.
const TAKE_OVER: Duration = Duration::from_millis(2_500);

/// Settings of an instance in a fleet.
pub(super) const CLASSIC: &[(&str, &str)] = &[("kafka.session_timeout", "\"3s\"")];
/// The same with the protocol of Kafka 4; the session is the broker's, as long.
const CONSUMER: &[(&str, &str)] = &[("kafka.group_protocol", "\"consumer\"")];

pub const ALL: &[Scenario] = &[
    Scenario::new("B3", "three instances restart one by one", THREE, |c| {
        Box::pin(rolling_restart(c, CLASSIC))
    }),
    Scenario::new("B3c", "the same, by the consumer protocol", THREE, |c| {
        Box::pin(rolling_restart(c, CONSUMER))
    }),
    Scenario::new("B4", "one instance becomes three, two, three and one", THREE, |c| {
        Box::pin(out_and_in(c, CLASSIC))
    })
    .fast(),
    Scenario::new("B4c", "the same, by the consumer protocol", THREE, |c| {
        Box::pin(out_and_in(c, CONSUMER))
    }),
    Scenario::new("B4d-", "one instance becomes three, two, three and one", THREE, |c| {
        Box::pin(out_and_in(c, CLASSIC))
    })
    .without("drain", Rule::Late),
    Scenario::new("B2d", "one of three is killed, another frozen", THREE, |c| {
        Box::pin(killed_and_frozen(c, CLASSIC))
    }),
    Scenario::new("B2e", "the same, by the consumer protocol", THREE, |c| {
        Box::pin(killed_and_frozen(c, CONSUMER))
    }),
    Scenario::new("B2f", "an owner is frozen before its records, and wakes up late", ONE, |c| {
        Box::pin(frozen_at(c, "after-begin"))
    }),
    Scenario::new("B2f-", "an owner is frozen before its records, and wakes up late", ONE, |c| {
        Box::pin(frozen_at(c, "after-begin"))
    })
    .without("fence-order", Rule::Sequence),
    Scenario::new("B2g-", "an owner is frozen before its records, and wakes up late", ONE, |c| {
        Box::pin(frozen_at(c, "after-begin"))
    })
    .without("fence", Rule::Sequence),
    Scenario::new("B2h", "an owner is frozen before its commit, and wakes up late", ONE, |c| {
        Box::pin(frozen_at(c, "before-commit"))
    }),
    Scenario::new("B2h-", "an owner is frozen before its commit, and wakes up late", ONE, |c| {
        Box::pin(frozen_at(c, "before-commit"))
    })
    .without("read-to-end", Rule::Sequence),
    Scenario::new("B2i", "one of two is cut off from Kafka past its session", THREE, |c| {
        Box::pin(cut_off(c, SESSION + TAKE_OVER, "10m"))
    }),
    Scenario::new("B2j", "one of two is cut off from Kafka past the grace", THREE, |c| {
        Box::pin(cut_off(c, Duration::from_secs(14), "4s"))
    }),
    Scenario::new(
        "K2d",
        "the coordinator of the group is killed, with three instances",
        THREE,
        |c| Box::pin(async { kill_group_coordinators(unsettled(c).await).await }),
    ),
    Scenario::new("K4b", "leaders move, with three instances", THREE, |c| {
        Box::pin(async { move_all_leaders(three(c, CLASSIC).await).await })
    }),
    Scenario::new("K5d", "the leader of events is frozen, with three instances", THREE, |c| {
        Box::pin(async { freeze_leaders(unsettled(c).await).await })
    }),
    Scenario::new(
        "K6d",
        "the way to each broker is cut in turn, with three instances",
        THREE,
        |c| Box::pin(async { cut_ways(unsettled(c).await).await }),
    ),
    Scenario::new("B5b", "three instances come, go, freeze and die at random", THREE, |c| {
        Box::pin(storm(c))
    }),
    Scenario::new(
        "B9b",
        "the token endpoint is away for 6 and 20 minutes, with three instances",
        THREE,
        |c| Box::pin(async { without_tokens(three_with(c, short_tokens(), CLASSIC).await).await }),
    ),
    Scenario::new(
        "K12b",
        "two of four have one instance_id, and a transactional id is stolen",
        THREE,
        |c| Box::pin(one_id_for_two(c)),
    ),
    Scenario::new("B14", "an instance is lost with its disk", THREE, |c| Box::pin(disk_lost(c))),
    Scenario::new("B14-", "an instance is lost with its disk", THREE, |c| Box::pin(disk_lost(c)))
        .without("absent", Rule::Lost),
    Scenario::new("B14b", "an instance comes back with its journal within the grace", ONE, |c| {
        Box::pin(back_in_time(c))
    }),
    Scenario::new("B15", "three instances start when every queue is near its death", THREE, |c| {
        Box::pin(boot_near_death(c))
    }),
];

/// Instances 0 to 2, events flowing.
async fn three(context: Context, settings: &[(&str, &str)]) -> World {
    three_with(context, Options::default(), settings).await
}

async fn three_with(context: Context, options: Options, settings: &[(&str, &str)]) -> World {
    let mut world = World::with(context, options, settings).await;
    join_two(&mut world).await;
    world
}

/// Instances 1 and 2 beside the first.
async fn join_two(world: &mut World) {
    world.join(1).await;
    world.join(2).await;
    world.shared_out().await;
    world.pause(1).await;
}

/// An instance's end that nobody announced is noticed after its session.
pub(super) fn expect_take_over(world: &mut World) {
    let bound = world.rules.longest_pause;
    world.rules.longest_pause = bound.map(|bound| bound + SESSION + TAKE_OVER);
}

/// Instances that may lose their sessions.
async fn unsettled(context: Context) -> World {
    let mut world = three(context, CLASSIC).await;
    expect_take_over(&mut world);
    world
}

async fn rolling_restart(context: Context, settings: &[(&str, &str)]) -> Verdict {
    let mut world = three(context, settings).await;
    world.rules.is_orderly = true;
    for _ in 0..2 {
        world.stop().await;
        world.start().await;
        world.shared_out().await;
        world.pause(2).await;
        for number in [1, 2] {
            world.leave(number).await;
            world.join(number).await;
            world.shared_out().await;
            world.pause(2).await;
        }
    }
    world.verdict().await
}

/// Static members do not leave: who goes for good is waited for like one that was killed.
async fn out_and_in(context: Context, settings: &[(&str, &str)]) -> Verdict {
    let mut world = three(context, settings).await;
    world.rules.is_orderly = true;
    expect_take_over(&mut world);
    world.pause(1).await;
    world.leave(1).await;
    world.pause_for(SESSION + TAKE_OVER).await;
    world.join(3).await;
    world.shared_out().await;
    world.pause(2).await;
    world.leave(2).await;
    world.leave(3).await;
    world.pause_for(SESSION + TAKE_OVER).await;
    world.verdict().await
}

async fn killed_and_frozen(context: Context, settings: &[(&str, &str)]) -> Verdict {
    let mut world = three(context, settings).await;
    expect_take_over(&mut world);
    world.rules.longest_contest = Some(SESSION + TAKE_OVER);
    world.kill_other(1).await;
    world.pause_for(SESSION + TAKE_OVER).await;
    world.freeze_other(2, SESSION + TAKE_OVER).await;
    world.pause(3).await;
    world.join(1).await;
    world.shared_out().await;
    world.pause(1).await;
    world.freeze(SESSION + TAKE_OVER).await;
    world.pause(3).await;
    world.verdict().await
}

/// Partitions move all the time.
async fn storm(context: Context) -> Verdict {
    let mut world = unsettled(context).await;
    for _ in 0..8 {
        let number = world.random.random_range(1..=2);
        let time = Duration::from_millis(world.random.random_range(300..4_500));
        match world.random.random_range(0..4) {
            0 => {
                world.leave(number).await;
                world.pause_for(time).await;
                world.launch_other(number).await;
            }
            1 => {
                world.kill_other(number).await;
                world.pause_for(time).await;
                world.launch_other(number).await;
            }
            2 => world.freeze_other(number, time).await,
            _ => {
                world.join(3).await;
                world.pause_for(time).await;
                world.leave(3).await;
            }
        }
        world.pause_for(time / 2).await;
    }
    world.verdict().await
}

/// The two throw each other out of the group until one is gone; each partition has one owner at any time.
async fn one_id_for_two(context: Context) -> Verdict {
    let mut world = World::new(context, CLASSIC).await;
    let id = world.transactional_id().await;
    join_two(&mut world).await;
    expect_take_over(&mut world);
    world.launch_as(3, "bridge-1").await;
    world.pause(8).await;
    world.leave(3).await;
    world.pause(1).await;
    steal(&world, &id).await;
    world.verdict().await
}

/// It has a transaction open meanwhile, and another one has taken over when it wakes up.
async fn frozen_at(context: Context, point: &str) -> Verdict {
    let off = context.sabotage.clone();
    let mut world = World::new(context, CLASSIC).await;
    expect_take_over(&mut world);
    for _ in 0..3 {
        let passings = 20 + world.users().len();
        let orders = format!("{off},freeze:{point}:{passings}");
        world.stage.sabotage(orders.trim_start_matches(','));
        world.launch_other(1).await;
        world.stage.sabotage(&off);
        world.other_is_frozen(1).await;
        world.pause_for(PAST_SESSION).await;
        world.other(1).resume().await;
        world.pause(2).await;
        world.leave(1).await;
        world.pause_for(SESSION).await;
    }
    world.verdict().await
}

/// It goes on asking, as it cannot know who does; what it receives is published late.
async fn cut_off(context: Context, time: Duration, grace: &str) -> Verdict {
    let grace = format!("{grace:?}");
    let settings = [CLASSIC, &[("journal.grace", &grace)]].concat();
    let mut world = World::new(context, &settings).await;
    expect_take_over(&mut world);
    world.join_aside(1).await;
    world.shared_out().await;
    world.pause(1).await;
    let from = now();
    world.set_side(Way::Cut);
    world.pause_for(time).await;
    world.set_side(Way::Open);
    world.excuse("another one was cut off past the grace", from, world.users().len() as u64);
    world.pause(3).await;
    world.verdict().await
}

/// With answers on it that are not published.
async fn disk_lost(context: Context) -> Verdict {
    let is_told_of = context.sabotage.is_empty();
    let settings = [CLASSIC, &[("journal.grace", "\"6s\"")]].concat();
    let mut world = three(context, &settings).await;
    expect_take_over(&mut world);
    world.kafka.pause();
    world.pause(2).await;
    world.destroy_other(2).await;
    world.kafka.resume();
    let is_told = |gap: &Decoded| gap.text("cause") == "INSTANCE_LOST";
    if is_told_of {
        world.stage.until("linxo.gaps", |gaps| gaps.iter().any(is_told)).await;
    } else {
        world.pause(10).await;
    }
    world.pause(4).await;
    world.verdict().await
}

/// What it held is published late, and nobody is told of a loss.
async fn back_in_time(context: Context) -> Verdict {
    let mut world = World::new(context, CLASSIC).await;
    expect_take_over(&mut world);
    world.join(1).await;
    world.shared_out().await;
    world.pause(1).await;
    world.kafka.pause();
    world.pause(2).await;
    world.kill_other(1).await;
    world.kafka.resume();
    world.pause_for(SESSION + TAKE_OVER).await;
    world.pause(3).await;
    world.join(1).await;
    let gaps = world.stage.read("linxo.gaps").await;
    let told: Vec<_> = gaps.iter().filter(|gap| gap.text("cause") == "INSTANCE_LOST").collect();
    assert!(told.is_empty(), "nothing was lost, and a gap says so: {told:?}");
    world.verdict().await
}

/// All gone for two thirds of a life, then all back at once.
async fn boot_near_death(context: Context) -> Verdict {
    let mut world = three(context, CLASSIC).await;
    for number in [1, 2] {
        world.kill_other(number).await;
    }
    world.kill().await;
    tokio::time::sleep(world.life / 2).await;
    world.launch().await;
    world.join_all(&[1, 2]).await;
    world.ready().await;
    world.pause(2).await;
    world.verdict().await
}
