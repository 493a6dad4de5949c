//! Names in rules and dashboards, held against what a running bridge shows.

use std::collections::BTreeSet;

use crate::support::{Stage, dashboards, http, prometheus, source_file};

/// What `/metrics` has and no dashboard shows.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("process_virtual_memory_bytes", "says nothing where memory is mapped and not used"),
    ("process_threads", "the number is fixed but for the pool that reads partitions"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_shows_what_rules_and_dashboards_name_and_nothing_that_nobody_looks_at() {
    let stage = Stage::new("observability").await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let answer = http().get(format!("{}/metrics", bridge.url)).send().await.unwrap();
    // without a type that it knows Prometheus 3 takes the scrape for failed
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
    let text = answer.text().await.unwrap();
    for prometheus in prometheus::both() {
        let (is_content, said) = prometheus.promtool(&["check", "metrics"], &text);
        assert!(is_content && said.is_empty(), "{}: {said}", prometheus.version);
        let (is_content, _) = prometheus
            .promtool(&["check", "metrics"], "# TYPE a_milliseconds gauge\na_milliseconds 1\n");
        assert!(!is_content, "{} accepts anything", prometheus.version);
    }

    let shown = dashboards::shown(&text);
    let rules = std::fs::read_to_string(source_file("deploy/prometheus/alerts.yml")).unwrap();
    let rules: Vec<&str> =
        rules.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let mut unknown = Vec::new();
    for expression in
        rules.iter().filter(|line| line.contains("linxo_bridge_") && !line.contains("record:"))
    {
        unknown.extend(dashboards::unknown(
            "alerts.yml",
            &expression.replace("{{", "").replace("}}", ""),
            &shown,
        ));
    }
    let mut on_dashboards = BTreeSet::new();
    for query in dashboards::all().iter().flat_map(dashboards::Dashboard::queries) {
        let promql = query.resolved();
        let faults = dashboards::unknown(&query.place, &promql, &shown);
        // those of a load run are held against one in tests/load.rs
        unknown.extend(faults.into_iter().filter(|fault| !fault.contains(" linxo_load_")));
        on_dashboards.extend(dashboards::metrics_in(&promql).into_keys());
    }
    for name in shown.keys() {
        let is_excused = NOT_SHOWN.iter().any(|(excused, _)| excused == name);
        match (on_dashboards.contains(name), is_excused) {
            (false, false) => unknown.push(format!("{name} is on no dashboard, and not excused")),
            (true, true) => unknown.push(format!("{name} is on a dashboard, and excused")),
            _ => {}
        }
    }
    for (excused, _) in NOT_SHOWN {
        assert!(shown.contains_key(*excused), "{excused} is excused, and there is none");
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
    assert!(bridge.stop().await.success());
}

#[test]
fn what_is_misspelt_is_told() {
    let shown = dashboards::shown(
        "# TYPE linxo_bridge_queues gauge\nlinxo_bridge_queues{state=\"live\"} 1\n\
         # TYPE linxo_bridge_lag_seconds histogram\nlinxo_bridge_lag_seconds_bucket{le=\"1\"} 0\n",
    );
    for (promql, told) in [
        ("sum(linxo_bridge_queues{job=~\".+\", state=~\"live\"})", ""),
        ("sum by (le) (rate(linxo_bridge_lag_seconds_bucket{le=\"7\"}[1m]))", ""),
        ("linxo_bridge_queue{state=\"live\"}", "here: there is no metric linxo_bridge_queue"),
        (
            "linxo_bridge_queues{state!=\"lively\"}",
            "here: linxo_bridge_queues has no state=\"lively\"",
        ),
        (
            "linxo_bridge_queues{state=~\"live|dead\"}",
            "here: linxo_bridge_queues has no state=\"dead\"",
        ),
        ("linxo_bridge_queues{stat=\"live\"}", "here: linxo_bridge_queues has no stat=\"live\""),
    ] {
        assert_eq!(dashboards::unknown("here", promql, &shown).join("\n"), told, "{promql}");
    }
}
