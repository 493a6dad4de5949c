//! Settings that are refused, alone or together.

use super::*;

#[test]
fn what_does_not_go_together_is_refused_naming_all_keys() {
    let ground = Ground::new();
    for (more, keys, wanted) in [
        (
            "polling.keep_alive = \"14m55s\"",
            "polling.keep_alive, linxo.request_timeout, linxo.queue_lifetime",
            "below queue_lifetime",
        ),
        (
            "polling.keep_alive = \"14m30s\"",
            "polling.keep_alive, kafka.session_timeout, linxo.queue_lifetime",
            "lower keep_alive or session_timeout",
        ),
        (
            "polling.active = \"6m\"",
            "polling.active, polling.keep_alive",
            "active may not exceed keep_alive",
        ),
        (
            "polling.max_in_flight_bytes = \"15MiB\"",
            "polling.max_in_flight_bytes, linxo.max_answer",
            "at least 16MiB",
        ),
        ("journal.max_bytes = \"15MiB\"", "journal.max_bytes, linxo.max_answer", "at least 16MiB"),
        (
            "kafka.group_protocol = \"consumer\"\nkafka.session_timeout = \"45s\"",
            "kafka.session_timeout, kafka.group_protocol",
            "leave the timeout out",
        ),
        (
            "linxo.user_header = \"x-user\"\nlinxo.user_parameter = \"user\"",
            "linxo.user_header, linxo.user_parameter",
            "give the one",
        ),
        (
            "linxo.client_id = \"me\"\nlinxo.auth_url = \"https://auth\"",
            "linxo.client_id, linxo.client_secret_file",
            "name the file of the secret",
        ),
        (
            "linxo.client_secret = \"hush\"",
            "linxo.client_id, linxo.client_secret",
            "give the id too",
        ),
        (
            "linxo.client_id = \"me\"\nlinxo.client_secret = \"hush\"",
            "linxo.auth_url, linxo.client_id",
            "give the base of /token",
        ),
        (
            "admin.listen = \"192.0.2.1:80\"",
            "admin.token_file, admin.listen",
            "or listen on 127.0.0.1",
        ),
        ("topics.actions = \"linxo.events\"", "topics.actions", "names of their own"),
        ("topics.actions = \"linxo_dead-letters\"", "topics.actions", "names of their own"),
    ] {
        let faults = ground.faults(more);
        assert_eq!(faults.len(), 1, "{more}: {faults:?}");
        let (key, found, right) = &faults[0];
        assert_eq!(key, keys, "{more}");
        assert!(right.contains(wanted), "{more}: {right}");
        assert!(!found.contains("hush"), "{more}: {found}");
    }
}

#[test]
fn a_setting_with_a_fault_of_its_own_brings_no_second_one() {
    let ground = Ground::new();
    let faults = ground.faults("polling.active = \"6m\"\npolling.keep_alive = \"fast\"");
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, "polling.keep_alive");
}

#[test]
fn settings_that_are_wrong_on_their_own_are_refused() {
    let ground = Ground::new();
    for (more, key) in [
        ("linxo.auth_url = \"ftp://auth\"", "linxo.auth_url"),
        ("linxo.auth_url = \"https://auth/?x=1\"", "linxo.auth_url"),
        ("linxo.auth_url = \"https://u:hush@auth\"", "linxo.auth_url"),
        ("linxo.auth_url = \"u:hush@auth\"", "linxo.auth_url"),
        ("linxo.client_secret = 12345", "linxo.client_secret"),
        ("linxo.queue_lifetime = \"0s\"", "linxo.queue_lifetime"),
        ("linxo.dead_statuses = [200]", "linxo.dead_statuses"),
        ("linxo.dead_statuses = [401]", "linxo.dead_statuses"),
        ("linxo.dead_statuses = []", "linxo.dead_statuses"),
        ("linxo.max_requests_per_second = -1", "linxo.max_requests_per_second"),
        ("linxo.user_header = \"Authorization\"", "linxo.user_header"),
        ("linxo.user_parameter = \"a&b\"", "linxo.user_parameter"),
        ("polling.max_in_flight = 0", "polling.max_in_flight"),
        ("kafka.bootstrap_servers = \"a:9092,\"", "kafka.bootstrap_servers"),
        ("kafka.bootstrap_servers = \"a:port\"", "kafka.bootstrap_servers"),
        ("kafka.instance_id = \"\"", "kafka.instance_id"),
        ("kafka.instance_id = \"a b\"", "kafka.instance_id"),
        ("kafka.group = \"\"", "kafka.group"),
        ("kafka.session_timeout = \"500ms\"", "kafka.session_timeout"),
        ("kafka.commit_interval = \"1m\"", "kafka.commit_interval"),
        ("kafka.properties = \"hush\"", "kafka.properties"),
        ("kafka.properties = { \"sasl.password\" = [\"hush\"] }", "kafka.properties"),
        ("kafka.properties.group.id = \"g\"", "kafka.properties"),
        ("kafka.producer = { \"transactional.id\" = \"t\" }", "kafka.producer"),
        ("kafka.consumer = { \"isolation.level\" = \"read_uncommitted\" }", "kafka.consumer"),
        ("topics.partitions = 0", "topics.partitions"),
        ("topics.prefix = \"a/b\"", "topics.prefix"),
        ("topics.actions = \"linxo.{what}\"", "topics.actions"),
        ("topics.create = \"yes\"", "topics.create"),
        ("schema_registry.register = true", "schema_registry.url"),
        ("journal.directory = \"\"", "journal.directory"),
        ("records.redact = [1]", "records.redact"),
        ("admin.listen = \"localhost:8080\"", "admin.listen"),
        ("admin.token = \"hush\"", "admin.token"),
        ("service.log = \"inof\"", "service.log"),
        ("service.log_format = \"xml\"", "service.log_format"),
        ("telemetry.otlp_endpoint = \"http://user:hush@collector\"", "telemetry.otlp_endpoint"),
        ("telemetry.sample = 1.5", "telemetry.sample"),
        ("telemetry.sample = \"1%\"", "telemetry.sample"),
    ] {
        let fault = ground.fault(more);
        assert!(fault.starts_with(&format!("{key}: ")), "{more}: {fault}");
        assert!(!fault.contains("hush") && !fault.contains("12345"), "{more}: {fault}");
    }
}

#[test]
fn listening_everywhere_needs_a_token_and_a_url_for_the_others() {
    let ground = Ground::new();
    let faults = ground.faults("admin.listen = \"0.0.0.0:8080\"");
    let keys: Vec<_> = faults.iter().map(|fault| fault.0.as_str()).collect();
    assert_eq!(keys, ["admin.advertised_url", "admin.token_file, admin.listen"]);
    let token = ground.file("token", "t\n");
    let config = ground.config(&format!(
        "[admin]\nlisten = \"0.0.0.0:8080\"\nadvertised_url = \"http://b-0:8080\"\ntoken_file = {token:?}"
    ));
    assert_eq!(config.admin.token, Some(Secret::from("t")));
}
