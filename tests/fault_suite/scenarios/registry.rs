//! The Schema Registry while events flow: R1 to R3. What it refuses or has forgotten is in tests/schema_registry.rs.

use std::time::Duration;

use linxo_kafka_bridge::oracle::Verdict;

use crate::scenario::{Context, ONE, Scenario};
use crate::support::Registry;
use crate::support::proxy::{Proxy, Way};
use crate::world::World;

pub const ALL: &[Scenario] = &[
    Scenario::new("R1b", "the registry is away when the bridge comes back from a kill", ONE, |c| {
        Box::pin(away_at_restart(c))
    }),
    Scenario::new("R3", "the registry is slow, then says nothing", ONE, |c| Box::pin(slow(c))),
];

/// With a registry behind a proxy; users subscribed, events flowing.
async fn world(context: Context, registry: &Registry) -> (World, Proxy) {
    let proxy = Proxy::before(registry.port());
    let url = registry.url().replace(&registry.port().to_string(), &proxy.port().to_string());
    let mut world = World::bare(context, &[("schema_registry.url", &format!("{url:?}"))]).await;
    assert!(world.stage.run(&["topics", "create"]).await.status.success());
    world.start().await;
    world.subscribe().await;
    world.flow();
    world.pause(1).await;
    (world, proxy)
}

async fn away_at_restart(context: Context) -> Verdict {
    let registry = Registry::shared().await;
    let (mut world, proxy) = world(context, registry).await;
    proxy.set(Way::Cut);
    // what is known needs no registry
    world.pause(3).await;
    world.kill().await;
    world.launch().await;
    world.pause(2).await;
    proxy.set(Way::Open);
    world.bridge().ready().await;
    world.pause(2).await;
    world.verdict().await
}

async fn slow(context: Context) -> Verdict {
    let registry = Registry::shared().await;
    let (mut world, proxy) = world(context, registry).await;
    proxy.set(Way::Slow(Duration::from_millis(200)));
    world.stop().await;
    world.start().await;
    world.pause(2).await;
    world.stop().await;
    proxy.set(Way::BlackHole);
    world.launch().await;
    world.pause(2).await;
    proxy.set(Way::Open);
    world.bridge().ready().await;
    world.pause(2).await;
    world.verdict().await
}
