//! `Dockerfile` and `docker-compose.yml`, as far as they can be judged without an engine: what linters say, and what
//! the files promise. `make compose-test` starts them.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use linxo_kafka_bridge::config::Config;
use serde_json::Value;
use support::cache;

/// Services that do their work and end.
const ONE_SHOT: [&str; 3] = ["secrets", "topics", "load"];
/// Services that are there only when they are asked for.
const PROFILES: [(&str, &str); 2] = [("load", "load"), ("topic-browser", "tools")];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A tool written in Python.
fn python(module: &str, arguments: &[&str]) -> Output {
    let mut tool = Command::new("python3");
    tool.env("PYTHONPATH", cache::checks()).args(["-m", module]).args(arguments);
    tool.current_dir(cache::source("")).output().unwrap()
}

/// Compose on a file, without an engine; `settings` are the variables that the user has set.
fn compose(file: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut compose = Command::new(cache::checks().join("compose/docker-compose"));
    compose.env_clear().env("DOCKER_HOST", "unix:///nowhere").env("HOME", "/nowhere");
    compose.envs(settings.iter().copied()).arg("-f").arg(file).args(arguments);
    compose.current_dir(cache::source("")).output().unwrap()
}

/// What Compose makes of our file, all profiles included.
fn resolved(settings: &[(&str, &str)]) -> Value {
    let file = cache::source("docker-compose.yml");
    let arguments = ["--profile", "load", "--profile", "tools", "config", "--format", "json"];
    let output = compose(&file, settings, &arguments);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a service has that it should not have, or the other way round.
fn faults_of(name: &str, service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{name}: {what}"));
        }
    };
    let image = service["image"].as_str().unwrap_or_default();
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    must(tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'), "the image has no version");
    must(service["read_only"] == true, "its files can be written");
    must(service["cap_drop"] == serde_json::json!(["ALL"]), "it keeps capabilities");
    must(service["cap_add"].is_null() && service["privileged"].is_null(), "it has privileges");
    let options = service["security_opt"].as_array();
    let is_confined = options.is_some_and(|it| it.contains(&"no-new-privileges:true".into()));
    must(is_confined, "it may gain privileges");
    must(service["user"].as_str().is_none_or(|user| !user.starts_with('0')), "it runs as root");
    for limit in ["cpus", "memory", "pids"] {
        must(!service["deploy"]["resources"]["limits"][limit].is_null(), "a limit is missing");
    }
    must(service["logging"]["options"]["max-size"].is_string(), "its log grows without bound");
    for port in service["ports"].as_array().into_iter().flatten() {
        must(port["host_ip"] == "127.0.0.1", "a port is open to others");
    }
    let is_checked = service["healthcheck"]["test"].is_array();
    must(is_checked != ONE_SHOT.contains(&name), "who stays has a health check, who ends has none");
    let restart = if ONE_SHOT.contains(&name) { "no" } else { "unless-stopped" };
    must(service["restart"] == restart, "who stays is started again, who ends is not");
    faults
}

#[test]
fn compose_understands_the_file_and_every_service_is_confined_limited_and_checked() {
    let whole = resolved(&[]);
    let services = whole["services"].as_object().unwrap();
    let faults: Vec<String> =
        services.iter().flat_map(|(name, service)| faults_of(name, service)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    for (name, service) in services {
        let profile = PROFILES.iter().find(|(of, _)| of == name).map(|(_, profile)| *profile);
        let given: Vec<&str> = service["profiles"]
            .as_array()
            .map(|them| them.iter().map(|it| it.as_str().unwrap()).collect())
            .unwrap_or_default();
        assert_eq!(given, Vec::from_iter(profile), "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap();
            assert!(
                volume["type"] == "volume" || Path::new(source).exists(),
                "{name}: {source} is missing"
            );
        }
    }
    assert!(services.len() > 10);
    // whatever the rules are for is found when it is there
    let bare = serde_json::json!({"image": "kafka:latest", "user": "0", "ports": [{"host_ip": "0.0.0.0"}]});
    assert_eq!(faults_of("kafka", &bare).len(), 12);
}

#[test]
fn what_the_file_sets_is_a_configuration_and_the_users_linxo_counts() {
    let folder = tempfile::tempdir().unwrap();
    linxo_kafka_bridge::credential::create_secrets(folder.path(), None).unwrap();
    let example = fs::read_to_string(cache::source("deploy/linxo-bridge.toml")).unwrap();
    let real = [
        ("LINXO_BRIDGE__LINXO__API_URL", "https://api.example.org/v2.1"),
        ("LINXO_BRIDGE__LINXO__AUTH_URL", "https://auth.example.org"),
        ("LINXO_BRIDGE__LINXO__CLIENT_ID", "ours"),
        ("LINXO_BRIDGE__POLLING__KEEP_ALIVE", "5m"),
    ];
    let told = fs::read_to_string(cache::source("docs/compose.md")).unwrap();
    assert!(real.iter().all(|(name, _)| told.contains(&format!("\n{name}="))));
    assert!(told.contains("\nLINXO_BRIDGE__POLLING__KEEP_ALIVE=5m\n"));
    for settings in [&[][..], &real[..]] {
        let whole = resolved(settings);
        let mut instances = BTreeMap::new();
        for name in ["bridge-0", "bridge-1", "topics", "load"] {
            let given = whole["services"][name]["environment"].as_object().unwrap();
            let given = given.iter().map(|(key, value)| {
                let secrets = folder.path().to_str().unwrap();
                let value = value.as_str().unwrap().replace("/run/linxo-bridge", secrets);
                (key.clone(), value)
            });
            let config = Config::from_toml(&example, given).unwrap();
            let client = config.linxo.client_id.as_deref();
            let asked = (config.linxo.api_url.host_str().unwrap(), client.unwrap());
            let wanted = if settings.is_empty() {
                ("simulator", "simulated-client")
            } else {
                ("api.example.org", "ours")
            };
            assert_eq!(asked, wanted);
            let pace = if settings.is_empty() { 30 } else { 300 };
            assert_eq!(config.polling.keep_alive, Duration::from_secs(pace));
            instances.insert(name, (config.kafka.instance_id, config.admin.advertised_url));
        }
        assert_ne!(instances["bridge-0"], instances["bridge-1"]);
        assert_eq!(instances["bridge-1"].1.as_str(), "http://bridge-1:8080/");
    }
}

#[test]
fn grafana_keeps_the_data_source_that_its_panels_ask() {
    let whole = resolved(&[]);
    let given = &whole["services"]["grafana"]["environment"];
    // else an installer removes it, and cannot write another
    assert_eq!(given["GF_PLUGINS_PREINSTALL_DISABLED"], "true");
    let left_out = given["GF_PLUGINS_DISABLE_PLUGINS"].as_str().unwrap();
    let left_out: Vec<&str> = left_out.split(',').collect();
    assert!(left_out.len() > 10 && left_out.iter().all(|name| !name.contains(' ')));
    assert!(!left_out.contains(&"prometheus"));
}

#[test]
fn kafka_logs_to_the_console_alone_and_can_load_what_it_unpacks() {
    let whole = resolved(&[]);
    let kafka = &whole["services"]["kafka"];
    assert!(!kafka["environment"]["EXTRA_ARGS"].as_str().unwrap().contains("-loggc"));
    let mounted = serde_json::json!([
        {"source": "kafka-log", "target": "/mnt/shared/config/log4j2.yaml"}
    ]);
    assert_eq!(kafka["configs"], mounted);
    let log = fs::read_to_string(whole["configs"]["kafka-log"]["file"].as_str().unwrap()).unwrap();
    assert!(log.contains("Console:") && !log.contains("File"));
    for name in ["kafka", "topic-browser"] {
        let folders = whole["services"][name]["tmpfs"].as_array().unwrap();
        let scratch =
            folders.iter().map(|it| it.as_str().unwrap()).find(|it| it.starts_with("/tmp:"));
        assert!(scratch.unwrap().split(',').any(|option| option == "exec"), "{name}");
    }
}

#[test]
fn linters_find_nothing_in_the_compose_file_and_something_in_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("docker-compose.yml");
    fs::write(&bad, "services:\n  a: {image: kafka, privileged: true, dependz_on: [b]}\n").unwrap();
    let output = compose(&bad, &[], &["config", "-q"]);
    assert!(!output.status.success() && text(&output).contains("dependz_on"), "{}", text(&output));
    fs::write(&bad, "services:\n  a: {image: kafka, privileged: true}\n").unwrap();
    let output = python("compose_lint", &[bad.to_str().unwrap()]);
    assert!(!output.status.success() && text(&output).contains("privileged"), "{}", text(&output));

    let strict = ["check", "--strict-config", "--fail-on", "low", "docker-compose.yml"];
    let output = python("compose_lint", &strict);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn yaml_is_written_in_one_style() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yml");
    fs::write(&bad, "a: 1\na: 2\n").unwrap();
    let output = python("yamllint", &["-s", bad.to_str().unwrap()]);
    assert!(!output.status.success() && text(&output).contains("duplication"), "{}", text(&output));
    let ours = ["-s", "docker-compose.yml", ".compose-lint.yml", ".yamllint", "deploy", "tests"];
    let output = python("yamllint", &ours);
    assert!(output.status.success(), "{}", text(&output));
}

/// A tool that is a program, on a file.
fn look(tool: &str, file: &Path) -> Output {
    Command::new(cache::checks().join("bin").join(tool)).arg(file).output().unwrap()
}

#[test]
fn scripts_have_no_slip_of_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.sh");
    fs::write(&bad, "#!/bin/sh\nrm -r $1\n").unwrap();
    let output = look("shellcheck", &bad);
    assert!(!output.status.success() && text(&output).contains("SC2086"), "{}", text(&output));
    let scripts =
        ["scripts/setup.sh", "scripts/compose-test.sh", "tests/compose/kafka.sh", ".ci/run"];
    for script in scripts {
        let output = look("shellcheck", &cache::source(script));
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn dockerfiles_are_sound_and_the_image_has_the_programs_version() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("Dockerfile");
    fs::write(&bad, "FROM debian:latest\nRUN cd /tmp\n").unwrap();
    let output = look("hadolint", &bad);
    assert!(!output.status.success() && text(&output).contains("DL3007"), "{}", text(&output));
    let files =
        ["Dockerfile", "tests/compose/stand-ins.Dockerfile", "tests/compose/rust.Dockerfile"];
    for file in files {
        let output = look("hadolint", &cache::source(file));
        assert!(output.status.success(), "{}", text(&output));
    }

    let wanted = format!("linxo-kafka-bridge:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(resolved(&[])["services"]["bridge-0"]["image"], wanted);
}
