//! The Helm chart in `deploy/helm`: what it renders is valid by Kubernetes' own schemas, keeps to the policies, and agrees
//! with itself, with the bridge and with the files it shares with the compose stack; what is wrong is refused with words.
//!
//! With default values and with `deploy/helm/ci/full-values.yaml`, which sets everything. That a cluster takes it is
//! tried by `make helm-install`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

#[path = "../support/mod.rs"]
mod support;

mod rendered;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use linxo_kafka_bridge::config::GroupProtocol;
use rendered::{
    CHART, FULL, Rendered, chart, documents, helm, items, python, said, selects, text, well,
    written,
};
use serde_json::Value;
use support::cache;

/// The oldest and the newest release of Kubernetes that the chart is for; the oldest is `kubeVersion` of `Chart.yaml`.
const RELEASES: [&str; 2] = ["1.27", "1.37"];

/// What the bridge is told in the pod, not in the file, and what holds a secret.
const OF_THE_CHART: [&str; 8] = [
    "linxo.client_secret",
    "linxo.client_secret_file",
    "kafka.instance_id",
    "journal.directory",
    "credentials.key_file",
    "admin.listen",
    "admin.advertised_url",
    "admin.token_file",
];

#[test]
fn the_linter_finds_nothing() {
    for values in [&[][..], &FULL] {
        well(helm(&[&["lint", "--strict", CHART], values].concat()));
    }
}

#[test]
fn every_object_is_valid_in_the_oldest_and_the_newest_kubernetes() {
    assert_eq!(chart("Chart.yaml")["kubeVersion"], format!(">={}.0-0", RELEASES[0]));
    let (_folder, [default, full]) = written();
    for release in RELEASES {
        let arguments = ["-m", "kubernetes_validate", "--strict", "-k", release, &default, &full];
        well(python(&arguments, ""));
    }
}

#[test]
fn the_policies_hold_but_for_those_that_are_explained() {
    const SETTINGS: &str = "deploy/helm/ci/checkov.yaml";
    let (_folder, [default, full]) = written();
    let arguments = ["-m", "checkov.main", "--config-file", SETTINGS, "-f", &default, &full];
    well(python(&arguments, ""));
    for line in fs::read_to_string(cache::source(SETTINGS)).unwrap().lines() {
        assert!(!line.contains("CKV") || line.contains(" # "), "why? {line}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_value_that_is_wrong() {
    for (setting, words) in [
        ("replicas=three", "replicas"),
        ("replicas=0", "replicas"),
        ("replica=2", "'replica' not allowed"),
        ("config.polling.keep_alive=5 minutes", "keep_alive"),
        ("config.polling.keep_alife=5m", "'keep_alife' not allowed"),
        ("config.journal.max_bytes=1G", "max_bytes"),
        ("config.linxo.dead_statuses={401}", "dead_statuses"),
        ("config.linxo.client_secret=hunter2", "'client_secret' not allowed"),
        ("config.kafka.instance_id=one", "'instance_id' not allowed"),
        ("config.schema_registry.url=http://me:hunter2@registry", "schema_registry/url"),
        ("spread.hosts=Never", "spread/hosts"),
        ("image.digest=sha256:12", "image/digest"),
        // what no schema says
        // a block that is taken away would be nothing to ask
        ("topicsJob=null", "topicsJob"),
        ("config.linxo.client_id=bridge", "without secrets.clientSecret.name"),
        ("secrets.clientSecret.name=client", "without config.linxo.client_id"),
        ("config.kafka.properties.sasl\\.password=hunter2", "\"sasl.password_file\""),
        ("config.kafka.producer.ssl\\.key\\.pem=hunter2", "\"ssl.key.pem_file\""),
        ("persistence.size=2047Mi", "twice config.journal.max_bytes"),
    ] {
        let output = helm(&["template", "linxo", CHART, "--set", setting]);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(words), "{setting}: {said}");
    }
    let both = ["secrets.clientSecret.name=client", "persistence.size=1Gi"];
    let output = helm(&["template", "linxo", CHART, "--set", both[0], "--set", both[1]]);
    let said = said(&output);
    assert!(said.contains("client_id") && said.contains("twice"), "all at once: {said}");
}

#[test]
fn the_schema_knows_every_setting_of_the_bridge() {
    let schema: Value = serde_json::from_str(
        &fs::read_to_string(cache::source(CHART).join("values.schema.json")).unwrap(),
    )
    .unwrap();
    let sections = schema["properties"]["config"]["properties"].as_object().unwrap();
    let known: BTreeSet<String> = sections
        .iter()
        .flat_map(|(section, of)| {
            let names = of["properties"].as_object().unwrap().keys();
            names.map(move |name| format!("{section}.{name}"))
        })
        .collect();

    // the example configuration has all of them, some behind "# "
    let example = fs::read_to_string(cache::source("deploy/linxo-bridge.toml")).unwrap();
    let mut section = String::new();
    let mut settings = BTreeSet::new();
    for line in example.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, _)) = line.split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !section.is_empty()
        {
            settings.insert(format!("{section}.{name}"));
        }
    }
    for own in OF_THE_CHART {
        assert!(settings.remove(own), "{own} is no setting");
    }
    assert_eq!(known, settings);
}

#[test]
fn the_bridge_takes_what_the_chart_configures() {
    let folder = tempfile::tempdir().unwrap();
    let config = Rendered::default().configuration(folder.path());
    assert_eq!(config.kafka.instance_id, "linxo-linxo-kafka-bridge-0");
    assert_eq!(config.kafka.session_timeout, Some(Duration::from_secs(45)));
    assert_eq!(config.topics.replication, 3);
    assert!(config.admin.token.is_some());

    let folder = tempfile::tempdir().unwrap();
    let config = Rendered::full().configuration(folder.path());
    assert_eq!(config.kafka.instance_id, "linxo-0");
    assert_eq!(config.kafka.group_protocol, GroupProtocol::Classic);
    assert_eq!(config.linxo.max_requests_per_second, 1200);
    assert_eq!(config.linxo.dead_statuses, [404, 410]);
    assert!(config.linxo.client_secret.is_some());
    assert_eq!(config.kafka.properties["sasl.username"], r#"a "bridge" \ of <ours>"#);
    assert_eq!(config.kafka.properties["sasl.password"], "of kafka");
    assert_eq!(config.kafka.properties["socket.timeout.ms"], "60000");
    assert_eq!(config.kafka.properties["socket.keepalive.enable"], "true");
    assert_eq!(config.kafka.consumer["fetch.max.bytes"], "52428800");
    assert!(config.schema_registry.is_some_and(|registry| !registry.register));
}

#[test]
fn a_pod_has_the_address_the_time_and_the_disk_that_its_configuration_asks_for() {
    let hasty = Rendered::of(CHART, &["--set", "config.service.drain=1s"]);
    for rendered in [Rendered::default(), Rendered::full(), hasty] {
        let folder = tempfile::tempdir().unwrap();
        let config = rendered.configuration(folder.path());
        let set = &rendered.only("StatefulSet")["spec"];
        let pod = rendered.pod();

        let headless = rendered.named("Service", &set["serviceName"]);
        assert_eq!(headless["spec"]["clusterIP"], "None");
        assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
        let address = format!(
            "http://{}.{}.{}.svc:8080/",
            config.kafka.instance_id,
            text(&set["serviceName"]),
            text(&headless["metadata"]["namespace"]),
        );
        assert_eq!(config.admin.advertised_url.as_str(), address);
        let port = &pod["containers"][0]["ports"][0];
        assert_eq!(port["containerPort"], config.admin.listen.port());
        // a bridge that waits for Kafka is alive: only /readyz may say no to it
        for (probe, path) in
            [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
        {
            let asked = &pod["containers"][0][probe]["httpGet"];
            assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &port["name"]), "{probe}");
        }

        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
        let seconds = Duration::from_secs;
        // to leave the group, to send traces, for calls under way
        assert!(grace >= config.service.grace + seconds(2 + 2 + 10), "{grace:?}");
        let asked = config.service.grace + config.service.drain.max(seconds(5)) + seconds(10);
        assert!(grace >= asked && grace <= asked + seconds(1), "{grace:?} {asked:?}");

        let probe = &pod["containers"][0]["startupProbe"];
        let patience =
            probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        let journal = 2 * config.journal.max_bytes;
        assert!(patience >= 300 && patience * (20 << 20) >= journal, "{patience} s for {journal}");
        assert!(patience == 300 || (patience - 5) * (20 << 20) < journal, "{patience} s");

        let claim = &set["volumeClaimTemplates"][0];
        let mount = items(&pod["containers"][0]["volumeMounts"])
            .find(|mount| mount["name"] == claim["metadata"]["name"])
            .unwrap();
        let mounted = folder.path().join(text(&mount["mountPath"]).trim_start_matches('/'));
        assert_eq!(config.journal.directory.parent(), Some(mounted.as_path()));
        let size =
            text(&claim["spec"]["resources"]["requests"]["storage"]).strip_suffix("Gi").unwrap();
        assert!(size.parse::<u64>().unwrap() << 30 >= 2 * config.journal.max_bytes);
    }
}

#[test]
fn objects_find_the_instances_and_nothing_else() {
    for rendered in [Rendered::default(), Rendered::full()] {
        let set = rendered.only("StatefulSet");
        let instances = &set["spec"]["template"]["metadata"]["labels"];
        let mut others: Vec<&Value> =
            rendered.all("Pod").map(|pod| &pod["metadata"]["labels"]).collect();
        others
            .extend(rendered.all("Job").map(|job| &job["spec"]["template"]["metadata"]["labels"]));
        assert!(!others.is_empty());

        let mut selectors: Vec<&Value> = vec![
            &set["spec"]["selector"]["matchLabels"],
            &rendered.only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        ];
        selectors.extend(rendered.all("Service").map(|service| &service["spec"]["selector"]));
        for constraint in items(&rendered.pod()["topologySpreadConstraints"]) {
            selectors.push(&constraint["labelSelector"]["matchLabels"]);
        }
        assert_eq!(selectors.len(), 6);
        for selector in selectors {
            assert!(selects(selector, instances), "{selector}");
            assert!(!others.iter().any(|labels| selects(selector, labels)), "{selector}");
        }

        let guarded = &rendered.policy()["spec"]["podSelector"]["matchLabels"];
        assert!(
            selects(guarded, instances) && others.iter().all(|labels| selects(guarded, labels))
        );
    }
}

#[test]
fn the_bridge_may_go_to_every_port_that_its_configuration_names() {
    let ports = |rendered: &Rendered| -> BTreeSet<u64> {
        let rules: Vec<_> = items(&rendered.policy()["spec"]["egress"]).cloned().collect();
        items(&rules[2]["ports"]).map(|port| port["port"].as_u64().unwrap()).collect()
    };
    assert_eq!(ports(&Rendered::default()), BTreeSet::from([443, 9092]));
    assert_eq!(
        ports(&Rendered::full()),
        BTreeSet::from([80, 3128, 4318, 8081, 8443, 9092, 9093, 9094])
    );
}

#[test]
fn the_topics_job_may_go_to_new_ports_while_the_old_policy_stands() {
    let rendered = Rendered::full();
    let job = rendered.only("Job");
    let own = rendered.named("NetworkPolicy", &job["metadata"]["name"]);
    let pods = &own["spec"]["podSelector"]["matchLabels"];
    assert!(selects(pods, &job["spec"]["template"]["metadata"]["labels"]));
    let set = rendered.only("StatefulSet");
    assert!(!selects(pods, &set["spec"]["template"]["metadata"]["labels"]));

    let hook = |object: &Value, of: &str| {
        text(&object["metadata"]["annotations"][format!("helm.sh/{of}")]).to_owned()
    };
    for of in ["hook", "hook-delete-policy"] {
        assert_eq!(hook(own, of), hook(job, of));
    }
    let weight = |object| hook(object, "hook-weight").parse::<i32>().unwrap();
    assert!(weight(own) < weight(job));

    // name services and what the configuration names; the other pods are nothing to it
    let rules = &rendered.policy()["spec"]["egress"];
    assert_eq!(own["spec"]["egress"], serde_json::json!([rules[0], rules[2]]));
    assert!(own["spec"]["ingress"].is_null());

    assert_eq!(Rendered::default().all("NetworkPolicy").count(), 1);
    let open = ["--set", "networkPolicy.enabled=false"];
    let open = Rendered::of(CHART, &[&FULL[..], &open].concat());
    assert_eq!((open.all("NetworkPolicy").count(), open.all("Job").count()), (0, 1));
}

#[test]
fn alerts_and_dashboards_are_those_of_the_compose_stack() {
    let rendered = Rendered::full();
    let alerts = fs::read_to_string(cache::source("deploy/prometheus/alerts.yml")).unwrap();
    assert!(alerts.contains("{{ $"), "something that Helm could take for its own");
    assert_eq!(rendered.only("PrometheusRule")["spec"], documents(&alerts)[0]);

    let mut dashboards = 0;
    for entry in fs::read_dir(cache::source("deploy/grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".json") {
            continue;
        }
        dashboards += 1;
        let shown = rendered.all("ConfigMap").find_map(|map| map["data"].get(name));
        let shown = shown.unwrap_or_else(|| panic!("{name} is in no ConfigMap"));
        assert_eq!(text(shown).trim(), fs::read_to_string(&path).unwrap().trim(), "{name}");
    }
    let labelled = rendered
        .all("ConfigMap")
        .filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1");
    assert_eq!(labelled.count(), dashboards);
    assert!(dashboards > 0);

    // Prometheus finds each instance once, under the names that the alerts go by
    let monitor = &rendered.only("ServiceMonitor")["spec"];
    let found = rendered.all("Service").filter(|service| {
        selects(&monitor["selector"]["matchLabels"], &service["metadata"]["labels"])
    });
    assert_eq!(found.count(), 1);
    let job = items(&monitor["endpoints"][0]["relabelings"])
        .find(|relabeling| relabeling["targetLabel"] == "job")
        .unwrap();
    assert!(alerts.contains(&format!("job=\"{}\"", text(&job["replacement"]))));
}

#[test]
fn links_to_the_runbook_go_where_the_values_say() {
    let url = "monitoring.runbookUrl=https://wiki.example.org/bridge";
    let rendered = Rendered::of(CHART, &[&FULL[..], &["--set", url]].concat());
    assert!(rendered.text.contains("https://wiki.example.org/bridge#"));
    assert!(!rendered.text.contains("runbook.example/"));
}

#[test]
fn the_package_renders_what_the_folder_does() {
    let folder = tempfile::tempdir().unwrap();
    well(helm(&["package", CHART, "--destination", folder.path().to_str().unwrap()]));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(chart("Chart.yaml")["appVersion"], version);
    let package = folder.path().join(format!("linxo-kafka-bridge-{version}.tgz"));
    let packaged = Rendered::of(package.to_str().unwrap(), &FULL);
    assert_eq!(packaged.text, Rendered::full().text);
}
