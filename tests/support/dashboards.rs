//! The dashboards as they are shipped, and what their queries name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cache::source;

/// The labels of a metric, each with the values that it is asked for.
pub type Labels = BTreeMap<String, BTreeSet<String>>;

/// A dashboard.
pub struct Dashboard {
    /// Its file.
    pub file: String,
    pub json: Value,
}

/// A query of a panel, or of an annotation.
pub struct Query {
    /// The dashboard's file, and the panel's title.
    pub place: String,
    /// With the variables of Grafana in it.
    pub promql: String,
}

/// Every dashboard that is shipped.
pub fn all() -> Vec<Dashboard> {
    let mut all: Vec<Dashboard> = std::fs::read_dir(source("deploy/grafana/dashboards"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let json = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{file} is no JSON: {error}"));
            Dashboard { file, json }
        })
        .collect();
    all.sort_by(|one, other| one.file.cmp(&other.file));
    all
}

impl Dashboard {
    /// Every panel but the rows, those of collapsed rows too.
    pub fn panels(&self) -> Vec<&Value> {
        let within =
            |panel: &'_ Value| panel["panels"].as_array().cloned().is_some_and(|it| !it.is_empty());
        let mut panels = Vec::new();
        for panel in self.json["panels"].as_array().unwrap() {
            if panel["type"] != "row" {
                panels.push(panel);
            } else if within(panel) {
                panels.extend(panel["panels"].as_array().unwrap());
            }
        }
        panels
    }

    /// What is asked of Prometheus.
    pub fn queries(&self) -> Vec<Query> {
        let query = |title: &Value, expr: &Value| Query {
            place: format!("{}: {}", self.file, title.as_str().unwrap()),
            promql: expr.as_str().unwrap_or_else(|| panic!("{title} has no expr")).to_owned(),
        };
        let of_panel = |panel: &&Value| {
            let targets =
                panel["targets"].as_array().unwrap_or_else(|| panic!("{panel} asks nothing"));
            targets.iter().map(|target| query(&panel["title"], &target["expr"])).collect::<Vec<_>>()
        };
        let mut queries: Vec<Query> = self.panels().iter().flat_map(of_panel).collect();
        let annotations = self.json["annotations"]["list"].as_array().unwrap();
        let ours = annotations.iter().filter(|annotation| annotation["builtIn"] != 1);
        queries.extend(
            ours.map(|annotation| query(&annotation["name"], &annotation["target"]["expr"])),
        );
        queries
    }
}

impl Query {
    /// What Prometheus is sent, with some value for each variable.
    pub fn resolved(&self) -> String {
        resolved(&self.promql)
    }
}

/// A query with some value for each variable.
pub fn resolved(promql: &str) -> String {
    let mut promql = promql.to_owned();
    for (variable, value) in
        [("$__rate_interval", "1m"), ("$__range", "1h"), ("$job", ".+"), ("$instance", ".+")]
    {
        promql = promql.replace(variable, value);
    }
    assert!(!promql.contains('$'), "a variable that nobody sets: {promql}");
    promql
}

/// The metrics that a text of PromQL names, each with the label values that it is asked for; `_bucket`, `_sum` and
/// `_count` are of the histogram.
pub fn metrics_in(promql: &str) -> BTreeMap<String, Labels> {
    let mut named: BTreeMap<String, Labels> = BTreeMap::new();
    for (name, _, rest) in words(promql) {
        if !["linxo_bridge_", "linxo_load_", "process_"].iter().any(|it| name.starts_with(it)) {
            continue;
        }
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let labels = named.entry(family.to_owned()).or_default();
        for (label, operator, value) in matchers(rest) {
            let is_open = ["job", "instance", "le"].contains(&label.as_str());
            let values = value.split('|').map(str::to_owned);
            if !is_open && (operator == "=" || operator == "=~" || operator.starts_with('!')) {
                labels.entry(label).or_default().extend(values);
            }
        }
    }
    named
}

/// The words of a text outside of strings and of braces, each with what stands before and after it.
pub fn words(promql: &str) -> Vec<(&str, &str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let (mut words, mut start, mut depth, mut in_text) = (Vec::new(), None, 0, false);
    for (at, c) in promql.char_indices().chain([(promql.len(), ' ')]) {
        if c == '"' && !promql[..at].ends_with('\\') {
            in_text = !in_text;
        }
        if in_text {
            continue;
        }
        match (start, is_word(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                if depth == 0 {
                    words.push((&promql[from..at], &promql[..from], &promql[at..]));
                }
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    words
}

/// The label matchers of a selector whose name was just read: label, operator, value.
pub fn matchers(rest: &str) -> Vec<(String, String, String)> {
    let Some(rest) = rest.strip_prefix('{') else { return Vec::new() };
    let mut matchers = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.starts_with('}') {
        let (label, after) =
            rest.split_at(rest.find(['=', '!']).expect("a matcher has an operator"));
        let (operator, after) = after.split_at(after.find('"').expect("a matcher has a value"));
        let after = &after[1..];
        let (value, after) = after.split_at(after.find('"').expect("a value ends"));
        matchers.push((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()));
        rest = after[1..].trim_start().trim_start_matches(',').trim_start();
    }
    matchers
}

/// What `/metrics` shows: each metric with the values of its labels.
pub fn shown(text: &str) -> BTreeMap<String, Labels> {
    let mut families: BTreeMap<String, Labels> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            families.entry(current.clone()).or_default();
        } else if !line.starts_with('#') {
            let family = families.get_mut(&current).unwrap();
            let name_end = line.find(['{', ' ']).unwrap();
            for (label, _, value) in matchers(&line[name_end..]) {
                family.entry(label).or_default().insert(value);
            }
        }
    }
    families
}

/// What is named and not shown, a sentence each.
pub fn unknown(place: &str, promql: &str, shown: &BTreeMap<String, Labels>) -> Vec<String> {
    let mut unknown = Vec::new();
    for (name, labels) in metrics_in(promql) {
        let Some(family) = shown.get(&name) else {
            unknown.push(format!("{place}: there is no metric {name}"));
            continue;
        };
        for (label, values) in labels {
            let there = family.get(&label);
            let strange =
                values.iter().filter(|value| !there.is_some_and(|it| it.contains(*value)));
            unknown
                .extend(strange.map(|value| format!("{place}: {name} has no {label}=\"{value}\"")));
        }
    }
    unknown
}
