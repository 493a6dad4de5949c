//! Transactions that nobody can finish, or nobody knows the end of: K11 to K15.

use std::time::Duration;

use linxo_kafka_bridge::oracle::{Rule, Verdict};
use rdkafka::producer::{BaseProducer, Producer};
use tokio::time::{Instant, sleep};

use crate::scenario::{AUTHORIZED, Context, ONE, Scenario, THREE};
use crate::support::PATIENCE;
use crate::support::java::{Resource, restore, revoke};
use crate::support::proxy::{END_TXN, Way};
use crate::world::World;

pub const ALL: &[Scenario] = &[
    Scenario::new("K11", "the producer fails for good", AUTHORIZED, |c| Box::pin(fatal(c))),
    Scenario::new("K12", "the transactional id is stolen", ONE, |c| Box::pin(stolen(c))).fast(),
    Scenario::new("K13", "commits whose outcome is not known", ONE, |c| Box::pin(unknown(c))),
    Scenario::new("K13-", "commits whose outcome is not known", ONE, |c| Box::pin(unknown(c)))
        .without("position", Rule::Twice),
    Scenario::new("K13b", "all brokers die as one has answered a commit", THREE, |c| {
        Box::pin(killed_at_commit(c))
    }),
    Scenario::new("K14", "the bridge is frozen until its transaction has run out", ONE, |c| {
        Box::pin(frozen(c))
    })
    .fast(),
    Scenario::new("K15", "a predecessor's transaction is open at the take-over", ONE, |c| {
        Box::pin(left_open(c))
    }),
];

/// Without the right to its transactional id a producer is of no more use.
async fn fatal(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    revoke(world.kafka.bootstrap_servers(), Resource::TransactionalId(&id)).await;
    world.pause(6).await;
    restore(world.kafka.bootstrap_servers(), Resource::TransactionalId(&id)).await;
    world.pause(2).await;
    world.verdict().await
}

async fn stolen(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    steal(&world, &id).await;
    world.verdict().await
}

/// Takes a transactional id of the first instance away from it, three times.
pub(super) async fn steal(world: &World, id: &str) {
    for _ in 0..3 {
        // who is fenced while it makes a new producer has lost no transaction by it
        until_publishing(world).await;
        let before = not_committed(world).await;
        let mut config = world.kafka.client();
        config.set("transactional.id", id);
        let thief = move || {
            let producer: BaseProducer = config.create().unwrap();
            producer.init_transactions(PATIENCE).unwrap();
        };
        tokio::task::spawn_blocking(thief).await.unwrap();
        until_more(world, before).await;
        world.pause(1).await;
    }
}

/// The broker commits and its word is lost, until the bridge gives up hope of it.
async fn unknown(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let proxy = world.kafka.broker(1).proxy();
    for _ in 0..2 {
        let before = not_committed(&world).await;
        proxy.set(Way::Deaf(END_TXN));
        until_more(&world, before).await;
        proxy.set(Way::Open);
        world.pause(3).await;
    }
    world.verdict().await
}

/// It has said yes, and has perhaps not yet written so to every partition.
async fn killed_at_commit(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let id = world.transactional_id().await;
    for _ in 0..3 {
        let proxy = world.kafka.transaction_coordinator(&id).await.proxy();
        proxy.set(Way::Watched(END_TXN));
        proxy.answered().await;
        world.kafka.stop();
        proxy.set(Way::Open);
        world.kafka.restart().await;
        world.bridge().ready().await;
        world.pause(2).await;
    }
    world.verdict().await
}

/// The session (6 s) outlives it: what is tried is the transaction, not the group.
async fn frozen(context: Context) -> Verdict {
    let short = [("kafka.producer", "{ \"transaction.timeout.ms\" = \"2000\" }")];
    let mut world = World::new(context, &short).await;
    for _ in 0..3 {
        // somewhere in a transaction, now here, now there
        let moment = rand::Rng::random_range(&mut world.random, 0..40);
        sleep(Duration::from_millis(moment)).await;
        world.freeze(Duration::from_secs(4)).await;
        world.pause(2).await;
    }
    world.verdict().await
}

async fn left_open(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    for crash in ["crash:after-produce:10", "crash:before-commit:10", "crash:after-commit:10"] {
        world.stop().await;
        world.stage.sabotage(crash);
        world.start().await;
        world.crashed().await;
        world.stage.sabotage("");
        world.start().await;
        world.pause(1).await;
    }
    world.verdict().await
}

/// How many transactions did not end in a commit that is known.
async fn not_committed(world: &World) -> f64 {
    let mut all = 0.0;
    for outcome in ["aborted", "fenced", "unknown"] {
        let name = format!("linxo_bridge_transactions_total{{outcome=\"{outcome}\"}}");
        all += world.bridge().metric(&name).await;
    }
    all
}

/// Waits until transactions are committed.
async fn until_publishing(world: &World) {
    let committed = "linxo_bridge_transactions_total{outcome=\"committed\"}";
    let before = world.bridge().metric(committed).await;
    let deadline = Instant::now() + PATIENCE;
    while world.bridge().metric(committed).await < before + 3.0 {
        assert!(Instant::now() < deadline, "nothing is published:\n{}", world.bridge().log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until there are more of them.
async fn until_more(world: &World, before: f64) {
    let deadline = Instant::now() + PATIENCE;
    while not_committed(world).await <= before {
        assert!(Instant::now() < deadline, "every commit is known:\n{}", world.bridge().log());
        sleep(Duration::from_millis(50)).await;
    }
}
