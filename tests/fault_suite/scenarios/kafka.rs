//! Brokers that stop, die, freeze, move, are far away or full: K1 to K9. No queue may die of any of it, so no gap is
//! excused.

use std::time::Duration;

use linxo_kafka_bridge::oracle::Verdict;
use linxo_kafka_bridge::simulator::{Status, Sync};

use crate::scenario::{AUTHORIZED, Context, Needs, ONE, Scenario, THREE};
use crate::support::java::{Resource, move_leaders, restore, revoke};
use crate::support::proxy::Way;
use crate::world::World;

const OWN_THREE: Needs = Needs { is_own: true, ..THREE };

/// Longer than `transaction.timeout.ms` of the suite and the broker's look for what ran out.
const PAST_TRANSACTION: Duration = Duration::from_secs(8);

pub const ALL: &[Scenario] = &[
    Scenario::new("K1", "brokers restart one by one", THREE, |c| Box::pin(rolling_restart(c))),
    Scenario::new("K2", "a broker is killed", THREE, |c| Box::pin(one_killed(c))).fast(),
    Scenario::new("K2b", "a broker is killed, for longer than a transaction", THREE, |c| {
        Box::pin(one_killed_for_long(c))
    }),
    Scenario::new("K2c", "the coordinator of the group is killed", THREE, |c| {
        Box::pin(group_coordinator_killed(c))
    }),
    Scenario::new("K3", "all brokers are away for 1, 6 and 20 minutes", THREE, |c| {
        Box::pin(all_away(c))
    })
    .long(),
    Scenario::new("K3b", "the only broker is away for 1, 6 and 20 minutes", ONE, |c| {
        Box::pin(all_away(c))
    }),
    Scenario::new("K3c", "all brokers are away for an hour", THREE, |c| Box::pin(an_hour(c))),
    Scenario::new("K4", "leaders move", THREE, |c| Box::pin(leaders_move(c))),
    Scenario::new("K5", "the leader of events is frozen", THREE, |c| Box::pin(leader_frozen(c))),
    Scenario::new("K5b", "the coordinator of transactions is frozen", THREE, |c| {
        Box::pin(coordinator_frozen(c))
    }),
    Scenario::new("K5c", "the only broker is frozen", ONE, |c| Box::pin(only_one_frozen(c))).fast(),
    Scenario::new("K6", "the way to each broker is cut in turn", THREE, |c| Box::pin(ways_cut(c))),
    Scenario::new("K6b", "the coordinator of transactions does not answer", THREE, |c| {
        Box::pin(coordinator_silent(c))
    }),
    Scenario::new("K6c", "the coordinator of the group is cut off", THREE, |c| {
        Box::pin(group_cut(c))
    }),
    Scenario::new("K7", "brokers are slow, then throttled", THREE, |c| Box::pin(slow(c))),
    Scenario::new("K8", "the disks of two brokers are full", OWN_THREE, |c| Box::pin(full(c))),
    Scenario::new("K9", "a topic is deleted and made again", ONE, |c| Box::pin(topic_gone(c))),
    Scenario::new("K9b", "the right to write events is revoked", AUTHORIZED, |c| {
        Box::pin(revoked(c))
    }),
];

async fn rolling_restart(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for broker in world.kafka.brokers() {
        broker.stop_gracefully().await;
        world.pause(1).await;
        broker.restart().await;
        world.pause(2).await;
    }
    world.verdict().await
}

async fn one_killed(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    let coordinator = world.kafka.transaction_coordinator(&id).await.id();
    for broker in [coordinator, world.any_broker()] {
        world.kafka.broker(broker).stop();
        world.pause(2).await;
        world.kafka.broker(broker).restart().await;
        world.pause(2).await;
    }
    world.verdict().await
}

async fn one_killed_for_long(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for broker in world.kafka.brokers() {
        broker.stop();
        world.pause_for(PAST_TRANSACTION).await;
        broker.restart().await;
        world.pause(1).await;
    }
    world.verdict().await
}

/// Long enough for the cluster to be known without it: the client then forgets it, and has to learn who came after.
async fn group_coordinator_killed(context: Context) -> Verdict {
    kill_group_coordinators(World::new(context, &[]).await).await
}

pub(super) async fn kill_group_coordinators(world: World) -> Verdict {
    for _ in 0..3 {
        let broker = world.kafka.group_coordinator(&world.group()).await;
        broker.stop();
        world.pause(4).await;
        broker.restart().await;
        world.pause(4).await;
    }
    world.verdict().await
}

/// Dead, then dead again once all goes on; the last time past the death of every queue that nobody asks.
async fn all_away(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for minutes in [1, 6, 20] {
        world.kafka.stop();
        world.pause(minutes).await;
        world.kafka.restart().await;
        world.bridge().ready().await;
        world.pause(2).await;
    }
    world.verdict().await
}

async fn an_hour(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    world.kafka.stop();
    world.pause(60).await;
    world.kafka.restart().await;
    world.verdict().await
}

async fn leaders_move(context: Context) -> Verdict {
    move_all_leaders(World::new(context, &[]).await).await
}

pub(super) async fn move_all_leaders(world: World) -> Verdict {
    let topics = world.topics();
    for _ in 0..3 {
        move_leaders(world.kafka.bootstrap_servers(), &topics).await;
        world.pause(2).await;
    }
    let coordinators = ["__transaction_state".to_owned(), "__consumer_offsets".to_owned()];
    move_leaders(world.kafka.bootstrap_servers(), &coordinators).await;
    world.pause(2).await;
    world.verdict().await
}

async fn leader_frozen(context: Context) -> Verdict {
    freeze_leaders(World::new(context, &[]).await).await
}

pub(super) async fn freeze_leaders(world: World) -> Verdict {
    for time in [Duration::from_secs(4), PAST_TRANSACTION] {
        let leaders = world.kafka.leaders(&world.stage.topic("linxo.events")).await;
        let broker = world.kafka.broker(leaders[0].1);
        broker.pause();
        world.pause_for(time).await;
        broker.resume();
        world.pause(3).await;
    }
    world.verdict().await
}

async fn coordinator_frozen(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    for time in [Duration::from_secs(1), PAST_TRANSACTION] {
        let broker = world.kafka.transaction_coordinator(&id).await;
        broker.pause();
        world.pause_for(time).await;
        broker.resume();
        world.pause(3).await;
    }
    world.verdict().await
}

async fn only_one_frozen(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    world.kafka.pause();
    world.pause_for(PAST_TRANSACTION).await;
    world.kafka.resume();
    world.pause(2).await;
    world.verdict().await
}

async fn ways_cut(context: Context) -> Verdict {
    cut_ways(World::new(context, &[]).await).await
}

pub(super) async fn cut_ways(world: World) -> Verdict {
    for broker in world.kafka.brokers() {
        broker.proxy().set(Way::Cut);
        world.pause(4).await;
        broker.proxy().set(Way::Open);
        world.pause(2).await;
    }
    world.verdict().await
}

async fn coordinator_silent(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    let coordinator = world.kafka.transaction_coordinator(&id).await;
    for way in [Way::BlackHole, Way::Cut] {
        coordinator.proxy().set(way);
        world.pause_for(PAST_TRANSACTION).await;
        coordinator.proxy().set(Way::Open);
        world.pause(3).await;
    }
    world.verdict().await
}

async fn group_cut(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let coordinator = world.kafka.group_coordinator(&world.group()).await;
    // past the session: the group forgets us, and takes us back
    for seconds in [3, 9] {
        coordinator.proxy().set(Way::Cut);
        world.pause(seconds).await;
        coordinator.proxy().set(Way::Open);
        world.pause(3).await;
    }
    world.verdict().await
}

async fn slow(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for way in [Way::Slow(Duration::from_millis(150)), Way::Throttled(10_000)] {
        for broker in world.kafka.brokers() {
            broker.proxy().set(way);
        }
        world.pause(8).await;
        for broker in world.kafka.brokers() {
            broker.proxy().set(Way::Open);
        }
        world.pause(2).await;
    }
    world.verdict().await
}

/// One full disk ends its broker; the second one leaves too few copies to write to.
async fn full(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for broker in &world.kafka.brokers()[..2] {
        broker.fill_disk();
        world.pause(4).await;
        assert!(broker.has_ended(), "a broker that cannot write ends:\n{}", broker.log());
    }
    world.pause(4).await;
    for broker in &world.kafka.brokers()[..2] {
        broker.restart().await;
        world.pause(1).await;
    }
    world.verdict().await
}

/// What was in the topic would be gone with it, so nothing is yet.
async fn topic_gone(context: Context) -> Verdict {
    let mut world = World::quiet(context, &[]).await;
    world.kafka.delete_topic(&world.stage.topic("linxo.events")).await;
    let sync = Sync::ending(Status::AuthFailed);
    for user in world.users() {
        world.stage.simulator.start_sync(&user, &sync).unwrap();
    }
    world.pause(4).await;
    world.flow();
    world.pause(2).await;
    assert!(world.stage.run(&["topics", "create"]).await.status.success());
    world.pause(3).await;
    world.verdict().await
}

async fn revoked(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let topic = world.stage.topic("linxo.events");
    revoke(world.kafka.bootstrap_servers(), Resource::Topic(&topic)).await;
    world.pause(5).await;
    restore(world.kafka.bootstrap_servers(), Resource::Topic(&topic)).await;
    world.pause(2).await;
    world.verdict().await
}
