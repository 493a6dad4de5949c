//! What a configuration comes to, and what is said about a wrong one.

mod refusals;

use std::iter;
use std::path::Path;

use tempfile::TempDir;

use super::keys::KEYS;
use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/linxo-bridge.toml");

/// A folder with a key file, and the fewest settings that load.
struct Ground {
    folder: TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { folder: tempfile::tempdir().unwrap() };
        ground.file("keys", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        ground
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The settings that are needed, and `more` behind them.
    fn text(&self, more: &str) -> String {
        let keys = self.folder.path().join("keys");
        format!(
            "linxo.api_url = \"https://api.example/v2.1\"\ncredentials.key_file = {:?}\n{more}",
            keys.to_str().unwrap()
        )
    }

    fn load(&self, more: &str, env: &[(&str, &str)]) -> Result<Config, Faults> {
        Config::from_toml(&self.text(more), variables(env))
    }

    fn config(&self, more: &str) -> Config {
        self.load(more, &[]).unwrap()
    }

    fn faults(&self, more: &str) -> Vec<(String, String, String)> {
        let faults = self.load(more, &[]).unwrap_err().0;
        faults.into_iter().map(|fault| (fault.key, fault.found, fault.wanted)).collect()
    }

    /// The one fault, as it is printed.
    fn fault(&self, more: &str) -> String {
        let faults = self.load(more, &[]).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{faults}");
        faults.0[0].to_string()
    }
}

fn variables(env: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Ground::new().config("");
    assert_eq!(config.linxo.api_url.as_str(), "https://api.example/v2.1/");
    assert_eq!(config.linxo.user_naming, UserNaming::Header("x-linxo-user-id".to_owned()));
    assert_eq!(config.linxo.max_requests_per_second, 500);
    assert_eq!(config.linxo.queue_lifetime, Duration::from_secs(900));
    assert_eq!(config.linxo.delivery, Delivery::Once);
    assert_eq!(config.linxo.dead_statuses, [404, 410]);
    assert_eq!(config.linxo.max_answer, 8 << 20);
    assert_eq!(config.polling.keep_alive, Duration::from_secs(300));
    assert_eq!(config.polling.max_in_flight, 256);
    assert_eq!(config.kafka.session_timeout, Some(Duration::from_secs(45)));
    assert_eq!(config.kafka.commit_interval, Duration::from_millis(20));
    assert_eq!(config.topics.partitions, 64);
    assert_eq!(config.schema_registry, None);
    assert_eq!(config.journal.max_bytes, 1 << 30);
    assert_eq!(config.records.redact, ["credentials", "password", "token"]);
    assert_eq!(config.admin.advertised_url.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(config.service.log_format, LogFormat::Text);
    assert_eq!((config.telemetry.otlp_endpoint, config.telemetry.sample), (None, 0.01));
}

#[test]
fn the_example_loads_and_is_the_defaults() {
    let ground = Ground::new();
    let keys = ground.folder.path().join("keys");
    let env = [("LINXO_BRIDGE__CREDENTIALS__KEY_FILE", keys.to_str().unwrap())];
    let example = Config::from_toml(EXAMPLE, variables(&env)).unwrap();
    let mut defaults = ground.config("");
    defaults.linxo.api_url = example.linxo.api_url.clone();
    assert_eq!(example, defaults);
}

#[test]
fn the_example_has_every_key() {
    let mut section = String::new();
    let mut present = Vec::new();
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((name, _)) = line.split_once(" = ")
            && !name.contains(' ')
        {
            present.push(format!("{section}.{name}"));
        }
    }
    let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    for path in &known {
        assert!(present.iter().any(|present| present == path), "{path} is not in the example");
    }
    for path in &present {
        assert!(known.contains(&path.as_str()), "{path} is in the example and not known");
    }
}

#[test]
fn every_commented_setting_of_the_example_loads_too() {
    let ground = Ground::new();
    let secret = ground.file("secret", "s3cret");
    let text: String = EXAMPLE
        .lines()
        .filter(|line| !line.contains("client_secret = ") && !line.contains("user_header = "))
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.split(' ').nth(1) == Some("=") => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let keys = ground.folder.path().join("keys");
    let env = [
        ("LINXO_BRIDGE__CREDENTIALS__KEY_FILE", keys.to_str().unwrap()),
        ("LINXO_BRIDGE__LINXO__CLIENT_SECRET_FILE", &secret),
        ("LINXO_BRIDGE__ADMIN__TOKEN_FILE", &secret),
    ];
    let config = Config::from_toml(&text, variables(&env)).unwrap();
    assert_eq!(config.linxo.user_naming, UserNaming::Parameter("user_id".to_owned()));
    assert_eq!(config.linxo.client_secret, Some(Secret::from("s3cret")));
    assert_eq!(config.admin.token, Some(Secret::from("s3cret")));
    let registry = config.schema_registry.unwrap();
    assert_eq!((registry.url.as_str(), registry.register), ("http://localhost:8081/", true));
}

#[test]
fn variables_win_over_the_file_and_have_the_type_of_their_setting() {
    let ground = Ground::new();
    let more =
        "[linxo]\ndead_statuses = [404]\nuser_parameter = \"id\"\n[topics]\npartitions = 3\n";
    // The settings that are needed come from the file, as dotted keys cannot be mixed with sections.
    let text = format!("[credentials]\nkey_file = {:?}\n{more}", ground.file("keys2", "x"));
    let env = [
        ("LINXO_BRIDGE__LINXO__API_URL", "http://localhost:1/v3"),
        ("LINXO_BRIDGE__LINXO__DEAD_STATUSES", "404, 403"),
        ("LINXO_BRIDGE__LINXO__USER_HEADER", "X-User"),
        ("LINXO_BRIDGE__TOPICS__PARTITIONS", "8"),
        ("LINXO_BRIDGE__TOPICS__CREATE", "true"),
        ("LINXO_BRIDGE__RECORDS__REDACT", "[\"a\", \"b\"]"),
        ("LINXO_BRIDGE__KAFKA__PROPERTIES", "{ \"client.id\" = \"me\", retry.backoff.ms = 5 }"),
        ("LINXO_BRIDGE__KAFKA__GROUP", "42"),
        ("LINXO_BRIDGE__SCHEMA_REGISTRY__URL", "http://registry/apis/ccompat/v7"),
        ("LINXO_BRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let config = Config::from_toml(&text, variables(&env)).unwrap();
    assert_eq!(
        config.linxo.api_url.join("queues/subscribe").unwrap().path(),
        "/v3/queues/subscribe"
    );
    assert_eq!(config.linxo.dead_statuses, [404, 403]);
    assert_eq!(config.linxo.user_naming, UserNaming::Header("x-user".to_owned()));
    assert_eq!((config.topics.partitions, config.topics.create), (8, true));
    assert_eq!(config.records.redact, ["a", "b"]);
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(format!("{properties:?}"), r#"[("client.id", "me"), ("retry.backoff.ms", "5")]"#);
    assert_eq!(config.kafka.group, "42");
    assert_eq!(config.schema_registry.unwrap().url.as_str(), "http://registry/apis/ccompat/v7/");
}

#[test]
fn all_faults_are_reported_together_in_the_order_of_the_sections() {
    let text = r#"
        [linxo]
        max_answer = 8
        quue_lifetime = "15m"
        delivery = "twice"
        [polling]
        keep_alive = "5 minutes"
        active = "10m"
        max_in_flight = "many"
        [weather]
        sun = true
        [topic]
        prefix = "x"
    "#;
    let env = [("LINXO_BRIDGE__TOPICS__PARTITIONS", "0"), ("LINXO_BRIDGE__KAFKA", "x")];
    let faults = Config::from_toml(text, variables(&env)).unwrap_err();
    let expected = r#"11 faults in the configuration:
  1. linxo.quue_lifetime: there is no such setting; did you mean linxo.queue_lifetime?
  2. topic: there is no such section; did you mean [topics]?
  3. weather: there is no such section; leave it out
  4. LINXO_BRIDGE__KAFKA: names no setting; write LINXO_BRIDGE__SECTION__KEY, with two underscores between
  5. linxo.api_url: is not given; give the base of /queues, such as "https://sandbox-api.oxlin.io/v2.1"
  6. linxo.delivery: is "twice"; must be "once" or "repeatable"
  7. linxo.max_answer: is 8; must be a size with its unit, such as "512KiB", "64MiB" or "1GiB", at least 1KiB
  8. polling.keep_alive: is "5 minutes"; must be a duration with its unit, such as "500ms", "20s", "5m" or "1h30m", above zero
  9. polling.max_in_flight: is "many"; must be a whole number from 1 to 65536
 10. topics.partitions: is 0 (from LINXO_BRIDGE__TOPICS__PARTITIONS); must be a whole number from 1 to 100000
 11. credentials.key_file: is not given; name a file with one base64 key of 32 bytes per line, newest first: credentials are sealed with them"#;
    assert_eq!(faults.to_string(), expected);
}

#[test]
fn one_fault_is_counted_as_one() {
    let faults = Ground::new().load("topics.replication = 0", &[]).unwrap_err();
    assert!(
        faults.to_string().starts_with("1 fault in the configuration:\n  1. topics.replication:")
    );
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_fault_and_hides_no_variable() {
    let env = [("LINXO_BRIDGE__TOPICS__CREATE", "perhaps")];
    let missing = Config::load(Some(Path::new("/nonexistent/bridge.toml")), variables(&env));
    let faults = missing.unwrap_err().0;
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[0].key, "/nonexistent/bridge.toml");
    assert_eq!(faults[1].key, "topics.create");

    for line in [
        "client_secret = hunter2 hunter3",
        "client_secret = \"hunter2",
        "client_secret = \"\\qhunter2\"",
        "client_secret = 'hunter2' # \u{1}hunter",
        "client_secret = \"hunter2\"\nclient_secret = \"hunter3\"",
        "client_secret hunter2",
        "client_secret = 2hunter",
    ] {
        let broken = Config::from_toml(&format!("[linxo]\n{line}\n"), iter::empty());
        let faults = broken.unwrap_err();
        assert_eq!(faults.0.len(), 1, "{faults}");
        let expected = format!("line {} of the file", line.lines().count() + 1);
        assert_eq!(faults.0[0].key, expected, "{line}: {faults}");
        assert!(!faults.to_string().contains("hunter"), "{faults}");
    }
}

#[test]
fn a_file_is_read_from_disk() {
    let ground = Ground::new();
    let file = ground.file("bridge.toml", &ground.text("kafka.group = \"g\""));
    assert_eq!(Config::load(Some(Path::new(&file)), iter::empty()).unwrap().kafka.group, "g");
}

#[test]
fn secrets_come_from_files_less_one_newline() {
    let ground = Ground::new();
    let client = "linxo.client_id = \"me\"\nlinxo.auth_url = \"https://auth\"\n";
    for (content, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), (" s \n\n", " s \n")] {
        let path = ground.file("secret", content);
        let config = ground.config(&format!("{client}linxo.client_secret_file = {path:?}"));
        assert_eq!(config.linxo.client_secret, Some(Secret::from(expected)), "{content:?}");
    }
    let path = ground.file("empty", "\n");
    let fault = ground.fault(&format!("{client}linxo.client_secret_file = {path:?}"));
    assert!(fault.contains(&format!("{path:?} is empty")), "{fault}");
    let fault = ground.fault(&format!("{client}linxo.client_secret_file = \"/nonexistent/s\""));
    assert!(fault.contains("\"/nonexistent/s\" cannot be read"), "{fault}");
    let fault = ground.fault("admin.token_file = \"/nonexistent/t\"");
    assert!(fault.starts_with("admin.token_file: \"/nonexistent/t\" cannot be read"), "{fault}");
    let path = ground.file("secret", "s");
    let both = format!("{client}linxo.client_secret = \"x\"\nlinxo.client_secret_file = {path:?}");
    let fault = ground.fault(&both);
    assert!(fault.starts_with("linxo.client_secret, linxo.client_secret_file: both"), "{fault}");
    let env = [("LINXO_BRIDGE__LINXO__CLIENT_SECRET", "y")];
    let config = ground.load(&format!("{client}linxo.client_secret_file = {path:?}"), &env);
    assert_eq!(config.unwrap().linxo.client_secret, Some(Secret::from("y")));
}

#[test]
fn an_empty_or_missing_key_file_is_a_fault() {
    let ground = Ground::new();
    ground.file("keys", "");
    assert!(ground.fault("").contains("keys\" is empty"));
    std::fs::remove_file(ground.folder.path().join("keys")).unwrap();
    assert!(ground.fault("").contains("keys\" cannot be read"));
}

#[test]
fn librdkafka_properties_may_be_nested_and_come_from_files() {
    let ground = Ground::new();
    let secret = ground.file("password", "p4ss\n");
    let config = ground.config(&format!(
        "[kafka.properties]\nsecurity.protocol = \"SASL_SSL\"\n\"sasl.password_file\" = {secret:?}\n\"socket.keepalive.enable\" = true"
    ));
    let properties: Vec<_> = config.kafka.properties.into_iter().collect();
    let expected = [
        ("sasl.password", "p4ss"),
        ("security.protocol", "SASL_SSL"),
        ("socket.keepalive.enable", "true"),
    ];
    assert_eq!(properties, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let fault = ground.fault("kafka.properties = { \"sasl.password_file\" = \"/nonexistent/p\" }");
    assert!(fault.contains("\"/nonexistent/p\", which cannot be read"), "{fault}");
}

#[test]
fn topic_names_carry_the_prefix() {
    let ground = Ground::new();
    let topics = ground.config("topics.prefix = \"test.\"").topics;
    assert_eq!(topics.subscriptions(), "test.linxo.subscriptions");
    assert_eq!(topics.dead_letters(), "test.linxo.dead-letters");
    assert_eq!(topics.action("auth-failed"), "test.linxo.actions.auth-failed");
    assert_eq!(topics.actions().len(), 5);
    let one = ground.config("topics.actions = \"linxo.actions\"").topics;
    assert_eq!(one.actions(), ["linxo.actions"]);
    assert_eq!(one.action("auth-failed"), "linxo.actions");
}

#[test]
fn what_is_shown_reads_back_as_the_same_settings_without_a_secret() {
    let ground = Ground::new();
    let token = ground.file("token", "hush-token");
    let config = ground.config(&format!(
        r#"
        linxo.auth_url = "https://auth.example"
        linxo.client_id = "me"
        linxo.client_secret = "hush-client"
        linxo.user_parameter = "user"
        linxo.delivery = "repeatable"
        linxo.dead_statuses = [404, 403]
        polling.active = "1s500ms"
        kafka.group_protocol = "consumer"
        topics.prefix = 'a_'
        schema_registry.url = "https://name:hush-registry@registry/a@b"
        service.log_format = "json"
        telemetry.otlp_endpoint = "http://collector:4318"
        telemetry.sample = 1
        admin.token_file = {token:?}
        [kafka.properties]
        "sasl.username" = "with \"quotes\" and 'more'"
        "sasl.password" = "hush-sasl"
        "ssl.key.pem" = "hush-pem"
        [kafka.consumer]
        "sasl.jaas.config" = "hush-jaas"
        "#
    ));
    let shown = config.redacted();
    let debug = format!("{config:?} {:?} {:?}", config.kafka, config.schema_registry);
    for text in [&shown, &debug] {
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("https://<redacted>@registry/a@b/"), "{text}");
    }
    assert!(shown.contains("client_secret = \"<redacted>\"\n"), "{shown}");
    assert!(shown.contains("\"sasl.password\" = \"<redacted>\""), "{shown}");

    let env = [("LINXO_BRIDGE__ADMIN__TOKEN_FILE", token.as_str())];
    let mut read_back = Config::from_toml(&shown, variables(&env)).unwrap();
    read_back.linxo.client_secret = config.linxo.client_secret.clone();
    read_back.schema_registry = config.schema_registry.clone();
    for (name, value) in &config.kafka.properties {
        if properties::is_secret(name) {
            read_back.kafka.properties.insert(name.clone(), value.clone());
        }
    }
    read_back.kafka.consumer = config.kafka.consumer.clone();
    assert!(read_back == config, "{shown}");
}
