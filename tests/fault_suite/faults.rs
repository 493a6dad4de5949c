//! Faults that can be begun and ended, whatever else goes on: what random pairs are drawn from.

use std::time::Duration;

use futures_util::future::BoxFuture;
use linxo_kafka_bridge::simulator::{Expiry, Fault as SourceFault, Order, RequestKind};
use rand::Rng;

use crate::support::proxy::Way;
use crate::world::World;

/// Begins or ends a fault; the number is the broker that it is about.
type Act = for<'w> fn(&'w mut World, usize) -> BoxFuture<'w, ()>;

/// What a fault acts on. Two of a pair act on different things.
#[derive(Clone, Copy, PartialEq)]
pub enum Lane {
    /// The process of a broker.
    Broker,
    /// The way to a broker.
    Network,
    /// The process of the bridge.
    Bridge,
    /// The process of another instance, or its way to Kafka.
    Other,
    /// The source's answers.
    Source,
}

/// A fault that can be begun and ended.
pub struct Fault {
    pub name: &'static str,
    pub lane: Lane,
    pub begin: Act,
    pub end: Act,
}

const fn fault(name: &'static str, lane: Lane, begin: Act, end: Act) -> Fault {
    Fault { name, lane, begin, end }
}

/// Every one of them.
pub const FAULTS: &[Fault] = &[
    fault("a broker is killed", Lane::Broker, kill_broker, restart_broker),
    fault("a broker stops", Lane::Broker, stop_broker, restart_broker),
    fault("a broker is frozen", Lane::Broker, freeze_broker, thaw_broker),
    fault("the way to a broker is cut", Lane::Network, cut, open),
    fault("a broker does not answer", Lane::Network, black_hole, open),
    fault("a broker is slow", Lane::Network, slow, open),
    fault("a broker is throttled", Lane::Network, throttle, open),
    fault("the bridge is killed", Lane::Bridge, kill_bridge, start_bridge),
    fault("the bridge is frozen", Lane::Bridge, freeze_bridge, thaw_bridge),
    fault("the source answers 5xx", Lane::Source, server_errors, heal_source),
    fault("the source answers 429", Lane::Source, throttled, heal_source),
    fault("the source answers 401", Lane::Source, unauthorized, heal_source),
    fault("the source drips", Lane::Source, dripping, heal_source),
    fault("the bridge crashes at some step", Lane::Bridge, crash_bridge, mend_bridge),
    fault("the source resets connections", Lane::Source, resetting, heal_source),
    fault("the source does not answer", Lane::Source, vanishing, heal_source),
    fault("the source is not reached", Lane::Source, unreachable, heal_source),
    fault("queues die", Lane::Source, expire, heal_source),
];

/// Those of another instance, number [`OTHER`], where there are several.
pub const FAULTS_OF_ANOTHER: &[Fault] = &[
    fault("another instance is killed", Lane::Other, kill_other, launch_other),
    fault("another instance leaves", Lane::Other, leave_other, launch_other),
    fault("another instance is frozen", Lane::Other, freeze_other, thaw_other),
    fault("another instance is cut off", Lane::Other, cut_other, reach_other),
];

/// The instance that those are about; it reaches Kafka by a way of its own.
pub const OTHER: usize = 1;

/// Where the bridge can be told to crash, in the order in which an answer passes them.
pub const CRASH_POINTS: [&str; 6] =
    ["after-get", "before-sync", "after-sync", "after-produce", "before-commit", "after-commit"];

fn kill_broker(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).stop() })
}

fn stop_broker(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).stop_gracefully().await })
}

fn restart_broker(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).restart().await })
}

fn freeze_broker(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).pause() })
}

fn thaw_broker(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).resume() })
}

fn set_way(world: &mut World, broker: usize, way: Way) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.kafka.broker(broker).proxy().set(way) })
}

fn cut(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    set_way(world, broker, Way::Cut)
}

fn black_hole(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    set_way(world, broker, Way::BlackHole)
}

fn slow(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    set_way(world, broker, Way::Slow(Duration::from_millis(100)))
}

fn throttle(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    set_way(world, broker, Way::Throttled(20_000))
}

fn open(world: &mut World, broker: usize) -> BoxFuture<'_, ()> {
    set_way(world, broker, Way::Open)
}

fn kill_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.kill())
}

/// It need not become ready: another fault may stand in its way.
fn start_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.launch())
}

fn freeze_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.stun())
}

fn thaw_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.revive())
}

fn kill_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.kill_other(OTHER))
}

fn leave_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.leave(OTHER))
}

/// It need not become ready: another fault may stand in its way.
fn launch_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.launch_aside(OTHER))
}

fn freeze_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(world.stun_other(OTHER))
}

fn thaw_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.other(OTHER).resume().await })
}

fn cut_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.set_side(Way::Cut) })
}

fn reach_other(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.set_side(Way::Open) })
}

/// With another fault beside it, it may not come to its step.
fn crash_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        let point = CRASH_POINTS[world.random.random_range(0..CRASH_POINTS.len())];
        let passings = world.random.random_range(3..40);
        world.kill().await;
        world.stage.sabotage(&format!("crash:{point}:{passings}"));
        world.launch().await;
    })
}

fn mend_bridge(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        world.kill().await;
        world.stage.sabotage("");
        world.launch().await;
    })
}

fn inflict(world: &mut World, fault: SourceFault) -> BoxFuture<'_, ()> {
    inflict_on(world, 0.5, fault)
}

fn inflict_on(world: &mut World, share: f64, fault: SourceFault) -> BoxFuture<'_, ()> {
    let order = Order::share(share, fault).on(RequestKind::Ask);
    Box::pin(async move { world.stage.simulator.inflict(order).unwrap() })
}

fn server_errors(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict(world, SourceFault::ServerError { status: 503 })
}

fn throttled(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict(world, SourceFault::Throttle { retry_after: Some(1) })
}

fn unauthorized(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict(world, SourceFault::Unauthorized)
}

fn dripping(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict(world, SourceFault::Slow { over_ms: 500 })
}

fn resetting(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict_on(world, 0.2, SourceFault::Reset)
}

fn vanishing(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    inflict_on(world, 0.1, SourceFault::Vanish)
}

/// Until healed, or for less than a queue's life.
fn unreachable(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.stage.simulator.unreachable(world.life / 2) })
}

fn expire(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    let half = Expiry { share: 0.5, users: None };
    Box::pin(async move { assert!(world.stage.simulator.expire(&half).is_ok()) })
}

fn heal_source(world: &mut World, _: usize) -> BoxFuture<'_, ()> {
    Box::pin(async move { world.stage.simulator.heal() })
}
