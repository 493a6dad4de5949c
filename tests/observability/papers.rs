//! Alerts, their tests, and the runbook that all of them link to.

use std::collections::BTreeSet;

use crate::support::{dashboards, source_file};

/// Where the runbook is, as rules and dashboards say: an address to be replaced.
const RUNBOOK: &str = "https://runbook.example/linxo-bridge";

/// An alert as `alerts.yml` has it.
struct Alert {
    name: String,
    text: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(source_file(path)).unwrap()
}

fn alerts() -> Vec<Alert> {
    let text = read("deploy/prometheus/alerts.yml");
    let alerts = text
        .split("      - alert: ")
        .skip(1)
        .map(|text| Alert { name: text.lines().next().unwrap().to_owned(), text: text.to_owned() });
    alerts.collect()
}

/// The anchors of the runbook's headings, as renderers of Markdown make them.
pub(crate) fn anchors() -> BTreeSet<String> {
    let text = read("deploy/runbook.md");
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(anchor).collect()
}

/// What stands between `before` and the next of `ends` in a text, wherever it does.
fn between<'t>(text: &'t str, before: &'t str, ends: &'t [char]) -> impl Iterator<Item = &'t str> {
    text.match_indices(before).map(move |(at, _)| {
        let rest = &text[at + before.len()..];
        &rest[..rest.find(ends).unwrap_or(rest.len())]
    })
}

#[test]
fn every_alert_says_what_it_means_whom_it_calls_and_where_to_read_on() {
    let alerts = alerts();
    assert!(alerts.len() > 35, "{} alerts", alerts.len());
    let anchors = anchors();
    for Alert { name, text } in &alerts {
        for part in ["summary: ", "description: ", "labels: { severity: "] {
            assert!(text.contains(part), "{name} has no {part}");
        }
        let anchor = name.to_lowercase();
        assert!(
            text.contains(&format!("runbook_url: {RUNBOOK}#{anchor}\n")),
            "{name} links elsewhere"
        );
        assert!(anchors.contains(&anchor), "the runbook has no section {name}");
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_inhibitions_name_alerts() {
    let tests = read("deploy/prometheus/alerts.test.yml");
    let names: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    for name in names.iter().filter(|name| *name != "DeadMan") {
        let fires = format!("- {{ labels: '{{alertname=\"{name}\", job=\"");
        assert!(tests.contains(&fires), "no test expects {name} to fire");
    }
    let routes = read("deploy/alertmanager/alertmanager.yml");
    let routes = routes.split_once("inhibit_rules:").unwrap().1;
    for matcher in ["alertname=\"", "alertname=~\"", "alertname!=\""] {
        for name in between(routes, matcher, &['"']).flat_map(|names| names.split('|')) {
            assert!(names.contains(name), "alertmanager.yml speaks of {name}, which is no alert");
        }
    }
}

#[test]
fn every_link_into_the_runbook_and_within_it_leads_to_a_section() {
    let anchors = anchors();
    let runbook = read("deploy/runbook.md");
    let mut links: Vec<String> = between(&runbook, "](#", &[')']).map(str::to_owned).collect();
    for dashboard in dashboards::all() {
        let text = dashboard.json.to_string();
        links.extend(between(&text, "${runbook}#", &['"']).map(str::to_owned));
    }
    assert!(links.len() > 100, "{} links", links.len());
    for link in links {
        assert!(anchors.contains(&link), "the runbook has no section #{link}");
    }
}
