//! Rules, configuration and queries as Prometheus and Alertmanager read them.

use crate::support::{dashboards, prometheus, source_file};

fn content(program: &str, (is_content, said): (bool, String)) {
    assert!(is_content, "{program}:\n{said}");
}

#[test]
fn prometheus_and_alertmanager_accept_their_files() {
    for prometheus in prometheus::both() {
        let check =
            |arguments: &[&str]| content(prometheus.version, prometheus.promtool(arguments, ""));
        check(&["check", "config", "prometheus.yml"]);
        check(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"]);
    }
    let alertmanager = source_file("deploy/alertmanager/alertmanager.yml");
    content("amtool", prometheus::amtool(&["check-config", alertmanager.to_str().unwrap()]));
}

#[test]
fn every_alert_fires_and_holds_as_its_test_says() {
    for prometheus in prometheus::both() {
        let tested = prometheus.promtool(&["test", "rules", "alerts.test.yml"], "");
        content(prometheus.version, tested);
    }
}

#[test]
fn the_route_of_a_page_a_ticket_and_the_dead_mans_switch_is_its_own() {
    let config = source_file("deploy/alertmanager/alertmanager.yml");
    for severity in ["page", "ticket", "dead-man"] {
        let label = format!("severity={severity}");
        let file = format!("--config.file={}", config.display());
        let verify = format!("--verify.receivers={severity}");
        let test = ["config", "routes", "test", &file, &verify, &label];
        content("amtool", prometheus::amtool(&test));
        let wrong = test.map(|word| if word == label { "severity=other" } else { word });
        let is_ticket = severity == "ticket"; // where everything else goes
        assert_eq!(prometheus::amtool(&wrong).0, is_ticket, "amtool tells routes apart");
    }
}

#[test]
fn every_query_of_the_dashboards_is_promql() {
    // as rules, which is what promtool can check
    let mut rules = "groups:\n  - name: dashboards\n    rules:\n".to_owned();
    let mut count = 0;
    for query in dashboards::all().iter().flat_map(dashboards::Dashboard::queries) {
        let promql = query.resolved().replace('\'', "''");
        rules += &format!(
            "      # {}\n      - {{ record: query{count}, expr: '{promql}' }}\n",
            query.place
        );
        count += 1;
    }
    assert!(count > 80, "{count} queries");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    let broken = folder.path().join("broken.yml");
    std::fs::write(&file, &rules).unwrap();
    std::fs::write(&broken, format!("{rules}      - {{ record: broken, expr: 'sum(up' }}\n"))
        .unwrap();
    for prometheus in prometheus::both() {
        let check = |file: &std::path::Path| {
            prometheus.promtool(&["check", "rules", "--lint=none", file.to_str().unwrap()], "")
        };
        content(prometheus.version, check(&file));
        assert!(!check(&broken).0, "{} accepts what is no PromQL", prometheus.version);
    }
}
