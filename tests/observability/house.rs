//! The rules of the house for dashboards, after those that Grafana's dashboard linter has.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::papers::anchors;
use crate::support::dashboards::{self, Dashboard, matchers, words};

/// The panels that are drawn by anything that knows Grafana's own components, and rendered by `make dashboards`.
const KINDS: &[&str] = &["timeseries", "stat", "bargauge", "table"];

/// Queries that break a rule: the panel, what of the rule it may, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("overview.json: Expired, 10 min", "[10m]", "the count is of the time that the title says"),
    ("overview.json: Gaps, 1 h", "[1h]", "the count is of the time that the title says"),
    ("overview.json: Not committing", "[1m]", "marks come each 10 s: six of them are missing"),
    ("consumers.json: Sure losses, 1 h", "[1h]", "the count is of the time that the title says"),
    (
        "consumers.json: Possible losses, 1 h",
        "[1h]",
        "the count is of the time that the title says",
    ),
    ("consumers.json: Dead letters, 1 h", "[1h]", "the count is of the time that the title says"),
    ("consumers.json: Records in the time shown", "[$__range]", "the count is of the time shown"),
    ("load.json: In flight", "_total", "the difference of two counters that begin with the run"),
    (
        "load.json: Waiting and in flight",
        "_total",
        "the difference of two counters that begin with the run",
    ),
    ("overview.json: Alerts that fire", "instance", "some alerts have no instance"),
    ("overview.json: Unowned", "instance", "what one instance does not own another does"),
];

struct Judge {
    faults: Vec<String>,
    used: BTreeSet<(String, &'static str)>,
}

impl Judge {
    fn excused(&mut self, place: &str, what: &str) -> bool {
        let found = EXCEPTIONS.iter().find(|(at, may, _)| *at == place && *may == what);
        let Some((_, may, _)) = found else { return false };
        self.used.insert((place.to_owned(), may));
        true
    }

    fn must(&mut self, place: &str, is_so: bool, rule: &str) {
        if !is_so {
            self.faults.push(format!("{place}: {rule}"));
        }
    }

    fn dashboard(&mut self, dashboard: &Dashboard) {
        let (file, json) = (dashboard.file.as_str(), &dashboard.json);
        self.must(file, json["editable"] == false, "nobody edits what is provisioned");
        self.must(
            file,
            json["description"].as_str().is_some_and(|it| !it.is_empty()),
            "says what it is for",
        );
        self.must(
            file,
            json["uid"].as_str().is_some_and(|it| it.starts_with("linxo-bridge-")),
            "has a uid of ours",
        );
        let variables = json["templating"]["list"].as_array().unwrap();
        let variable =
            |name: &str| variables.iter().find(|it| it["name"] == name).unwrap_or(&Value::Null);
        let source = variable("datasource");
        self.must(
            file,
            source["type"] == "datasource" && source["query"] == "prometheus",
            "a variable is the data source",
        );
        self.must(file, source["label"] == "Data source", "it is labelled so");
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let it = variable(name);
            self.must(
                file,
                it["type"] == "query" && it["label"] == label,
                "has the variables Job and Instance",
            );
            self.must(
                file,
                it["multi"] == true && it["includeAll"] == true && it["allValue"] == ".+",
                "of which all may be chosen",
            );
            self.must(file, it["refresh"] == 2, "and which follow the time range");
            self.must(
                file,
                it["datasource"]["uid"] == "${datasource}",
                "of the data source chosen",
            );
        }
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        let rows = json["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] == "row");
        for panel in dashboard.panels().into_iter().chain(rows) {
            let place = format!("{file}: {}", panel["title"].as_str().unwrap_or("?"));
            self.must(&place, ids.insert(panel["id"].as_u64()), "an id is given once");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            self.must(&place, at("x") + at("w") <= 24, "the grid has 24 columns");
            let covered = (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)));
            let taken = covered.filter(|cell| !cells.insert(*cell)).count();
            self.must(&place, taken == 0, "panels do not overlap");
            if panel["type"] != "row" {
                self.panel(&place, panel);
            }
        }
        for query in dashboard.queries() {
            self.query(&query.place, &query.promql);
        }
    }

    fn panel(&mut self, place: &str, panel: &Value) {
        let kind = panel["type"].as_str().unwrap();
        self.must(place, KINDS.contains(&kind), "the kind of panel is one that is rendered");
        let described = panel["description"].as_str().unwrap_or_default();
        self.must(place, described.contains("First: "), "the description says what to do first");
        self.must(
            place,
            panel["datasource"]["uid"] == "${datasource}",
            "asks the data source chosen",
        );
        self.must(place, panel["fieldConfig"]["defaults"]["unit"].is_string(), "has a unit");
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        self.must(place, !targets.is_empty(), "asks something");
        let references: BTreeSet<_> =
            targets.iter().map(|target| target["refId"].as_str()).collect();
        self.must(place, references.len() == targets.len(), "each query has a letter of its own");
        let is_ours = |target: &Value| target["datasource"]["uid"] == "${datasource}";
        self.must(place, targets.iter().all(is_ours), "each query asks the data source chosen");
        let links = panel["links"].as_array().map_or(&[][..], Vec::as_slice);
        let leads = |link: &Value| {
            let anchor = link["url"].as_str().and_then(|url| url.strip_prefix("${runbook}#"));
            anchor.is_some_and(|anchor| anchors().contains(anchor))
        };
        self.must(
            place,
            !links.is_empty() && links.iter().all(leads),
            "links to a section of the runbook",
        );
    }

    fn query(&mut self, place: &str, promql: &str) {
        for (name, before, rest) in words(promql) {
            let is_metric = rest.starts_with('{');
            if !is_metric {
                continue;
            }
            let matchers = matchers(rest);
            for variable in ["job", "instance"] {
                let wanted = (variable.to_owned(), "=~".to_owned(), format!("${variable}"));
                if !matchers.contains(&wanted) && !self.excused(place, variable) {
                    self.faults.push(format!("{place}: {name} is not of the {variable} chosen"));
                }
            }
            let function = before.trim_end().strip_suffix('(').unwrap_or_default();
            let function =
                function.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let range = rest.split_once('}').unwrap().1;
            let range = range.starts_with('[').then(|| &range[..=range.find(']').unwrap()]);
            let is_rate = ["rate", "irate", "increase", "changes"].contains(&function);
            if let Some(range) = range {
                self.must(place, is_rate, "a range is for rate, irate, increase and changes");
                if range != "[$__rate_interval]" && !self.excused(place, range) {
                    self.faults
                        .push(format!("{place}: the range is {range}, not [$__rate_interval]"));
                }
            }
            if name.ends_with("_total")
                && !(is_rate && range.is_some())
                && !self.excused(place, "_total")
            {
                self.faults.push(format!("{place}: {name} without a rate"));
            }
        }
    }
}

fn judged(dashboards: &[Dashboard]) -> Judge {
    let mut judge = Judge { faults: Vec::new(), used: BTreeSet::new() };
    for dashboard in dashboards {
        judge.dashboard(dashboard);
    }
    judge
}

#[test]
fn every_dashboard_keeps_the_rules_of_the_house() {
    let mut judge = judged(&dashboards::all());
    for (place, may, _) in EXCEPTIONS {
        if !judge.used.contains(&((*place).to_owned(), *may)) {
            judge.faults.push(format!("{place}: {may} is excused, and need not be"));
        }
    }
    assert!(judge.faults.is_empty(), "\n{}", judge.faults.join("\n"));
}

/// Breaks one thing of the first dashboard; the rule that it breaks has to be told.
#[test]
fn a_dashboard_that_breaks_a_rule_is_told_which() {
    type Break = fn(&mut Value);
    let breaks: &[(Break, &str)] = &[
        (|it| it["editable"] = true.into(), "nobody edits"),
        (
            |it| it["templating"]["list"][0]["query"] = "loki".into(),
            "a variable is the data source",
        ),
        (|it| it["templating"]["list"][1]["refresh"] = 1.into(), "follow the time range"),
        (|it| it["panels"][1]["id"] = it["panels"][2]["id"].clone(), "an id is given once"),
        (|it| it["panels"][1]["gridPos"] = it["panels"][2]["gridPos"].clone(), "do not overlap"),
        (|it| it["panels"][1]["gridPos"]["x"] = 22.into(), "24 columns"),
        (|it| it["panels"][1]["type"] = "heatmap".into(), "the kind of panel"),
        (|it| it["panels"][1]["description"] = "Queues.".into(), "what to do first"),
        (|it| it["panels"][1]["links"] = Value::Array(Vec::new()), "section of the runbook"),
        (
            |it| it["panels"][1]["links"][0]["url"] = "${runbook}#nowhere".into(),
            "section of the runbook",
        ),
        (
            |it| it["panels"][1]["targets"][0]["datasource"]["uid"] = "prometheus".into(),
            "each query asks",
        ),
        (
            |it| it["panels"][1]["targets"][0]["expr"] = "sum(up{job=~\"$job\"})".into(),
            "of the instance chosen",
        ),
        (
            |it| {
                let expr = "rate(a_total{job=~\"$job\", instance=~\"$instance\"}[5m])";
                it["panels"][1]["targets"][0]["expr"] = expr.into();
            },
            "the range is [5m]",
        ),
        (
            |it| {
                let expr = "sum(a_total{job=~\"$job\", instance=~\"$instance\"})";
                it["panels"][1]["targets"][0]["expr"] = expr.into();
            },
            "a_total without a rate",
        ),
        (
            |it| {
                let expr =
                    "max_over_time(a{job=~\"$job\", instance=~\"$instance\"}[$__rate_interval])";
                it["panels"][1]["targets"][0]["expr"] = expr.into();
            },
            "a range is for rate",
        ),
    ];
    for (break_it, told) in breaks {
        let mut dashboard = dashboards::all().remove(0);
        break_it(&mut dashboard.json);
        let faults = judged(&[dashboard]).faults.join("\n");
        assert!(faults.contains(told), "{told}:\n{faults}");
    }
}
