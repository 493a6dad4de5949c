//! A source that refuses, stalls, breaks off, repeats and forgets: L1 to L16.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use linxo_kafka_bridge::oracle::{Rule, Verdict};
use linxo_kafka_bridge::simulator::RequestKind::{Ask, Connections, Subscribe, Token};
use linxo_kafka_bridge::simulator::{
    ConnectionPlan, Delivery, EventIds, Expiry, Fault, LocationForm, Options, Order, Revocation,
};

use crate::scenario::{Context, ONE, Scenario};
use crate::world::World;

pub const ALL: &[Scenario] = &[
    Scenario::new("L1", "nothing happens for three lives of a queue", ONE, |c| Box::pin(quiet(c)))
        .long(),
    Scenario::new("L2", "tokens are refused, revoked and not to be had", ONE, |c| {
        Box::pin(refused(c))
    }),
    Scenario::new("L2b", "tokens are refused for longer than queues live", ONE, |c| {
        Box::pin(refused_for_long(c))
    })
    .long(),
    Scenario::new("L2c", "a user is refused until the queue is dead, over restarts", ONE, |c| {
        Box::pin(refused_over_restarts(c))
    }),
    Scenario::new("L2c-", "a user is refused until the queue is dead, over restarts", ONE, |c| {
        Box::pin(refused_over_restarts(c))
    })
    .without("suspicion", Rule::Lost),
    Scenario::new("L3", "users are forbidden", ONE, |c| Box::pin(forbidden(c))),
    Scenario::new("L4", "queues die", ONE, |c| Box::pin(queues_die(c, 404))),
    Scenario::new("L4b", "queues die and are called gone", ONE, |c| Box::pin(queues_die(c, 410))),
    Scenario::new("L4-", "queues die", ONE, |c| Box::pin(queues_die(c, 404)))
        .without("reconciliation", Rule::Reconciliation),
    Scenario::new(
        "L5",
        "the source throttles, for a while, for an hour, for it does not say how \
         long, what exceeds a rate",
        ONE,
        |c| Box::pin(throttled(c)),
    ),
    Scenario::new("L6", "storms of 5xx", ONE, |c| Box::pin(server_errors(c))),
    Scenario::new("L7", "bodies are slow, hang, break off, are too large", ONE, |c| {
        Box::pin(bodies(c))
    }),
    Scenario::new("L8", "connections are reset after the events were removed", ONE, |c| {
        Box::pin(heads_lost(c, EventIds::Consecutive))
    })
    .fast(),
    Scenario::new("L8b", "the same with ids that only rise", ONE, |c| {
        Box::pin(heads_lost(c, EventIds::Rising))
    }),
    Scenario::new("L8c", "the same with ids that say nothing", ONE, |c| {
        Box::pin(heads_lost(c, EventIds::Opaque))
    }),
    Scenario::new("L8-", "the same with ids that say nothing", ONE, |c| {
        Box::pin(heads_lost(c, EventIds::Opaque))
    })
    .without("suspicion", Rule::Lost),
    Scenario::new("L9", "events are handed out twice", ONE, |c| Box::pin(twice(c))),
    Scenario::new("L9b", "events stay until they arrived, and the bridge restarts", ONE, |c| {
        Box::pin(repeated(c))
    }),
    Scenario::new("L9-", "events stay until they arrived, and the bridge restarts", ONE, |c| {
        Box::pin(repeated(c))
    })
    .without("repeats", Rule::Twice),
    Scenario::new(
        "L10",
        "events are out of order, of unknown types, without some field",
        ONE,
        |c| Box::pin(odd_events(c)),
    ),
    Scenario::new("L11", "bodies are no JSON", ONE, |c| Box::pin(no_json(c))),
    Scenario::new("L12", "new queues are told in every form, and not at all", ONE, |c| {
        Box::pin(locations(c))
    }),
    Scenario::new(
        "L13",
        "every queue of 300 users dies at once, and subscribing is a storm",
        ONE,
        |c| Box::pin(mass_expiry(c)),
    ),
    Scenario::new("L14", "the source is not reached for 3 and 20 minutes", ONE, |c| {
        Box::pin(unreachable(c))
    }),
    Scenario::new("L14b", "the source's name and its TLS do not work", ONE, |c| {
        Box::pin(no_name_no_tls(c))
    }),
    Scenario::new("L15", "200 with an empty list while events wait", ONE, |c| {
        Box::pin(empty_lists(c))
    }),
    Scenario::new("L16", "the source's clock is a day behind", ONE, |c| {
        Box::pin(skewed(c, -86_400_000))
    }),
    Scenario::new("L16b", "the source's clock is a day ahead", ONE, |c| {
        Box::pin(skewed(c, 86_400_000))
    }),
];

/// No queue may die, no gap may be told, and each is asked in time.
async fn quiet(context: Context) -> Verdict {
    let mut world = World::quiet(context, &[]).await;
    world.pause(45).await;
    world.flow();
    world.pause(1).await;
    world.verdict().await
}

/// Tokens run out all the time.
fn short_tokens() -> Options {
    Options { token_lifetime: Duration::from_secs(4), ..Options::default() }
}

async fn refused(context: Context) -> Verdict {
    let world = World::with(context, short_tokens(), &[]).await;
    world.afflict(Order::always(Fault::Unauthorized).on(Ask), 3).await;
    world.pause(2).await;
    world.afflict(Order::share(0.2, Fault::RevokeToken).on(Ask), 3).await;
    // the token in use dies, and no other is given
    world.stage.simulator.revoke(&Revocation::Clients);
    world.afflict(Order::always(Fault::Unauthorized).on(Token), 3).await;
    world.pause(2).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "a refusal loses nothing");
    verdict
}

/// Every queue dies, and each says why.
async fn refused_for_long(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    world.afflict(Order::always(Fault::Unauthorized), 20).await;
    world.pause(3).await;
    // without a token nobody is asked
    world.rules.longest_pause = None;
    let (users, verdict) = (world.users().len(), world.verdict().await);
    assert!(verdict.counts.certain >= users, "every queue dies of it: {:?}", verdict.counts);
    verdict
}

/// Who comes back knows since when the user was not answered, though everybody else was.
async fn refused_over_restarts(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    let user = world.users()[0].clone();
    world.stage.simulator.inflict(Order::always(Fault::Unauthorized).of(&user)).unwrap();
    for minutes in [6, 5, 5] {
        world.pause(minutes).await;
        world.stop().await;
        world.start().await;
    }
    world.pause(4).await;
    world.stage.simulator.heal();
    world.pause(6).await;
    // the user is not asked
    world.rules.longest_pause = None;
    let verdict = world.verdict().await;
    assert!(verdict.counts.deaths > 0, "the queue dies of it: {:?}", verdict.counts);
    verdict
}

async fn forbidden(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let users = world.users();
    let order = |user: &str| Order::always(Fault::Forbidden).of(user);
    // one for good, the others now and then
    world.stage.simulator.inflict(order(&users[0])).unwrap();
    world.stage.simulator.inflict(Order::share(0.3, Fault::Forbidden)).unwrap();
    world.pause(5).await;
    world.stage.simulator.heal();
    world.afflict(order(&users[0]), 20).await;
    world.pause(2).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 1, "of the one whose queue died");
    verdict
}

async fn queues_die(context: Context, dead_status: u16) -> Verdict {
    let world = World::with(context, Options { dead_status, ..Options::default() }, &[]).await;
    world.afflict(Order::next(6, Fault::KillQueue), 3).await;
    world.afflict(Order::next(6, Fault::KillQueue).with_events(), 3).await;
    // while the listing that is to follow does not work
    let users = world.users();
    for fault in [Fault::ServerError { status: 502 }, Fault::Html, Fault::EmptyList] {
        world.stage.simulator.inflict(Order::next(8, fault).on(Connections)).unwrap();
    }
    for user in &users[..4] {
        world.stage.simulator.kill_queues_of(user);
    }
    world.pause(4).await;
    world.verdict().await
}

async fn throttled(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    // a Retry-After is heeded until a third of the queue's life is left
    world.rules.longest_pause = { world.rules.longest_pause }.map(|bound| bound + world.life / 3);
    for retry_after in [None, Some(2), Some(3_600)] {
        let order = Order::share(0.7, Fault::Throttle { retry_after });
        world.afflict(order, 4).await;
        world.pause(1).await;
    }
    // who was told to wait an hour is asked when it is in danger, and has to find the source well then
    tokio::time::sleep(world.life * 3 / 4).await;
    let order = Order::always(Fault::Throttle { retry_after: None });
    world.afflict(order, 5).await;
    world.pause(2).await;
    world.afflict(Order::always(Fault::RateLimit { per_second: 20 }), 5).await;
    world.pause(2).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "no queue dies of being throttled");
    verdict
}

async fn server_errors(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for status in [500, 502, 503, 504] {
        world.afflict(Order::share(0.6, Fault::ServerError { status }), 2).await;
        world.pause(1).await;
    }
    world.afflict(Order::always(Fault::ServerError { status: 503 }), 7).await;
    world.pause(2).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "an error's head loses nothing");
    verdict
}

async fn bodies(context: Context) -> Verdict {
    let settings = [("linxo.max_answer", "\"128KiB\"")];
    let world = World::new(context, &settings).await;
    world.afflict(Order::share(0.3, Fault::Slow { over_ms: 800 }).on(Ask), 3).await;
    for fault in [
        Fault::Hang,
        Fault::Cut,
        Fault::Oversized { bytes: 200_000, declared: true },
        Fault::Oversized { bytes: 200_000, declared: false },
        Fault::Slow { over_ms: 6_000 },
    ] {
        world.afflict(Order::share(0.05, fault).on(Ask), 2).await;
    }
    world.verdict().await
}

/// What is sure is listed, and nothing else, however many questions are lost.
async fn heads_lost(context: Context, event_ids: EventIds) -> Verdict {
    let world = World::with(context, Options { event_ids, ..Options::default() }, &[]).await;
    for fault in [Fault::Reset, Fault::Vanish] {
        world.afflict(Order::share(0.2, fault).on(Ask), 3).await;
        world.pause(2).await;
    }
    world.afflict(Order::always(Fault::Reset).on(Ask), 5).await;
    let simulator = Arc::clone(&world.stage.simulator);
    let verdict = world.verdict().await;
    let (listings, certain) = (simulator.stats().listings, verdict.counts.certain);
    assert!(listings <= certain as u64, "{listings} listings for {certain} gaps that are sure");
    verdict
}

async fn twice(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    inflict_repeats(&world);
    world.pause(5).await;
    world.stop().await;
    world.start().await;
    world.pause(2).await;
    world.verdict().await
}

async fn repeated(context: Context) -> Verdict {
    let options = Options { delivery: Delivery::Repeatable, ..Options::default() };
    let mut world = World::with(context, options, &[]).await;
    inflict_repeats(&world);
    world.stage.simulator.inflict(Order::share(0.1, Fault::Reset).on(Ask)).unwrap();
    world.stage.simulator.inflict(Order::share(0.05, Fault::Cut).on(Ask)).unwrap();
    world.pause(3).await;
    world.stop().await;
    world.start().await;
    world.pause(2).await;
    world.kill().await;
    world.start().await;
    world.pause(2).await;
    world.verdict().await
}

fn inflict_repeats(world: &World) {
    for fault in [Fault::Duplicate, Fault::Repeat] {
        world.stage.simulator.inflict(Order::share(0.2, fault)).unwrap();
    }
}

async fn odd_events(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for fault in [Fault::Reorder, Fault::UnknownType] {
        world.afflict(Order::share(0.5, fault).with_events(), 2).await;
    }
    for field in ["id", "event_type", "resource_type", "resource", "creation_date"] {
        let fault = Fault::MissingField { field: field.to_owned() };
        world.afflict(Order::share(0.3, fault).with_events(), 2).await;
    }
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "nothing is lost with an odd event");
    verdict
}

async fn no_json(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for fault in [Fault::InvalidJson, Fault::Html] {
        world.afflict(Order::share(0.1, fault).on(Ask), 3).await;
        world.pause(1).await;
    }
    world.verdict().await
}

async fn locations(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    let users = world.users();
    let kill_three = || users[..3].iter().map(|user| world.stage.simulator.kill_queues_of(user));
    for form in [LocationForm::Prefixed, LocationForm::Absolute, LocationForm::Relative] {
        world.stage.simulator.inflict(Order::always(Fault::Location { form })).unwrap();
        assert_eq!(kill_three().sum::<usize>(), 3);
        world.pause(3).await;
        world.stage.simulator.heal();
    }
    // queues are made that nobody learns of
    let fault = Fault::Location { form: LocationForm::Missing };
    world.stage.simulator.inflict(Order::next(4, fault)).unwrap();
    assert_eq!(kill_three().sum::<usize>(), 3);
    world.pause(5).await;
    world.verdict().await
}

async fn mass_expiry(context: Context) -> Verdict {
    let settings = [("linxo.max_requests_per_second", "200")];
    let world = World::new(context, &settings).await;
    let quiet: Vec<String> = (0..300).map(|number| format!("quiet-{number}")).collect();
    for user in &quiet {
        world.stage.simulator.put_user(user, &[ConnectionPlan::default()]).unwrap();
    }
    for users in quiet.chunks(50) {
        join_all(users.iter().map(|user| world.bridge().put(user))).await;
    }
    for fault in [
        Fault::ServerError { status: 503 },
        Fault::Throttle { retry_after: None },
        Fault::Reset,
        Fault::Vanish,
    ] {
        world.stage.simulator.inflict(Order::share(0.1, fault).on(Subscribe)).unwrap();
    }
    let died = world.stage.simulator.expire(&Expiry::default()).unwrap();
    assert!(died >= 300, "{died} queues died");
    world.pause(10).await;
    world.verdict().await
}

async fn unreachable(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    for minutes in [3, 20] {
        let long = if world.is_long { 60 } else { 1 };
        world.stage.simulator.unreachable(Duration::from_secs(minutes * long));
        world.pause(minutes).await;
        world.pause(3).await;
    }
    world.verdict().await
}

/// Neither is met by a question, so nothing is lost.
async fn no_name_no_tls(context: Context) -> Verdict {
    let mut world = World::new(context, &[]).await;
    let url = world.stage.simulator.url();
    let no_tls = url.replace("http://", "https://");
    for wrong in ["https://no-such-host.invalid/v2.1", &no_tls] {
        world.stop().await;
        world.stage.set("linxo.api_url", &format!("{wrong:?}"));
        world.start().await;
        world.pause(2).await;
        world.stop().await;
        world.stage.set("linxo.api_url", &format!("{url:?}"));
        world.start().await;
        world.pause(2).await;
    }
    // the bridge was there, and asked nobody
    world.rules.longest_pause = { world.rules.longest_pause }.map(|bound| bound + world.life / 2);
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "what was not sent loses nothing");
    verdict
}

async fn empty_lists(context: Context) -> Verdict {
    let world = World::new(context, &[]).await;
    world.afflict(Order::share(0.7, Fault::EmptyList), 5).await;
    let verdict = world.verdict().await;
    assert_eq!(verdict.counts.gaps, 0, "an empty list is no loss");
    verdict
}

async fn skewed(context: Context, clock_skew_ms: i64) -> Verdict {
    let mut world =
        World::with(context, Options { clock_skew_ms, ..Options::default() }, &[]).await;
    world.pause(3).await;
    world.kill().await;
    world.start().await;
    world.afflict(Order::next(4, Fault::KillQueue), 3).await;
    world.verdict().await
}
