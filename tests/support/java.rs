//! The programs in `java/`, run by the JVM: readers that share nothing with the bridge (Kafka's own client, Avro's own
//! decoder), and what an operator's tools do to a cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::cache;

/// Where a reader finds the schema of a value.
#[derive(Clone, Copy)]
pub enum Schemas<'a> {
    /// By the fingerprint of single-object encoding, among the `.avsc` files of this folder.
    Folder(&'a Path),
    /// By the id of Confluent framing, at this registry.
    Registry(&'a str),
}

/// All committed records of a topic in the order of each partition, as objects with `partition`, `offset`,
/// `timestamp`, `key`, `headers` (object of texts), `schema` (full name), `value` (Avro's JSON encoding, in which a
/// union names its branch; null for a null value). A value that the reader cannot read fails the test.
pub async fn read_topic(bootstrap: &str, topic: &str, schemas: Schemas<'_>) -> Vec<Value> {
    let (kind, place) = match schemas {
        Schemas::Folder(path) => ("schemas", path.to_str().unwrap()),
        Schemas::Registry(url) => ("registry", url),
    };
    let lines = run("ReadTopic", &[bootstrap, topic, kind, place], String::new()).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The partition into which a Java producer puts each key.
pub async fn partitions_of(keys: &[String], partitions: i32) -> Vec<i32> {
    let lines = run("Murmur2", &[&partitions.to_string()], keys.join("\n")).await;
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

/// Has the next copy of each partition of these topics become its leader.
pub async fn move_leaders(bootstrap: &str, topics: &[String]) {
    let moved = cluster(bootstrap, "move", topics).await;
    assert!(!moved.is_empty(), "no partition has moved: {topics:?}");
}

/// What rights are about.
#[derive(Clone, Copy)]
pub enum Resource<'a> {
    /// Writing to this topic.
    Topic(&'a str),
    /// Using this transactional id.
    TransactionalId(&'a str),
}

/// Takes the right to write away from everybody, on a broker with an authorizer.
pub async fn revoke(bootstrap: &str, resource: Resource<'_>) {
    cluster(bootstrap, "revoke", &named(resource)).await;
}

/// Gives it back.
pub async fn restore(bootstrap: &str, resource: Resource<'_>) {
    cluster(bootstrap, "restore", &named(resource)).await;
}

/// The transactions that are open in these topics, as `Cluster.java` says.
pub async fn open_transactions(bootstrap: &str, topics: &[String]) -> Vec<String> {
    cluster(bootstrap, "open", topics).await
}

/// Ends them, whoever began them; what they were.
pub async fn abort_open_transactions(bootstrap: &str, topics: &[String]) -> Vec<String> {
    cluster(bootstrap, "abort", topics).await
}

fn named(resource: Resource<'_>) -> [String; 2] {
    let (kind, name) = match resource {
        Resource::Topic(name) => ("TOPIC", name),
        Resource::TransactionalId(name) => ("TRANSACTIONAL_ID", name),
    };
    [kind.to_owned(), name.to_owned()]
}

async fn cluster(bootstrap: &str, order: &str, names: &[String]) -> Vec<String> {
    let mut arguments = vec![bootstrap, order];
    arguments.extend(names.iter().map(String::as_str));
    run("Cluster", &arguments, String::new()).await.lines().map(str::to_owned).collect()
}

/// Runs a program of `java/`; what it prints.
async fn run(program: &'static str, arguments: &[&str], input: String) -> String {
    let class_path =
        format!("{}:{}/*", cache::classes().display(), cache::readers().join("libs").display());
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    spawn_blocking(move || {
        let mut child = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, program])
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java is missing: scripts/setup.sh brings it");
        let mut stdin = child.stdin.take().unwrap();
        // Small enough for the pipe and the program's buffers.
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?} failed:\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    })
    .await
    .unwrap()
}
