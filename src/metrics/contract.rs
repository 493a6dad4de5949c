//! Checks the text of `/metrics` against the catalogue of design.md 11 and the rules of naming.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

/// The labels of a metric, each with all its values.
type Labels = &'static [(&'static str, &'static str)];

/// Design.md 11, by hand: name, type, labels.
const CATALOGUE: &[(&str, &str, Labels)] = &[
    ("event_lag_seconds", "histogram", &[("class", "ordinary action")]),
    ("commit_delay_seconds", "histogram", &[]),
    ("stage_duration_seconds", "histogram", &[("stage", "journal gather transaction")]),
    (
        "polls_total",
        "counter",
        &[(
            "outcome",
            "events empty empty_list dead unauthorized forbidden throttled server_error timeout \
             transport_error broken oversized malformed",
        )],
    ),
    ("poll_duration_seconds", "histogram", &[]),
    ("poll_schedule_delay_seconds", "histogram", &[]),
    ("poll_interval_seconds", "histogram", &[]),
    ("queues", "gauge", &[("state", "live subscribing recovering blocked")]),
    ("queues_by_headroom", "gauge", &[("band", "lt_1m lt_3m lt_5m lt_10m rest")]),
    ("oldest_poll_timestamp_seconds", "gauge", &[]),
    ("queue_deaths_total", "counter", &[("cause", CAUSES)]),
    ("gaps_total", "counter", &[("cause", CAUSES), ("certainty", "CERTAIN POSSIBLE")]),
    ("events_received_total", "counter", &[]),
    ("events_published_total", "counter", &[("kind", "event action reconciliation")]),
    ("oldest_unpublished_timestamp_seconds", "gauge", &[]),
    (
        "action_events_total",
        "counter",
        &[(
            "action",
            "AUTH_FAILED TOKEN_EXPIRED PASSWORD_CHANGE_REQUIRED USER_ACTION_REQUIRED \
             CHALLENGE_REQUIRED",
        )],
    ),
    (
        "dead_letters_total",
        "counter",
        &[(
            "reason",
            "not_json not_an_array not_an_object missing_id missing_type wrong_type oversized \
             malformed too_large not_encodable other",
        )],
    ),
    ("journal_bytes", "gauge", &[]),
    ("journal_capacity_bytes", "gauge", &[]),
    ("journal_answers", "gauge", &[]),
    ("journal_sync_seconds", "histogram", &[]),
    ("transactions_total", "counter", &[("outcome", "committed aborted fenced unknown")]),
    ("transaction_records", "histogram", &[]),
    ("partitions_owned", "gauge", &[]),
    ("partitions", "gauge", &[]),
    ("rebalances_total", "counter", &[("kind", "granted revoked lost")]),
    ("takeover_seconds", "histogram", &[]),
    ("token_requests_total", "counter", &[("outcome", "ok refused error")]),
    ("users_blocked", "gauge", &[]),
    ("registry_requests_total", "counter", &[("outcome", "ok refused error")]),
    ("request_budget_per_second", "gauge", &[]),
    ("request_budget_required_per_second", "gauge", &[]),
    ("build_info", "gauge", &[("revision", "abc123"), ("version", "1.2.3")]),
];

/// Beyond design.md 11: name, type, labels.
const BEYOND: &[(&str, &str, Labels)] = &[
    ("events_ahead_total", "counter", &[]),
    ("journal_failing", "gauge", &[]),
    ("traces_total", "counter", &[("outcome", "exported dropped failed")]),
    ("kafka_queued_messages", "gauge", &[]),
    ("kafka_queued_bytes", "gauge", &[]),
    ("kafka_round_trip_seconds", "gauge", &[]),
    ("kafka_connections", "gauge", &[]),
    ("kafka_requests_total", "counter", &[]),
    ("kafka_sent_bytes_total", "counter", &[]),
    ("kafka_connects_total", "counter", &[]),
    ("kafka_disconnects_total", "counter", &[]),
    ("kafka_request_errors_total", "counter", &[]),
    ("kafka_request_retries_total", "counter", &[]),
    ("kafka_request_timeouts_total", "counter", &[]),
];

const CAUSES: &str = "QUEUE_EXPIRED QUEUE_GONE CREDENTIAL_REFUSED ANSWER_LOST INSTANCE_LOST \
                      EVENT_ID_JUMP OTHER";

fn metrics() -> Metrics {
    Metrics::new("1.2.3", "abc123").unwrap()
}

/// What the text shows of a family: its type, and the values of each label.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shown {
    kind: String,
    series: usize,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn shown(text: &str) -> BTreeMap<String, Shown> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            families.insert(current.clone(), Shown { kind: kind.to_owned(), ..Shown::default() });
        } else if !line.starts_with('#') {
            let family = families.get_mut(&current).unwrap();
            family.series += 1;
            let Some((_, rest)) = line.split_once('{') else { continue };
            let (labels, _) = rest.split_once('}').unwrap();
            for (label, value) in labels.split(',').map(|pair| pair.split_once('=').unwrap()) {
                let values = family.labels.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    families
}

fn value(text: &str, series: &str) -> f64 {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|r| r.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn names_types_and_labels_are_those_of_the_catalogue() {
    let mut found = shown(&metrics().text());
    found.retain(|name, _| name.starts_with("linxo_bridge_"));
    for family in found.values_mut() {
        family.labels.remove("le");
        family.series = 0;
    }
    let catalogue: BTreeMap<String, Shown> = CATALOGUE
        .iter()
        .chain(BEYOND)
        .map(|(name, kind, labels)| {
            let labels = labels
                .iter()
                .map(|(label, values)| {
                    (label.to_string(), values.split_whitespace().map(str::to_owned).collect())
                })
                .collect();
            (format!("linxo_bridge_{name}"), Shown { kind: kind.to_string(), series: 0, labels })
        })
        .collect();
    assert_eq!(found, catalogue);
}

#[test]
fn every_pair_of_cause_and_certainty_is_there_from_the_start() {
    let text = metrics().text();
    assert_eq!(text.matches("linxo_bridge_gaps_total{").count(), 14);
    assert!(
        text.contains("linxo_bridge_gaps_total{cause=\"QUEUE_GONE\",certainty=\"POSSIBLE\"} 0")
    );
}

#[test]
fn everything_of_ours_but_the_build_is_zero_at_the_start() {
    for line in metrics().text().lines().filter(|line| line.starts_with("linxo_bridge_")) {
        let expected = if line.starts_with("linxo_bridge_build_info") { " 1" } else { " 0" };
        assert!(line.ends_with(expected), "{line}");
    }
}

#[test]
fn names_keep_the_rules_that_promtool_checks() {
    let text = metrics().text();
    for (name, family) in shown(&text) {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        for reserved in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        for unit in ["milliseconds", "_ms", "minutes", "_kb", "_mb", "percent"] {
            assert!(!name.contains(unit), "{name}");
        }
        for kind in ["gauge", "counter", "histogram"] {
            assert!(!name.contains(kind), "{name}");
        }
        let help = text.lines().find(|line| line.starts_with(&format!("# HELP {name} "))).unwrap();
        assert!(help.len() > name.len() + 10, "{name} has no help");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_shows_its_memory_and_descriptors() {
    let text = metrics().text();
    assert!(value(&text, "process_resident_memory_bytes") > 0.0);
    assert!(value(&text, "process_open_fds") > 0.0);
}

#[test]
fn series_do_not_grow_with_partitions_or_happenings() {
    let metrics = metrics();
    let series = |text: &str| shown(text).values().map(|family| family.series).sum::<usize>();
    let before = series(&metrics.text());
    for partition in 0..500 {
        metrics.census(partition, Some(Census { live: 1_000, ..Census::default() }));
        metrics.poll_finished(PollOutcome::Events, Duration::from_millis(3));
        metrics.gap_published(GapCause::AnswerLost, Certainty::Certain);
    }
    let text = metrics.text();
    assert_eq!(series(&text), before);
    assert!(before < 400, "{before} series");
    assert_eq!(value(&text, "linxo_bridge_queues{state=\"live\"}"), 500_000.0);
}

#[test]
fn a_happening_moves_its_own_series_and_no_other() {
    let metrics = metrics();
    metrics.poll_finished(PollOutcome::EmptyList, Duration::from_millis(7));
    metrics.poll_scheduled(Duration::from_secs(2), None);
    metrics.poll_scheduled(Duration::from_secs(2), Some(Duration::from_secs(299)));
    metrics.gap_published(GapCause::EventIdJump, Certainty::Certain);
    metrics.action_published(ActionLabel::ChallengeRequired);
    metrics.events_published(EventKind::Reconciliation, 3);
    metrics.event_lag(LagClass::Action, Duration::from_secs(3_000));
    metrics.journal(1 << 20, 1 << 30, 12, true);
    metrics.partitions(3, 64);
    metrics.budget(500.0, 12.5);
    metrics.oldest_unpublished(Some(Timestamp(1_700_000_000_500)));

    let text = metrics.text();
    let shown = |series: &str| value(&text, &format!("linxo_bridge_{series}"));
    assert_eq!(shown("polls_total{outcome=\"empty_list\"}"), 1.0);
    assert_eq!(shown("polls_total{outcome=\"empty\"}"), 0.0);
    assert_eq!(shown("poll_duration_seconds_count"), 1.0);
    assert_eq!(shown("poll_schedule_delay_seconds_count"), 2.0);
    assert_eq!(shown("poll_interval_seconds_count"), 1.0);
    assert_eq!(shown("poll_interval_seconds_bucket{le=\"300\"}"), 1.0);
    assert_eq!(shown("gaps_total{cause=\"EVENT_ID_JUMP\",certainty=\"CERTAIN\"}"), 1.0);
    assert_eq!(shown("gaps_total{cause=\"EVENT_ID_JUMP\",certainty=\"POSSIBLE\"}"), 0.0);
    assert_eq!(shown("action_events_total{action=\"CHALLENGE_REQUIRED\"}"), 1.0);
    assert_eq!(shown("events_published_total{kind=\"reconciliation\"}"), 3.0);
    assert_eq!(shown("event_lag_seconds_bucket{class=\"action\",le=\"1800\"}"), 0.0);
    assert_eq!(shown("event_lag_seconds_bucket{class=\"action\",le=\"3600\"}"), 1.0);
    assert_eq!(shown("journal_capacity_bytes"), 1_073_741_824.0);
    assert_eq!(shown("journal_failing"), 1.0);
    assert_eq!(shown("partitions"), 64.0);
    assert_eq!(shown("request_budget_required_per_second"), 12.5);
    assert_eq!(shown("oldest_unpublished_timestamp_seconds"), 1_700_000_000.5);
}

#[test]
fn what_the_producer_says_is_summed_over_brokers_and_never_falls() {
    let metrics = metrics();
    let told = |client: &str, requests: u64, round_trip: u64| {
        let brokers = format!(
            r#"{{"a:1/1": {{"state": "UP", "tx": {requests}, "txbytes": 10, "txerrs": 1, "rxerrs": 2,
                "connects": 3, "disconnects": 2, "txretries": 4, "req_timeouts": 5,
                "rtt": {{"p99": {round_trip}}}, "toppars": {{}}}},
               "b:1/2": {{"state": "DOWN", "tx": 1, "rtt": {{"p99": 7}}}}}}"#
        );
        metrics.kafka_statistics(
            format!(
                r#"{{"name": "{client}", "msg_cnt": 8, "msg_size": 900, "brokers": {brokers}}}"#
            )
            .as_bytes(),
        );
    };
    let shown = |series: &str| value(&metrics.text(), &format!("linxo_bridge_kafka_{series}"));
    told("bridge#producer-1", 100, 2_500);
    assert_eq!((shown("queued_messages"), shown("queued_bytes")), (8.0, 900.0));
    assert_eq!((shown("round_trip_seconds"), shown("connections")), (0.0025, 1.0));
    assert_eq!((shown("requests_total"), shown("sent_bytes_total")), (101.0, 10.0));
    assert_eq!((shown("connects_total"), shown("disconnects_total")), (3.0, 2.0));
    assert_eq!((shown("request_errors_total"), shown("request_retries_total")), (3.0, 4.0));
    assert_eq!(shown("request_timeouts_total"), 5.0);
    told("bridge#producer-1", 150, 0);
    assert_eq!((shown("requests_total"), shown("connects_total")), (151.0, 3.0));
    // another client counts from the beginning
    told("bridge#producer-2", 10, 0);
    assert_eq!((shown("requests_total"), shown("connects_total")), (162.0, 6.0));
    metrics.kafka_statistics(b"no statistics");
    assert_eq!((shown("requests_total"), shown("connections")), (162.0, 1.0));
    metrics.kafka_gone();
    assert_eq!((shown("requests_total"), shown("connections")), (162.0, 0.0));
    assert_eq!((shown("queued_messages"), shown("round_trip_seconds")), (0.0, 0.0));
}

#[test]
fn a_partition_let_go_no_longer_counts() {
    let metrics = metrics();
    let census = Census {
        live: 2,
        blocked: 4,
        bands: [1, 0, 0, 0, 1],
        oldest_poll: Some(Timestamp(9_000)),
        ..Census::default()
    };
    metrics.census(3, Some(census));
    metrics.census(3, Some(census));
    let text = metrics.text();
    assert_eq!(value(&text, "linxo_bridge_queues_by_headroom{band=\"lt_1m\"}"), 1.0);
    assert_eq!(value(&text, "linxo_bridge_users_blocked"), 4.0);
    assert_eq!(value(&text, "linxo_bridge_oldest_poll_timestamp_seconds"), 9.0);

    metrics.census(3, None);
    let text = metrics.text();
    assert_eq!(value(&text, "linxo_bridge_queues{state=\"blocked\"}"), 0.0);
    assert_eq!(value(&text, "linxo_bridge_oldest_poll_timestamp_seconds"), 0.0);
}
