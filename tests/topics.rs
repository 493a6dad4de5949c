//! The topics of the design: made as they should be, compared, and asked for when they are missing.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;

use linxo_kafka_bridge::simulator::{Options, Sync};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::{PATIENCE, Stage};

const DAY: &str = "86400000";
const THREE_DAYS: &str = "259200000";
const SEVEN_DAYS: &str = "604800000";
const THIRTY_DAYS: &str = "2592000000";

/// Section 4 of the design: name, whether it is as wide as the control topic, retention, where none
/// means that it is compacted.
const TOPICS: [(&str, Width, Option<&str>); 11] = [
    ("linxo.subscriptions", Width::Control, None),
    ("linxo.queues", Width::Control, None),
    ("linxo.journals", Width::One, None),
    ("linxo.events", Width::Events, Some(SEVEN_DAYS)),
    ("linxo.gaps", Width::Events, Some(THIRTY_DAYS)),
    ("linxo.dead-letters", Width::Events, Some(THREE_DAYS)),
    ("linxo.actions.auth-failed", Width::Events, Some(THIRTY_DAYS)),
    ("linxo.actions.token-expired", Width::Events, Some(THIRTY_DAYS)),
    ("linxo.actions.password-change-required", Width::Events, Some(THIRTY_DAYS)),
    ("linxo.actions.user-action-required", Width::Events, Some(THIRTY_DAYS)),
    ("linxo.actions.challenge-required", Width::Events, Some(THIRTY_DAYS)),
];

#[derive(Clone, Copy)]
enum Width {
    Control,
    Events,
    One,
}

/// What a command of the program printed, and its exit code.
async fn told(stage: &Stage, arguments: &[&str]) -> (i32, String, String) {
    let output = stage.run(arguments).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Partitions and settings of a topic, as the broker has them.
async fn found(stage: &Stage, topic: &str) -> (usize, BTreeMap<String, String>) {
    let topic = stage.topic(topic);
    let consumer: BaseConsumer = stage.kafka.client().create().unwrap();
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
    let admin: AdminClient<DefaultClientContext> = stage.kafka.client().create().unwrap();
    let asked = [ResourceSpecifier::Topic(&topic)];
    let answers = admin.describe_configs(&asked, &AdminOptions::new()).await.unwrap();
    let entries = answers.into_iter().flat_map(|resource| resource.unwrap().entries);
    let settings = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
    (metadata.topics()[0].partitions().len(), settings)
}

async fn bare(name: &str, settings: &[(&str, &str)]) -> Stage {
    Stage::bare(name, Options::default(), settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn create_makes_every_topic_with_its_settings_and_a_second_time_nothing() {
    let widths = [("topics.partitions", "3"), ("topics.event_partitions", "5")];
    let stage = bare("made", &widths).await;
    let (code, out, err) = told(&stage, &["topics", "create"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().count(), TOPICS.len(), "{out}");
    for (topic, width, retention) in TOPICS {
        assert!(out.contains(&format!("made {}\n", stage.topic(topic))), "{topic}: {out}");
        let (partitions, settings) = found(&stage, topic).await;
        let wanted = match width {
            Width::Control => 3,
            Width::Events => 5,
            Width::One => 1,
        };
        assert_eq!(partitions, wanted, "{topic}");
        match retention {
            Some(retention) => {
                assert_eq!(settings["cleanup.policy"], "delete", "{topic}");
                assert_eq!(settings["retention.ms"], retention, "{topic}");
            }
            None => {
                assert_eq!(settings["cleanup.policy"], "compact", "{topic}");
                assert_eq!(settings["segment.bytes"], "16777216", "{topic}");
                assert_eq!(settings["segment.ms"], "600000", "{topic}");
                let ratio: f64 = settings["min.cleanable.dirty.ratio"].parse().unwrap();
                assert!(ratio <= 0.2, "{topic}: {ratio}");
            }
        }
    }
    let again = told(&stage, &["topics", "create"]).await;
    assert_eq!(again, (0, "nothing was missing\n".to_owned(), String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_topic_for_all_actions_is_made_when_the_template_names_none() {
    let stage = bare("one", &[("topics.actions", "\"all-actions\"")]).await;
    let (code, out, _) = told(&stage, &["topics", "create"]).await;
    assert_eq!((code, out.lines().count()), (0, 7), "{out}");
    assert!(out.contains(&format!("made {}\n", stage.topic("all-actions"))), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_tells_what_is_missing_and_what_differs_and_changes_nothing() {
    let stage = bare("told", &[]).await;
    let (code, out, err) = told(&stage, &["topics", "describe"]).await;
    assert_eq!(code, 1);
    let missing = format!("{}: missing\n", stage.topic("linxo.gaps"));
    assert!(out.contains(&missing), "{out}");
    assert!(err.contains("`linxo-bridge topics create`"), "{err}");

    let (gaps, states) = (stage.topic("linxo.gaps"), stage.topic("linxo.queues"));
    stage.kafka.create_topic(&gaps, 2, &[("retention.ms", DAY)]).await;
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "3600000")];
    stage.kafka.create_topic(&states, 4, &settings).await;
    let (code, out, err) = told(&stage, &["topics", "create"]).await;
    assert_eq!(code, 0, "what merely differs does not stop anything: {err}");
    assert!(!out.contains(&format!("made {gaps}\n")), "{out}");
    let differs = format!("differs: {gaps}: retention.ms is {DAY}, the design has {THIRTY_DAYS}");
    for (differs, mends) in [
        (differs, format!("--topic {gaps} --add-config retention.ms={THIRTY_DAYS}")),
        (
            format!("differs: {states}: segment.ms is 3600000, the design has 600000"),
            format!("--topic {states} --add-config segment.ms=600000"),
        ),
    ] {
        let line = out.lines().find(|line| line.starts_with(&differs));
        assert!(line.is_some_and(|line| line.contains(&mends)), "{differs}:\n{out}");
    }
    let (_, settings) = found(&stage, "linxo.gaps").await;
    assert_eq!(settings["retention.ms"], DAY, "what is there is left as it is");

    let (code, out, _) = told(&stage, &["topics", "describe"]).await;
    assert_eq!(code, 0);
    assert!(out.contains(&format!("{gaps}: 2 partitions\n")), "{out}");
    assert!(out.contains(&format!("{}: 4 partitions\n", stage.topic("linxo.events"))), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_topics_ends_and_says_which_and_what_makes_them() {
    let stage = bare("missing", &[]).await;
    let there = stage.topic("linxo.events");
    stage.kafka.create_topic(&there, 4, &[]).await;
    let mut bridge = stage.start().await;
    assert_eq!(bridge.ended().await.code(), Some(1));
    let log = bridge.log();
    for (topic, ..) in TOPICS {
        let is_named = log.contains(&stage.topic(topic));
        assert_eq!(is_named, topic != "linxo.events", "{topic}:\n{log}");
    }
    assert!(log.contains("`linxo-bridge topics create`"), "{log}");
    assert!(log.contains("topics.create = true"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_may_make_topics_makes_them_and_works() {
    let stage = bare("makes", &[("topics.create", "true")]).await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert_eq!(stage.drained().await.len(), events);
    let (_, settings) = found(&stage, "linxo.subscriptions").await;
    assert_eq!(settings["cleanup.policy"], "compact");
    assert!(bridge.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_would_lose_users_are_refused_with_what_mends_them() {
    let stage = bare("unfit", &[]).await;
    let compact = [("cleanup.policy", "compact")];
    for (topic, partitions, settings) in [
        ("linxo.subscriptions", 4, compact.as_slice()),
        ("linxo.queues", 3, &[("cleanup.policy", "delete")]),
        ("linxo.journals", 2, &compact),
    ] {
        stage.kafka.create_topic(&stage.topic(topic), partitions, settings).await;
    }
    let (code, _, err) = told(&stage, &["topics", "create"]).await;
    assert_eq!(code, 1);
    let mut bridge = stage.start().await;
    assert_eq!(bridge.ended().await.code(), Some(1));
    let [control, states, marks] =
        ["linxo.subscriptions", "linxo.queues", "linxo.journals"].map(|name| stage.topic(name));
    for said in [
        format!("{control} has 4 partitions and {states} has 3, they must have the same"),
        "topics.partitions = 4".to_owned(),
        format!("{marks} has 2 partitions and must have 1"),
        format!("{states} has cleanup.policy=delete and would forget users"),
        format!("--topic {states} --add-config cleanup.policy=compact"),
    ] {
        assert!(err.contains(&said), "{said}:\n{err}");
        assert!(bridge.log().contains(&said), "{said}:\n{}", bridge.log());
    }
}
